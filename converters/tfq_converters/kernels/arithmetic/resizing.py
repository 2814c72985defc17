"""RESIZE_BILINEAR of codes in whole numbers: where each result lies between its neighbours, in a few bits.

XNNPACK (int8) rounds the place to 11 bits in float arithmetic. The slower kernels, of int8 and int16, step through
the image with a step of 10 bits, whose rounding adds up: at the far side of a wide image, at a ratio that is no whole
number, a result may lie a good part of a pixel off. That is what the kernels do, not a fault of a file.
"""

import numpy as np

from tfq_converters.graph import Int64Array, Op
from tfq_converters.kernels.arithmetic.rescaling import shifted

PLACE_BITS, SHORT_PLACE_BITS = 11, 10
Place = tuple[Int64Array, Int64Array, Int64Array]  # between which two, and how far from the first


def resized(op: Op, codes: Int64Array, size: tuple[int, int]) -> Int64Array:
    """Return int64 codes [N, h, w, C] at the (h, w) of `size`, as XNNPACK computes them, rounding halves up."""
    places = [between(op, length, target) for length, target in zip(codes.shape[1:3], size, strict=True)]
    return shifted(_mixed(codes, places, PLACE_BITS), 2 * PLACE_BITS)


def resized_short(op: Op, codes: Int64Array, size: tuple[int, int]) -> Int64Array:
    """Return the codes, int64 [N, h, w, C], as the slower kernels compute them: halves away from 0."""
    places = [short_between(op, length, target) for length, target in zip(codes.shape[1:3], size, strict=True)]
    total = _mixed(codes, places, SHORT_PLACE_BITS)
    return shifted(total - (total < 0), 2 * SHORT_PLACE_BITS)


def _mixed(codes: Int64Array, places: list[Place], bits: int) -> Int64Array:
    (above, below, down), (left, right, across) = places
    rows = codes[:, above], codes[:, below]
    top, bottom = (_line(row[:, :, left], row[:, :, right], across[:, None], bits) for row in rows)
    return _line(top, bottom, down[:, None, None], bits)


def _line(first: Int64Array, second: Int64Array, weight: Int64Array, bits: int) -> Int64Array:
    result: Int64Array = first * 2**bits + (second - first) * weight
    return result


def short_between(op: Op, length: int, wanted: int) -> Place:
    """Return `between` in whole numbers with 10 bits after the point."""
    one = 2**SHORT_PLACE_BITS
    ends = bool(op.option("alignCorners")) and wanted > 1
    here, there = (length - 1, wanted - 1) if ends else (length, wanted)
    step = (one * here + there // 2) // there
    at = np.arange(wanted, dtype=np.int64) * step
    if op.option("halfPixelCenters"):
        at = at + step // 2 - one // 2
    first = np.maximum(np.trunc(at / one).astype(np.int64), 0)
    return first, np.minimum(np.trunc((at + one - 1) / one).astype(np.int64), length - 1), at - first * one


def between(op: Op, length: int, wanted: int) -> Place:
    """Return, for each output position along one side, its two neighbours and the distance to the first, in 11 bits."""
    at = np.arange(wanted, dtype=np.float32)
    if op.option("alignCorners") and wanted > 1:
        at = at * np.float32((length - 1) / (wanted - 1))
    elif op.option("halfPixelCenters"):
        at = (at + np.float32(0.5)) * np.float32(length / wanted) - np.float32(0.5)
    else:
        at = at * np.float32(length / wanted)
    at = np.clip(at, 0, length - 1)
    first = np.floor(at).astype(np.int64)
    return first, np.minimum(first + 1, length - 1), np.rint((at - first) * 2.0**PLACE_BITS).astype(np.int64)
