"""Float arithmetic of every operator: (options, inputs) -> output, or a list of outputs. One row per operator."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfq_converters.graph import NUMPY_TYPES, Op
from tfq_converters.operators import ACTIVATIONS, Activation, facts_of, fused_activation, padding_of

Values = Sequence[Any]
Function = Callable[[Any, Op, Values], Any]  # (tensorflow, operator, inputs)

FUSED: Mapping[Activation, tuple[float, float]] = {
    "NONE": (-np.inf, np.inf),
    **{name: clamps for name in ACTIVATIONS if (clamps := facts_of(name).clamps) is not None},
}


def fused(tf: Any, op: Op, values: Any) -> Any:
    """Return the operator's fused activation."""
    kind = fused_activation(op)
    if kind == "NONE":
        return values
    if kind == "TANH":
        return tf.tanh(values)
    low, high = FUSED[kind]
    return tf.clip_by_value(values, low, high)


def _plain(function: str, count: int = 1) -> Function:
    """Return a function of TensorFlow of the first `count` inputs, by its name."""

    def applied(tf: Any, op: Op, x: Values) -> Any:
        module = tf
        for name in function.split("."):
            module = getattr(module, name)
        return module(*x[:count])

    return applied


def _binary(function: str) -> Function:
    plain = _plain(function, 2)

    def applied(tf: Any, op: Op, x: Values) -> Any:
        return fused(tf, op, plain(tf, op, x))

    return applied


def _reduction(function: str) -> Function:
    def applied(tf: Any, op: Op, x: Values) -> Any:
        return getattr(tf, function)(x[0], axis=x[1], keepdims=bool(op.option("keepDims")))

    return applied


def _pool(function: str) -> Function:
    def applied(tf: Any, op: Op, x: Values) -> Any:
        window = (op.option("filterHeight"), op.option("filterWidth"))
        strides = (op.option("strideH"), op.option("strideW"))
        return fused(tf, op, getattr(tf.nn, function)(x[0], window, strides, padding_of(op)))

    return applied


def _strided_slice(tf: Any, op: Op, x: Values) -> Any:
    masks = {
        "begin_mask": "beginMask",
        "end_mask": "endMask",
        "ellipsis_mask": "ellipsisMask",
        "new_axis_mask": "newAxisMask",
        "shrink_axis_mask": "shrinkAxisMask",
    }
    return tf.strided_slice(*x[:4], **{name: op.option(field) or 0 for name, field in masks.items()})


def _resize(method: str) -> Function:
    def applied(tf: Any, op: Op, x: Values) -> Any:
        raw = tf.raw_ops.ResizeBilinear if method == "bilinear" else tf.raw_ops.ResizeNearestNeighbor
        return raw(
            images=x[0],
            size=x[1],
            align_corners=bool(op.option("alignCorners")),
            half_pixel_centers=bool(op.option("halfPixelCenters")),
        )

    return applied


def _arg(function: str) -> Function:
    def applied(tf: Any, op: Op, x: Values) -> Any:
        wide = op.option("outputType") == 4  # INT64 of the schema
        return getattr(tf, function)(x[0], axis=x[1], output_type=tf.int64 if wide else tf.int32)

    return applied


def _squeeze(tf: Any, op: Op, x: Values) -> Any:
    axes = op.option("squeezeDims")
    return tf.squeeze(x[0], None if axes is None or not len(axes) else [int(axis) for axis in axes])


