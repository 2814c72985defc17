"""Round to nearest over the full range of each block."""

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine import affine
from tfq_fine.specs import WeightSpec


def round_to_nearest(weight: np.ndarray, block: tuple[int, ...], spec: WeightSpec) -> WeightCodes:
    """Scales from the extent of each block, codes by rounding; |error| <= scale / 2 for every value."""
    return affine.encode_weight(weight, block, spec.bits, spec.symmetric)
