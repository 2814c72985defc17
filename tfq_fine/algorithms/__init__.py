"""Weight algorithms: (weight, block shape, spec) -> codes and scales. To add one, write its module and its row here."""

from collections.abc import Callable

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.round_to_nearest import round_to_nearest
from tfq_fine.specs import WeightSpec

Algorithm = Callable[[np.ndarray, tuple[int, ...], WeightSpec], WeightCodes]

ALGORITHMS: dict[str, Algorithm] = {
    "round_to_nearest": round_to_nearest,
}