OPERATORS: Mapping[str, Function] = {
    "ADD": _binary("add"),
    "SUB": _binary("subtract"),
    "MUL": _binary("multiply"),
    "DIV": _binary("divide"),
    "MAXIMUM": _binary("maximum"),
    "MINIMUM": _binary("minimum"),
    "POW": _binary("pow"),
    "SQUARED_DIFFERENCE": _binary("math.squared_difference"),
    "FLOOR_DIV": _binary("math.floordiv"),
    "FLOOR_MOD": _binary("math.floormod"),
    "EQUAL": _binary("equal"),
    "NOT_EQUAL": _binary("not_equal"),
    "LESS": _binary("less"),
    "LESS_EQUAL": _binary("less_equal"),
    "GREATER": _binary("greater"),
    "GREATER_EQUAL": _binary("greater_equal"),
    "LOGICAL_AND": _binary("logical_and"),
    "LOGICAL_OR": _binary("logical_or"),
    "LOGICAL_NOT": _plain("logical_not"),
    "ADD_N": lambda tf, op, x: tf.add_n(list(x)),
    "ABS": _plain("abs"),
    "NEG": _plain("negative"),
    "SQUARE": _plain("square"),
    "EXP": _plain("exp"),
    "LOG": _plain("math.log"),
    "SQRT": _plain("sqrt"),
    "RSQRT": _plain("math.rsqrt"),
    "SIN": _plain("sin"),
    "COS": _plain("cos"),
    "FLOOR": _plain("floor"),
    "CEIL": _plain("math.ceil"),
    "ROUND": _plain("round"),
    "SIGN": _plain("sign"),
    "TANH": _plain("tanh"),
    "LOGISTIC": _plain("sigmoid"),
    "ELU": _plain("nn.elu"),
    "RELU": _plain("nn.relu"),
    "RELU6": _plain("nn.relu6"),
    "RELU_N1_TO_1": lambda tf, op, x: tf.clip_by_value(x[0], -1.0, 1.0),
    "RELU_0_TO_1": lambda tf, op, x: tf.clip_by_value(x[0], 0.0, 1.0),
    "LEAKY_RELU": lambda tf, op, x: tf.nn.leaky_relu(x[0], op.option("alpha")),
    "PRELU": lambda tf, op, x: tf.where(x[0] >= 0, x[0], x[0] * x[1]),
    "HARD_SWISH": lambda tf, op, x: x[0] * tf.nn.relu6(x[0] + 3.0) / 6.0,
    "GELU": lambda tf, op, x: tf.nn.gelu(x[0], bool(op.option("approximate"))),
    "SOFTMAX": lambda tf, op, x: tf.nn.softmax(x[0] * op.option("beta")),
    "LOG_SOFTMAX": _plain("nn.log_softmax"),
    "L2_NORMALIZATION": lambda tf, op, x: tf.math.l2_normalize(x[0], -1),
    "MEAN": _reduction("reduce_mean"),
    "SUM": _reduction("reduce_sum"),
    "REDUCE_MAX": _reduction("reduce_max"),
    "REDUCE_MIN": _reduction("reduce_min"),
    "REDUCE_PROD": _reduction("reduce_prod"),
    "REDUCE_ALL": _reduction("reduce_all"),
    "REDUCE_ANY": _reduction("reduce_any"),
    "CUMSUM": lambda tf, op, x: tf.cumsum(x[0], x[1], bool(op.option("exclusive")), bool(op.option("reverse"))),
    "ARG_MAX": _arg("argmax"),
    "ARG_MIN": _arg("argmin"),
    "AVERAGE_POOL_2D": _pool("avg_pool2d"),
    "MAX_POOL_2D": _pool("max_pool2d"),
    "RESIZE_BILINEAR": _resize("bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
    "RESHAPE": _plain("reshape", 2),
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": lambda tf, op, x: tf.expand_dims(x[0], tf.reshape(x[1], [])),
    "TRANSPOSE": _plain("transpose", 2),
    "CONCATENATION": lambda tf, op, x: fused(tf, op, tf.concat(list(x), op.option("axis"))),
    "PACK": lambda tf, op, x: tf.stack(list(x), op.option("axis")),
    "UNPACK": lambda tf, op, x: tf.unstack(x[0], op.option("num"), op.option("axis")),
    "SPLIT": lambda tf, op, x: tf.split(x[1], op.option("numSplits"), tf.reshape(x[0], [])),
    "SPLIT_V": lambda tf, op, x: tf.split(x[0], x[1], tf.reshape(x[2], []), num=op.option("numSplits")),
    "SLICE": _plain("slice", 3),
    "STRIDED_SLICE": _strided_slice,
    "GATHER": lambda tf, op, x: tf.gather(x[0], x[1], axis=op.option("axis"), batch_dims=op.option("batchDims") or 0),
    "GATHER_ND": _plain("gather_nd", 2),
    "EMBEDDING_LOOKUP": lambda tf, op, x: tf.gather(x[1], x[0]),
    "PAD": _plain("pad", 2),
    "PADV2": lambda tf, op, x: tf.pad(x[0], x[1], constant_values=tf.reshape(x[2], [])),
    "MIRROR_PAD": lambda tf, op, x: tf.pad(x[0], x[1], ("REFLECT", "SYMMETRIC")[op.option("mode")]),
    "TILE": _plain("tile", 2),
    "BROADCAST_TO": _plain("broadcast_to", 2),
    "REVERSE_V2": _plain("reverse", 2),
    "DEPTH_TO_SPACE": lambda tf, op, x: tf.nn.depth_to_space(x[0], op.option("blockSize")),
    "SPACE_TO_DEPTH": lambda tf, op, x: tf.nn.space_to_depth(x[0], op.option("blockSize")),
    "BATCH_TO_SPACE_ND": _plain("batch_to_space", 3),
    "SPACE_TO_BATCH_ND": _plain("space_to_batch", 3),
    "SELECT": _plain("where", 3),
    "SELECT_V2": _plain("where", 3),
    "SHAPE": _plain("shape"),
    "RANGE": _plain("range", 3),
    "FILL": _plain("fill", 2),
    "ZEROS_LIKE": _plain("zeros_like"),
    "ONE_HOT": lambda tf, op, x: tf.one_hot(x[0], tf.reshape(x[1], []), x[2], x[3], axis=op.option("axis")),
    "DYNAMIC_UPDATE_SLICE": lambda tf, op, x: _updated(tf, x),
}


def _updated(tf: Any, x: Values) -> Any:
    """Return x[0] with x[1] written at the start indices x[2]."""
    shape, size = tf.shape(x[0]), tf.shape(x[1])
    start = tf.clip_by_value(tf.cast(x[2], tf.int32), 0, shape - size)
    after = shape - size - start
    padding = tf.stack([start, after], axis=1)
    inside = tf.pad(tf.ones(size, tf.bool), padding)
    return tf.where(inside, tf.pad(x[1], padding), x[0])


def cast(tf: Any, values: Any, dtype: str) -> Any:
    """Compute CAST; to whole numbers by cutting, as C does."""
    return tf.cast(values, NUMPY_TYPES[dtype])
