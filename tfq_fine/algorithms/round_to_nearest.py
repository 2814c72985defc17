"""Round to nearest over the full range of each block."""

from collections.abc import Mapping

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine import affine
from tfq_fine.algorithms.inputs import InputStatistics


def round_to_nearest(
    weight: np.ndarray,
    block: tuple[int, ...],
    form: affine.CodeFormat,
    inputs: InputStatistics,
    options: Mapping[str, float],
) -> WeightCodes:
    """Scales from the extent of each block, codes by rounding; |error| <= scale / 2 for every value."""
    return affine.encode_weight(weight, block, form)
