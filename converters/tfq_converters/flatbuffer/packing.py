"""Storage of codes below one byte: row-major, no padding between rows, the first code in the lowest bits."""

import numpy as np
from numpy.typing import NDArray

from tfq_converters.graph import IntArray

PACKED_BITS = {"int4": 4, "int2": 2}


def pack(codes: IntArray, bits: int) -> NDArray[np.uint8]:
    """Pack signed codes, `8 // bits` to a byte; the last byte is padded with zeros.

    Args:
        codes: integers in [-2**(bits-1), 2**(bits-1) - 1], any shape.
        bits: 4 or 2.

    Returns:
        uint8 array [ceil(codes.size * bits / 8)].

    >>> pack(np.array([1, -1, 7]), 4).tolist()
    [241, 7]
    """
    per_byte = 8 // bits
    flat = codes.reshape(-1).astype(np.uint8) & np.uint8((1 << bits) - 1)
    flat = np.concatenate([flat, np.zeros(-len(flat) % per_byte, np.uint8)]).reshape(-1, per_byte)
    packed = np.zeros(len(flat), np.uint8)
    for position in range(per_byte):
        packed |= flat[:, position] << np.uint8(bits * position)
    return packed


def unpack(raw: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return the inverse of `pack`: int8 codes of `shape`.

    >>> unpack(np.array([241, 7], np.uint8), 4, (3,)).tolist()
    [1, -1, 7]
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    signed = (fields << np.uint8(8 - bits)).view(np.int8) >> np.int8(8 - bits)
    count = int(np.prod(shape, dtype=np.int64))
    return signed.reshape(-1)[:count].reshape(shape)
