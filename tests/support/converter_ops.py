"""What TFLiteConverter 2.21 runs in int8, operator by operator.

`PYTHONPATH=tests python -m support.converter_ops` measures it anew.

Each row is a function that the converter turns into the operator of its name, among others.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_converters import flatbuffer

X = (2, 4, 6, 8)
IMAGE, PAIR = ((1, *X[1:]),), (X, X)
BOTH = [[0, 0], [1, 1], [1, 1], [0, 0]]


@dataclass(frozen=True)
class Row:
    """A function of float tensors of `shapes` with values in [low, high]."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = (X,)
    low: float = -2.0
    high: float = 2.0


def _weights(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(shape).normal(size=shape).astype(np.float32))


def table() -> dict[str, Row]:
    """Operator -> the function that becomes it. All outputs are used: the converter may leave out others."""
    m, nn, image = tf.math, tf.nn, tf.compat.v1.image
    return {
        "ABS": Row(m.abs),
        "ADD": Row(m.add, PAIR),
        "ADD_N": Row(lambda *x: m.add_n(x), (X, X, X)),
        "ARG_MAX": Row(lambda x: m.argmax(x, -1)),
        "ARG_MIN": Row(lambda x: m.argmin(x, -1)),
        "ATAN2": Row(m.atan2, PAIR),
        "AVERAGE_POOL_2D": Row(lambda x: nn.avg_pool2d(x, 2, 2, "VALID")),
        "BATCH_MATMUL": Row(tf.matmul, ((2, 4, 6), (2, 6, 5))),
        "BATCH_TO_SPACE_ND": Row(lambda x: tf.batch_to_space(x, [2, 1], [[0, 0], [0, 0]])),
        "BROADCAST_TO": Row(lambda x: tf.broadcast_to(x, (3, 4, 6, 8)), IMAGE),
        "BUCKETIZE": Row(lambda x: tf.raw_ops.Bucketize(input=x, boundaries=[-0.5, 0.5])),
        "CAST": Row(lambda x: tf.cast(x, tf.int32)),
        "CEIL": Row(m.ceil),
        "CONCATENATION": Row(lambda *x: tf.concat(x, -1), PAIR),
        "CONV_2D": Row(lambda x: nn.conv2d(x, _weights(3, 3, 8, 5), 1, "SAME")),
        "CONV_3D": Row(lambda x: nn.conv3d(x, _weights(2, 2, 2, 3, 5), [1] * 5, "SAME"), ((1, 4, 5, 6, 3),)),
        "COS": Row(m.cos),
        "CUMSUM": Row(lambda x: m.cumsum(x, 1)),
        "DEPTHWISE_CONV_2D": Row(lambda x: nn.depthwise_conv2d(x, _weights(3, 3, 8, 1), [1] * 4, "SAME")),
        "DEPTH_TO_SPACE": Row(lambda x: nn.depth_to_space(x, 2)),
        "DIV": Row(m.divide, PAIR, low=0.5),
        "ELU": Row(nn.elu),
        "EQUAL": Row(m.equal, PAIR),
        "EXP": Row(m.exp),
        "FILL": Row(lambda x: tf.fill([2, 3], m.reduce_max(x))),
        "FLOOR": Row(m.floor),
        "FLOOR_DIV": Row(m.floordiv, PAIR, low=0.5, high=4.0),
        "FLOOR_MOD": Row(m.floormod, PAIR, low=0.5, high=4.0),
        "FULLY_CONNECTED": Row(lambda x: x @ _weights(6, 5), ((4, 6),)),
        "GATHER": Row(lambda x: tf.gather(x, [0, 2], axis=1)),
        "GATHER_ND": Row(lambda x: tf.gather_nd(x, [[0, 1], [1, 2]])),
        "GELU": Row(lambda x: nn.gelu(x, approximate=False)),
        "GREATER": Row(m.greater, PAIR),
        "GREATER_EQUAL": Row(m.greater_equal, PAIR),
        "HARD_SWISH": Row(lambda x: x * nn.relu6(x + 3) * (1 / 6)),
        "L2_NORMALIZATION": Row(lambda x: nn.l2_normalize(x, -1), ((4, 6),)),
        "LEAKY_RELU": Row(lambda x: nn.leaky_relu(x, 0.2)),
        "LESS": Row(m.less, PAIR),
        "LESS_EQUAL": Row(m.less_equal, PAIR),
        "LOCAL_RESPONSE_NORMALIZATION": Row(nn.local_response_normalization),
        "LOG": Row(m.log, low=0.1),
        "LOGISTIC": Row(m.sigmoid),
        "LOG_SOFTMAX": Row(nn.log_softmax),
        "MATRIX_DIAG": Row(tf.linalg.diag, ((3, 4),)),
        "MATRIX_SET_DIAG": Row(tf.linalg.set_diag, ((3, 4, 4), (3, 4))),
        "MAXIMUM": Row(m.maximum, PAIR),
        "MAX_POOL_2D": Row(lambda x: nn.max_pool2d(x, 2, 2, "VALID")),
        "MEAN": Row(lambda x: m.reduce_mean(x, [1, 2])),
        "MINIMUM": Row(m.minimum, PAIR),
        "MIRROR_PAD": Row(lambda x: tf.pad(x, BOTH, "REFLECT")),
        "MUL": Row(m.multiply, PAIR),
        "NEG": Row(m.negative),
        "NOT_EQUAL": Row(m.not_equal, PAIR),
        "ONE_HOT": Row(lambda x: tf.one_hot(m.argmax(x, -1), 5)),
        "PACK": Row(lambda *x: tf.stack(x, 1), PAIR),
        "PAD": Row(lambda x: tf.pad(x, BOTH)),
        "PADV2": Row(lambda x: tf.pad(x, BOTH, constant_values=1.0)),
        "POW": Row(m.pow, PAIR, low=0.5),
        "REDUCE_MAX": Row(lambda x: m.reduce_max(x, [1, 2])),
        "REDUCE_MIN": Row(lambda x: m.reduce_min(x, [1, 2])),
        "REDUCE_PROD": Row(lambda x: m.reduce_prod(x, [1]), low=0.5),
        "RELU": Row(nn.relu),
        "RELU6": Row(nn.relu6, high=8.0),
        "RELU_0_TO_1": Row(lambda x: m.maximum(0.0, m.minimum(x, 1.0))),
        "RELU_N1_TO_1": Row(lambda x: m.maximum(-1.0, m.minimum(x, 1.0))),
        "RESHAPE": Row(lambda x: tf.reshape(x, (2, -1))),
        "RESIZE_BILINEAR": Row(lambda x: image.resize_bilinear(x, (8, 12))),
        "RESIZE_NEAREST_NEIGHBOR": Row(lambda x: image.resize_nearest_neighbor(x, (8, 12))),
        "REVERSE_SEQUENCE": Row(lambda x: tf.reverse_sequence(x, [2, 3], 1, 0)),
        "REVERSE_V2": Row(lambda x: tf.reverse(x, [1])),
        "ROUND": Row(m.round),
        "RSQRT": Row(m.rsqrt, low=0.2),
        "SCATTER_ND": Row(lambda x: tf.scatter_nd([[0], [2]], x, (4, 5)), ((2, 5),)),
        "SEGMENT_SUM": Row(lambda x: m.segment_sum(x, [0, 0, 1, 1]), ((4, 5),)),
        "SELECT": Row(lambda x, y: tf.raw_ops.Select(condition=x > 0.5, x=x, y=y), PAIR),
        "SELECT_V2": Row(lambda x, y: tf.where(x > 0.5, x, y), (X, (8,))),
        "SIGN": Row(m.sign),
        "SIN": Row(m.sin),
        "SLICE": Row(lambda x: tf.slice(x, [0, 1, 0, 0], [2, 2, 6, 8])),
        "SOFTMAX": Row(nn.softmax),
        "SPACE_TO_BATCH_ND": Row(lambda x: tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]])),
        "SPACE_TO_DEPTH": Row(lambda x: nn.space_to_depth(x, 2)),
        "SPARSE_TO_DENSE": Row(_sparse_to_dense, ((2,),)),
        "SPLIT": Row(lambda x: tf.concat(tf.split(x, 2, axis=1)[::-1], 1)),
        "SPLIT_V": Row(lambda x: tf.concat(tf.split(x, [1, 3], axis=1)[::-1], 1)),
        "SQRT": Row(m.sqrt, low=0.1),
        "SQUARE": Row(m.square),
        "SQUARED_DIFFERENCE": Row(m.squared_difference, PAIR),
        "STRIDED_SLICE": Row(lambda x: x[:, ::2]),
        "SUB": Row(m.subtract, PAIR),
        "SUM": Row(lambda x: m.reduce_sum(x, [1, 2])),
        "TANH": Row(m.tanh),
        "TILE": Row(lambda x: tf.tile(x, [1, 2, 1, 1])),
        "TOPK_V2": Row(lambda x: m.top_k(x, 3)[0]),
        "TRANSPOSE": Row(lambda x: tf.transpose(x, [0, 3, 1, 2])),
        "TRANSPOSE_CONV": Row(lambda x: nn.conv2d_transpose(x, _weights(3, 3, 5, 8), (2, 8, 12, 5), 2, "SAME")),
        "UNPACK": Row(lambda x: tf.stack(tf.unstack(x, axis=1)[::-1], 1)),
        "UNSORTED_SEGMENT_MAX": Row(lambda x: m.unsorted_segment_max(x, [0, 0, 1, 1], 2), ((4, 5),)),
        "ZEROS_LIKE": Row(lambda x: tf.where(x > 0.5, tf.zeros_like(x), x)),
    }


