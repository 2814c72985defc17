"""Conversion of values to the type that the model takes; refused where more than float rounding would be lost."""

from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import NUMPY_TYPES, AnyArray, BoolArray, IntArray

NUMBERS = "buif"  # kinds of NumPy types: bool, unsigned, int, float


@dataclass(frozen=True)
class Misfit:
    """Why values cannot be fed."""

    reason: str
    at: tuple[int, ...] | None = None  # the first value in the way; None when all are


def converted(values: AnyArray, dtype: str, finite: bool = True) -> AnyArray | Misfit:
    """Return `values` as `dtype`, the same array when it is of that type already.

    The shape, which may be any, stays. Floats are rounded to a narrower float type; every other conversion must be
    exact. NaN and infinities pass only to float types, and only where not all must be `finite`.
    """
    if dtype == "string":
        return _strings(values)
    if dtype not in NUMPY_TYPES:
        return Misfit(f"the model takes {dtype}, which arrays cannot hold")
    target = np.dtype(NUMPY_TYPES[dtype])
    kind = values.dtype.kind
    if not (kind in NUMBERS or (kind == "c" and target.kind == "c")):
        return Misfit(f"expected {dtype}, found {values.dtype}")
    if kind in "fc" and (finite or target.kind not in "fc"):
        good = np.isfinite(values)
        if not good.all():
            return _misfit(values, ~good, "is not a finite number")
    if values.dtype == target:
        return values
    if target.kind in "iu":
        return _to_integers(values, target)
    with np.errstate(over="ignore"):
        result = values.astype(target)
    if kind == "f" and target.kind in "fc":
        return _unless(values, ~np.isfinite(result) & np.isfinite(values), f"is beyond the range of {dtype}", result)
    with np.errstate(over="ignore", invalid="ignore"):
        changed = result.astype(values.dtype) != values
    return _unless(values, changed, f"cannot be held by {dtype}", result)


def _strings(values: AnyArray) -> AnyArray | Misfit:
    """Return arrays of str, bytes, or objects that are either, as bytes; str in UTF-8, as TensorFlow has it."""
    if values.dtype.kind == "S":
        return values
    if values.dtype.kind not in "UO":
        return Misfit(f"expected strings, found {values.dtype}")
    strings = np.empty(values.shape, object)
    for at, value in np.ndenumerate(values):
        if not isinstance(value, str | bytes):
            return Misfit(f"{value!r} is no string", at)
        strings[at] = value.encode() if isinstance(value, str) else value
    return strings.astype(np.bytes_)


def _to_integers(values: AnyArray, target: np.dtype) -> IntArray | Misfit:
    if values.dtype.kind == "f":
        fractions = values != np.rint(values)
        if fractions.any():
            return _misfit(values, fractions, f"is not a whole number, as {target} must be")
    limits = np.iinfo(target)
    if values.dtype.kind == "b":
        return values.astype(target)
    # float(2**63 - 1) rounds up to 2**63, so floats are compared with the first value beyond the range
    beyond = (values < limits.min) | (
        values >= float(limits.max + 1) if values.dtype.kind == "f" else values > limits.max
    )
    if beyond.any():
        return _misfit(values, beyond, f"is beyond the range of {target}")
    return values.astype(target)


def _unless(values: AnyArray, wrong: BoolArray, reason: str, result: AnyArray) -> AnyArray | Misfit:
    return _misfit(values, wrong, reason) if wrong.any() else result


def _misfit(values: AnyArray, wrong: BoolArray, reason: str) -> Misfit:
    at = tuple(int(index) for index in np.argwhere(wrong)[0])
    return Misfit(f"{values[at]} {reason}", at)
