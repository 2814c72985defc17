"""RESIZE_BILINEAR of codes, as the kernels compute it.

XNNPACK takes 8 bits, with weights of 11 bits in each direction, and rounds halves up. TFLite's own kernel takes 16
bits, with places of 10 bits after the point, and rounds halves away from 0.
"""

from typing import Any

from tfq_converters.graph import Int64Array, Op
from tfq_converters.kernels.arithmetic import PLACE_BITS, SHORT_PLACE_BITS, Place, between, short_between
from tfq_fine.emulation.fixed_point import shifted


def resized(tf: Any, op: Op, codes: Any, size: Any) -> Any:
    """Resize int8 codes [N, h, w, C] to the (h, w) of `size`, int64; height and width of the codes are known."""
    places = [between(op, length, int(target)) for length, target in zip(codes.shape[1:3], size, strict=True)]
    return shifted(tf, _mixed(tf, codes, places, PLACE_BITS), 2 * PLACE_BITS)


def resized_short(tf: Any, op: Op, codes: Any, size: Any) -> Any:
    """Resize int16 codes in the same way."""
    places = [short_between(op, length, int(target)) for length, target in zip(codes.shape[1:3], size, strict=True)]
    total = _mixed(tf, codes, places, SHORT_PLACE_BITS)
    return shifted(tf, total - tf.cast(total < 0, tf.int64), 2 * SHORT_PLACE_BITS)


def _mixed(tf: Any, codes: Any, places: list[Place], bits: int) -> Any:
    (above, below, down), (left, right, across) = places
    rows = tf.gather(codes, above, axis=1), tf.gather(codes, below, axis=1)
    top, bottom = (
        _line(tf.gather(row, left, axis=2), tf.gather(row, right, axis=2), across[:, None], bits) for row in rows
    )
    return _line(top, bottom, down[:, None, None], bits)


def _line(first: Any, second: Any, weight: Int64Array, bits: int) -> Any:
    return first * 2**bits + (second - first) * weight