def _sparse_to_dense(values: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.SparseToDense(
        sparse_indices=[[0, 1], [2, 0]], output_shape=[3, 4], sparse_values=values, default_value=0.0
    )


def converted(codes: Sequence[str]) -> bytes:
    """The int8 file of the functions of `codes`."""
    rows = [table()[code] for code in codes]
    given = [(shape, row) for row in rows for shape in row.shapes]
    specs = [tf.TensorSpec(shape, tf.float32, f"x{i}") for i, (shape, _) in enumerate(given)]

    @tf.function(input_signature=specs)
    def run(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        left = list(inputs)
        return {code: row.call(*[left.pop(0) for _ in row.shapes]) for code, row in zip(codes, rows, strict=True)}

    rng, module = np.random.default_rng(1), tf.Module()
    module.run = run
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=run.get_concrete_function())
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.representative_dataset = lambda: (
            {f"x{i}": rng.uniform(row.low, row.high, shape).astype(np.float32) for i, (shape, row) in enumerate(given)}
            for _ in range(8)
        )
        return bytes(converter.convert())


def integer_ops(content: bytes) -> set[str]:
    """The operators that compute on int8 alone, conversions aside."""
    main = flatbuffer.read(content).main
    types = [(op.label, {main.tensors[t].dtype for t in (*op.inputs, *op.outputs) if t >= 0}) for op in main.ops]
    found = {label for label, dtypes in types if "int8" in dtypes and "float32" not in dtypes}
    return found - {"QUANTIZE", "DEQUANTIZE"}


def measured(codes: Sequence[str]) -> set[str]:
    """`integer_ops` of `codes`, each half alone where the converter fails; in child processes, as it may die."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", __file__, *codes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return set(done.stdout.strip().splitlines()[-1].split())
    half = len(codes) // 2
    return measured(codes[:half]) | measured(codes[half:]) if half else set()


if __name__ == "__main__":
    given = sys.argv[1:]
    print(" ".join(sorted(integer_ops(converted(given)) if given else measured(list(table())))))
