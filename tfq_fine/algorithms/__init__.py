"""Weight algorithms: (weight, block shape, format of the codes, statistics of the input, options) -> codes and scales.

To add one, write its module and its row here.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine.affine import CodeFormat
from tfq_fine.algorithms.clusters import clusters
from tfq_fine.algorithms.inputs import InputStatistics
from tfq_fine.algorithms.mse_clip import mse_clip
from tfq_fine.algorithms.round_to_nearest import round_to_nearest

Algorithm = Callable[[np.ndarray, tuple[int, ...], CodeFormat, InputStatistics, Mapping[str, float]], WeightCodes]

ALGORITHMS: dict[str, Algorithm] = {
    "round_to_nearest": round_to_nearest,
    "mse_clip": mse_clip,
    "clusters": clusters,
}
KEEP_EQUAL = frozenset({"clusters"})  # values that are equal get equal codes: nothing may scale the inputs apart
DATA_FREE = frozenset(ALGORITHMS)  # look at the weight alone: what they give for it holds for every variant of a model
