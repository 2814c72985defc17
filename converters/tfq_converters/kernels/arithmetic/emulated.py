"""Emulation of integer kernels, for operators whose kernels are not the float operator rounded to a step.

Most integer kernels are: they multiply with 31 bits or in float and round once or twice, which moves a result by one
step at most. The operators of `KERNELS` have tables or places of a few bits in them, whose error grows with shapes,
scales and curvature: a constant allowance is either too small for a right file or too large to see a wrong one.
`benchmarks/op_sweep.py` shows both claims over random shapes and ranges.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import FloatArray, Int64Array, IntArray, Op
from tfq_converters.kernels.arithmetic import resizing, tables
from tfq_converters.quantized import ActivationEncoding, OpEncoding


@dataclass(frozen=True)
class Call:
    """One integer operator and the input that it computes on."""

    op: Op
    codes: Int64Array  # int64, without the zero point
    source: ActivationEncoding
    target: ActivationEncoding
    shape: tuple[int, ...]  # the form of the output


Kernel = Callable[[Call], Int64Array]  # -> whole numbers of the output's scale, without its zero point


@dataclass(frozen=True)
class Arithmetic:
    """The kinds of kernels that runtimes have for an operator, and how far one may be from what is computed here."""

    kernels: tuple[Kernel, ...]
    steps: int


# An anchor is rounded twice, of values that the runtime's own exp, log or erf gives: where another library gives
# another last bit, each rounding may fall to the other side.
ANCHOR_STEPS = 2
# Processors with wide instructions round halves in another direction.
HALF_STEPS = 1


def _table(function: Callable[[FloatArray, np.float32], FloatArray]) -> Arithmetic:
    return Arithmetic((lambda call: _tabled(function, call),), ANCHOR_STEPS)


KERNELS: Mapping[tuple[str, str], Arithmetic] = {
    ("EXP", "int16"): _table(tables.exponential),
    ("LOG", "int16"): _table(tables.logarithm),
    ("RSQRT", "int16"): _table(tables.reciprocal_root),
    ("GELU", "int16"): Arithmetic(
        (lambda call: _tabled(tables.gelu(bool(call.op.option("approximate"))), call),), ANCHOR_STEPS
    ),
    ("TANH", "int16"): Arithmetic((lambda call: tables.tanh(call.codes, call.source.scale),), HALF_STEPS),
    ("SOFTMAX", "int16"): Arithmetic(
        (lambda call: tables.softmax(call.codes, call.source.scale, call.op.option("beta")),), ANCHOR_STEPS
    ),
    ("RESIZE_BILINEAR", "int8"): Arithmetic(
        (
            lambda call: resizing.resized(call.op, call.codes, _size(call)),
            lambda call: (
                resizing.resized_short(call.op, call.codes + call.source.zero_point, _size(call))
                - call.source.zero_point
            ),
        ),
        HALF_STEPS,
    ),
    ("RESIZE_BILINEAR", "int16"): Arithmetic(
        (lambda call: resizing.resized_short(call.op, call.codes, _size(call)),), HALF_STEPS
    ),
}


def is_emulated(op: Op, form: ActivationEncoding) -> bool:
    """Return whether the kernels of `op` for results in `form` are computed here."""
    return (op.code, form.dtype) in KERNELS


def kernel_difference(op: Op, encoding: OpEncoding, values: FloatArray, found: IntArray) -> str:
    """Return what is wrong with codes `found`; "" when one kind of kernel gives them for `op` (see `is_emulated`).

    Args:
        op: the operator.
        encoding: its numbers.
        values: what it reads at slot 0, decoded, of the shape of that tensor.
        found: the codes of its first output in the file, of the shape of that one.
    """
    source, target = encoding.inputs[0], encoding.outputs[0]
    codes = source.encode(values).astype(np.int64) - source.zero_point
    arithmetic, limits = KERNELS[op.code, target.dtype], np.iinfo(target.dtype)
    away = []
    for kernel in arithmetic.kernels:
        whole = kernel(Call(op, codes, source, target, found.shape)) + target.zero_point
        away.append(int(np.abs(np.clip(whole, limits.min, limits.max) - found).max(initial=0)))
    if min(away) <= arithmetic.steps:
        return ""
    return f"{min(away)} steps of its scale from what its kernels' arithmetic gives, {arithmetic.steps} allowed"


def _tabled(function: Callable[[FloatArray, np.float32], FloatArray], call: Call) -> Int64Array:
    return tables.tabled(function, call.codes, call.source.scale, call.target.scale)


def _size(call: Call) -> tuple[int, int]:
    _, height, width, _ = call.shape
    return height, width
