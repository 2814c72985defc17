"""RESIZE_BILINEAR of codes: on 8 bits as XNNPACK computes it, with weights of 11 bits in each direction, halves up; on
16 bits as the kernel behind it, with places of 10 bits behind the point, halves away from 0."""

from typing import Any

import numpy as np

from tfq_converters.graph import Op
from tfq_fine.layers.twin.fixed_point import shifted

BITS, SHORT_BITS = 11, 10
Place = tuple[np.ndarray, np.ndarray, np.ndarray]  # between which two, and how far from the first


def resized(tf: Any, op: Op, codes: Any, size: Any) -> Any:
    """int8 codes [N, h, w, C] at the (h, w) of `size`, int64; the height and width of the codes are known."""
    places = [_between(op, length, int(wanted)) for length, wanted in zip(codes.shape[1:3], size, strict=True)]
    return shifted(tf, _mixed(tf, codes, places, BITS), 2 * BITS)


def resized_short(tf: Any, op: Op, codes: Any, size: Any) -> Any:
    """The same of int16 codes."""
    places = [_short_between(op, length, int(wanted)) for length, wanted in zip(codes.shape[1:3], size, strict=True)]
    total = _mixed(tf, codes, places, SHORT_BITS)
    return shifted(tf, total - tf.cast(total < 0, tf.int64), 2 * SHORT_BITS)


def _mixed(tf: Any, codes: Any, places: list[Place], bits: int) -> Any:
    (above, below, down), (left, right, across) = places
    rows = tf.gather(codes, above, axis=1), tf.gather(codes, below, axis=1)
    top, bottom = (
        _line(tf.gather(row, left, axis=2), tf.gather(row, right, axis=2), across[:, None], bits) for row in rows
    )
    return _line(top, bottom, down[:, None, None], bits)


def _line(first: Any, second: Any, weight: np.ndarray, bits: int) -> Any:
    return first * 2**bits + (second - first) * weight


def _short_between(op: Op, length: int, wanted: int) -> Place:
    """`_between` in whole numbers of 10 bits behind the point."""
    one = 2**SHORT_BITS
    ends = bool(op.option("alignCorners")) and wanted > 1
    here, there = (length - 1, wanted - 1) if ends else (length, wanted)
    step = (one * here + there // 2) // there
    at = np.arange(wanted, dtype=np.int64) * step
    if op.option("halfPixelCenters"):
        at = at + step // 2 - one // 2
    first = np.maximum(np.trunc(at / one).astype(np.int64), 0)
    return first, np.minimum(np.trunc((at + one - 1) / one).astype(np.int64), length - 1), at - first * one


def _between(op: Op, length: int, wanted: int) -> Place:
    """For each place of the output along one side: the two it lies between, and how far from the first, in 11 bits."""
    at = np.arange(wanted, dtype=np.float32)
    if op.option("alignCorners") and wanted > 1:
        at = at * np.float32((length - 1) / (wanted - 1))
    elif op.option("halfPixelCenters"):
        at = (at + np.float32(0.5)) * np.float32(length / wanted) - np.float32(0.5)
    else:
        at = at * np.float32(length / wanted)
    at = np.clip(at, 0, length - 1)
    first = np.floor(at).astype(np.int64)
    return first, np.minimum(first + 1, length - 1), np.rint((at - first) * 2.0**BITS).astype(np.int64)
