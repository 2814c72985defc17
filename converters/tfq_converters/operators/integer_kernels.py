"""The operators that have integer kernels, and the constraints of these kernels on scales.

Every row was measured with `ai_edge_litert` 2.3 on x86-64: random codes and scales against the float operator on the
dequantized inputs, on the default (XNNPACK), optimized and reference kernels (`test_op_table` repeats it).
An answer is within one step of the exact one, or of what `kernels.arithmetic` computes for operators with tables.
An operator without a row, or with False for a type, has no kernel for it or a wrong one: it stays float.

A file carries the larger of the float operator's version and the row's: options such as `keepNumDims` or a rank above
four ask for versions of their own, which the float file already has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tfq_converters.quantized import ActivationEncoding

Scales = Literal["free", "same", "fixed"]
Pair = tuple[float, int]  # scale, zero point


@dataclass(frozen=True)
class KernelRow:
    """The facts about the integer kernels of one operator."""

    scales: Scales = "free"  # "free": each tensor its own; "same": inputs and outputs share one; "fixed": `fixed`
    same: tuple[int, ...] | None = None  # the input slots that share the outputs' scale; None: all that hold data
    fixed: Mapping[str, Pair] = field(default_factory=dict)  # type -> scale and zero point of the outputs
    outputs: tuple[int, ...] | None = None  # slots of outputs that are activations; None: all
    other_output: str = "int32"  # type of the other outputs (comparisons: bool)
    int8: bool = True
    int16: bool = True
    version_int8: int = 1
    version_int16: int = 1
    wrong_on: tuple[str, ...] = ()  # kernels that lack the operator, or silently compute something else
    max_rank: int | None = None  # the rank of the first data input
    reference_row: int | None = None  # longest last axis on the reference kernels, which abort the process beyond it
    int8_scale: tuple[float, float] | None = None  # the scales that int8 inputs may have: low <= scale < high
    int8_zero_point: int | None = None  # the one zero point that int8 tensors may have
    min_rescale: Mapping[str, float] = field(default_factory=dict)  # type -> least scale(0) / (scale(1) * scale(out))
    least_int16: float | None = None  # share of its range below which an int16 input has no value that is computed well
    written: tuple[str, ...] = ()  # types without a right kernel, in which `realize.rewrites` takes other operators
    distinct: int | None = None  # the slot of indices that must be a constant without repeats
    note: str = ""

    def takes(self, dtype: str) -> bool:
        """Return whether there is a right kernel for activations of `dtype`, "int8" or "int16"."""
        return self.int8 if dtype == "int8" else self.int16

    def version(self, dtype: str) -> int:
        """Return the least version whose kernels take `dtype`."""
        return self.version_int8 if dtype == "int8" else self.version_int16


_UNIT = {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)}  # [0, 1)
_SIGNED = {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)}  # [-1, 1)
_LOG = {"int8": (16 / 256, 127)}  # [-16, 0]
_COARSE = (1 / 256, 1.0)  # the comparison kernels scale codes to fixed point: exact only for these scales
_CLAMP = "QUANTIZE to an output that spans just [0, high] gives the same to a step; XNNPACK takes that, not this"
_TABLE16 = "int16: a table of 512 cells over the input's range; the error is the curvature inside one cell"

OPS: dict[str, KernelRow] = {
    # linear
    "FULLY_CONNECTED": KernelRow(
        version_int8=4, version_int16=7,
        note="a computed filter is data: slot 1, per-tensor, with its own zero point; right in int8 and int16",
    ),
    "CONV_2D": KernelRow(
        version_int8=3, version_int16=4,
        note="without a bias it is refused, in float too",
    ),
    "DEPTHWISE_CONV_2D": KernelRow(version_int8=3, version_int16=5),
    "TRANSPOSE_CONV": KernelRow(version_int8=2, version_int16=3),
    "BATCH_MATMUL": KernelRow(
        version_int8=2, version_int16=3, max_rank=5,
        note="a constant side is data, per-tensor; per-channel scales are silently wrong on all kernels",
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": KernelRow(
        int16=False,
        note="weights per-tensor, h in the encoding of the output, c in int16 at a power of two (`lstm`)",
    ),
    # arithmetic
    "ADD": KernelRow(version_int8=2, version_int16=3, note="int16: write potScaleInt16=False"),
    "SUB": KernelRow(version_int8=2, version_int16=5, note="int16: write potScaleInt16=False"),
    "MUL": KernelRow(version_int8=2, version_int16=4, note="version 3 when the product of scales >= the output's"),
    "DIV": KernelRow(
        min_rescale={"int8": 64.0}, int16=False,
        note="a small numerator saturates to the wrong end unless scale(0) >= 64 * scale(1) * scale(out), that is "
        "unless denominators stay above a quarter of their range; int16 has the same fault at any usual scale; "
        "a denominator that encodes as 0 fails at run time",
    ),
    "SQUARE": KernelRow(written=("int8", "int16"), note="float and int32 kernels alone; MUL by itself"),
    "NEG": KernelRow(written=("int8", "int16"), note="negates codes, whatever the zero points; MUL by -1"),
    "ZEROS_LIKE": KernelRow(written=("int8", "int16"), note="float and integer kernels without zero points; MUL by 0"),
    "SQUARED_DIFFERENCE": KernelRow(int16=False, version_int8=2, note="XNNPACK takes SUB and MUL, not this"),
    "MAXIMUM": KernelRow("same", version_int8=2, version_int16=4),
    "MINIMUM": KernelRow("same", version_int8=2, version_int16=4),
    "ABS": KernelRow(version_int8=2, version_int16=3),
    # activation functions
    "RELU": KernelRow(version_int8=2, version_int16=3, note=_CLAMP),
    "RELU6": KernelRow(version_int8=2, version_int16=3, note=_CLAMP),
    "RELU_N1_TO_1": KernelRow(int16=False),
    "RELU_0_TO_1": KernelRow(int16=False),
    "LEAKY_RELU": KernelRow(version_int16=2),
    "PRELU": KernelRow(int16=False, note="int16 is silently wrong on all kernels"),
    "ELU": KernelRow(int16=False, wrong_on=("reference",), note="the reference kernels have no ELU"),
    "GELU": KernelRow(version_int8=2, version_int16=2, note=_TABLE16),
    "HARD_SWISH": KernelRow(int16=False, note="refused when the input's scale exceeds the output's a thousandfold"),
    "LOGISTIC": KernelRow(scales="fixed", fixed=_UNIT, version_int8=2, version_int16=3),
    "TANH": KernelRow(scales="fixed", fixed=_SIGNED, version_int8=2, version_int16=3),
    "SOFTMAX": KernelRow(
        scales="fixed", fixed=_UNIT, version_int8=2, version_int16=3, reference_row=512,
        note="int16: each class far below the largest adds up to 1.5 steps (1421 steps off at 1000 classes)",
    ),
    "LOG_SOFTMAX": KernelRow(scales="fixed", fixed=_LOG, int16=False, version_int8=2),
    "L2_NORMALIZATION": KernelRow(scales="fixed", fixed=_SIGNED, int16=False, version_int8=2),
    "EXP": KernelRow(
        version_int8=2, version_int16=2,
        note=_TABLE16 + "; int16 wraps where the output's range is exceeded far",
    ),
    "LOG": KernelRow(
        version_int8=2, version_int16=2, least_int16=0.02,
        note=_TABLE16 + ": 700 steps at 1/50 of the range, 2200 near 0, 10 above 1/4",
    ),
    "SQRT": KernelRow(version_int8=2, version_int16=2),
    "RSQRT": KernelRow(
        version_int8=2, version_int16=3, least_int16=0.02,
        note=_TABLE16 + ": 1000 steps at 1/50 of the range, 4400 near 0",
    ),
    # reductions
    "MEAN": KernelRow(version_int8=2, version_int16=3),
    "SUM": KernelRow(
        version_int8=2, version_int16=2, wrong_on=("reference",),
        note="the reference kernels are silently wrong; MEAN and a MUL by the count give the same on all kernels",
    ),
    "REDUCE_MAX": KernelRow(scales="same", version_int8=2, version_int16=3),
    "REDUCE_MIN": KernelRow(scales="same", version_int8=2, version_int16=3),
    "REDUCE_PROD": KernelRow(int8=False, int16=False, note="rescales after every factor: up to 255 steps off"),
    "ARG_MAX": KernelRow(outputs=(), int16=False, version_int8=2),
    "ARG_MIN": KernelRow(outputs=(), int16=False, version_int8=2),
    "TOPK_V2": KernelRow(scales="same", outputs=(0,), version_int8=2, version_int16=3),
    # comparisons
    "EQUAL": KernelRow("same", outputs=(), other_output="bool", int16=False, version_int8=2, int8_scale=_COARSE),
    "NOT_EQUAL": KernelRow("same", outputs=(), other_output="bool", int16=False, version_int8=2, int8_scale=_COARSE),
    "LESS": KernelRow(
        "same", outputs=(), other_output="bool", version_int8=2, version_int16=3, int8_scale=_COARSE
    ),
    "LESS_EQUAL": KernelRow(
        "same", outputs=(), other_output="bool", version_int8=2, version_int16=2, int8_scale=_COARSE
    ),
    "GREATER": KernelRow(
        "same", outputs=(), other_output="bool", version_int8=2, version_int16=2, int8_scale=_COARSE
    ),
    "GREATER_EQUAL": KernelRow(
        "same", outputs=(), other_output="bool", version_int8=2, version_int16=3, int8_scale=_COARSE
    ),
    "SELECT": KernelRow("same"),
    "SELECT_V2": KernelRow("same"),
    # pooling, resizing
    "MAX_POOL_2D": KernelRow(scales="same", version_int8=2, version_int16=3),
    "AVERAGE_POOL_2D": KernelRow(scales="same", version_int8=2, version_int16=3),
    "RESIZE_NEAREST_NEIGHBOR": KernelRow(scales="same", version_int8=2, version_int16=4),
    "RESIZE_BILINEAR": KernelRow(
        scales="same", version_int8=2, version_int16=4,
        note="int16 interpolates with 10 bits: exact to a step at whole ratios, up to 600 steps off at others",
    ),
    # moving values
    "RESHAPE": KernelRow(scales="same"),
    "SQUEEZE": KernelRow(scales="same"),
    "EXPAND_DIMS": KernelRow(scales="same"),
    "TRANSPOSE": KernelRow(scales="same", version_int8=2, version_int16=5),
    "CONCATENATION": KernelRow("same", version_int8=2, version_int16=3),
    "PACK": KernelRow("same", version_int8=2, version_int16=3),
    "UNPACK": KernelRow(scales="same", version_int8=2, version_int16=4),
    "SPLIT": KernelRow("same", version_int8=2, version_int16=4),
    "SPLIT_V": KernelRow(scales="same", version_int8=2, version_int16=2),
    "SLICE": KernelRow(scales="same", version_int8=2, version_int16=4),
    "STRIDED_SLICE": KernelRow(scales="same", version_int8=2, version_int16=2),
    "GATHER": KernelRow(scales="same", version_int8=2, version_int16=4),
    "GATHER_ND": KernelRow(scales="same", version_int16=3),
    "PAD": KernelRow(scales="same", version_int8=2, version_int16=3, max_rank=5),
    "PADV2": KernelRow("same", version_int8=2, version_int16=3, max_rank=5),
    "MIRROR_PAD": KernelRow(scales="same", version_int8=2, version_int16=3),
    "TILE": KernelRow(scales="same", version_int8=2, version_int16=2, note="the reference kernels end at version 2"),
    "BROADCAST_TO": KernelRow(scales="same", version_int8=3, version_int16=3),
    "REVERSE_V2": KernelRow(scales="same", version_int8=3, version_int16=3),
    "REVERSE_SEQUENCE": KernelRow(
        scales="same", written=("int8",), note="int8 is refused, though TFLiteConverter writes it; uint8 is taken"
    ),
    "DEPTH_TO_SPACE": KernelRow(scales="same", int16=False, note="the reference kernels end at version 1"),
    "SPACE_TO_DEPTH": KernelRow(scales="same", int16=False, version_int8=2),
    "BATCH_TO_SPACE_ND": KernelRow(scales="same", version_int8=2, version_int16=4),
    "SPACE_TO_BATCH_ND": KernelRow(scales="same", version_int8=2, version_int16=4),
    "DYNAMIC_UPDATE_SLICE": KernelRow("same"),
    "MATRIX_DIAG": KernelRow(scales="same", int8_zero_point=0, note="fills with code 0, not with the zero point"),
    "MATRIX_SET_DIAG": KernelRow("same"),
    "SCATTER_ND": KernelRow("same", int16=False, int8_zero_point=0, distinct=0,
        note="fills with code 0, and adds raw codes, which wrap around, where indices repeat",
    ),
    "SPARSE_TO_DENSE": KernelRow("same", int16=False, version_int8=3),
    "FILL": KernelRow("same", version_int8=3, version_int16=3),
    "ONE_HOT": KernelRow("same", int16=False),
    # wrong without a word, whatever the scales
    "FLOOR_DIV": KernelRow(int8=False, int16=False, note="works on raw codes"),
    "FLOOR_MOD": KernelRow(int8=False, int16=False, note="works on raw codes"),
}  # fmt: skip


def misfits(
    code: str,
    dtype: str,
    shape: Sequence[int],
    inputs: Sequence[ActivationEncoding],
    outputs: Sequence[ActivationEncoding],
    lowest: float | None = None,
) -> list[str]:
    """Return why the kernels would not compute operator `code` on these encodings; empty when they do.

    Args:
        code: the schema's name of the operator.
        dtype: "int8" or "int16".
        shape: the shape of the first data input.
        inputs: encodings of the data slots, in slot order.
        outputs: encodings of the outputs that are activations.
        lowest: the smallest value of the first data input, where known.
    """
    row = OPS.get(code)
    if row is None or not row.takes(dtype):
        return [f"{code} has no right {dtype} kernel" + (f" ({row.note})" if row and row.note else "")]
    problems = []
    if row.max_rank is not None and len(shape) > row.max_rank:
        problems.append(f"rank {len(shape)}, at most {row.max_rank} works")
    tied = inputs if row.same is None else [inputs[slot] for slot in row.same]
    if row.scales == "same" and len({(e.scale, e.zero_point) for e in (*tied, *outputs)}) > 1:
        problems.append("its inputs and outputs must share one scale and zero point")
    if row.scales == "fixed" and any((e.scale, e.zero_point) != row.fixed[dtype] for e in outputs):
        problems.append(f"its output must have scale and zero point {row.fixed[dtype]}")
    least = row.min_rescale.get(dtype)
    if least is not None and inputs[0].scale < least * inputs[1].scale * outputs[0].scale:
        problems.append(f"scale(0) / (scale(1) * scale(out)) must be at least {least:g}")
    if dtype == "int16" and row.least_int16 is not None and lowest is not None:
        share = lowest / (inputs[0].scale * np.iinfo(np.int16).max)
        if share < row.least_int16:
            problems.append(f"values down to {share:.2g} of the range, only those above {row.least_int16:g} are right")
    return problems + (_int8_misfits(row, inputs) if dtype == "int8" else [])


def _int8_misfits(row: KernelRow, inputs: Sequence[ActivationEncoding]) -> list[str]:
    problems = []
    if row.int8_scale is not None:
        low, high = row.int8_scale
        wrong = sorted({e.scale for e in inputs if not low <= e.scale < high})
        problems += [f"input scale {scale:.4g}, only {low:.4g} to {high:g} works" for scale in wrong]
    if row.int8_zero_point is not None and any(e.zero_point != row.int8_zero_point for e in inputs):
        problems.append(f"zero point must be {row.int8_zero_point}")
    return problems
