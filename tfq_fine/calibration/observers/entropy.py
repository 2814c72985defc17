"""The range with the least KL divergence between the values before and after quantization.

Migacz 2017, "8-bit inference with TensorRT", GTC; Wu et al. 2020, arXiv 2004.09602, section 3.3.
"""

from collections.abc import Mapping

import numpy as np

from tfq_converters.graph import AnyArray
from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range

LARGEST = 32  # bins in each quantization level when nothing is clipped
SMOOTHING = 1e-4  # counts that an empty bin gets, so that the divergence is finite


def entropy(tensor: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return [-t, t], cut to the values, for the threshold t with the least divergence; of equals, the largest.

    Bins are of one width, thresholds are whole numbers of bins per level. Zeros are left out: they have a code of their
    own. Levels are of 8 bits at most, also for 16-bit activations: a finer search would see single values.

    Options:
        fence: see `TensorStatistics.within` (10).
    """
    tensor = tensor.within(options["fence"])
    levels = 2 ** (min(bits, 8) - (tensor.range.low < 0 < tensor.range.high))
    filled = tensor.counted.values != 0
    magnitudes, bins = np.abs(tensor.counted.values[filled]), levels * LARGEST
    if not len(magnitudes):
        return tensor.range
    where = np.minimum((magnitudes * (bins / magnitudes.max())).astype(np.int64), bins - 1)
    counts = np.bincount(where, tensor.counted.counts[filled], bins)
    divergences = [divergence(counts, levels, per_level) for per_level in range(LARGEST, 0, -1)]
    threshold = float(magnitudes.max()) * (LARGEST - int(np.argmin(divergences))) / LARGEST
    return tensor.range.intersection(Range(-threshold, threshold))


def divergence(counts: AnyArray, levels: int, per_level: int) -> float:
    """Return KL(P || Q) in nats when the threshold is at `per_level` bins for each level.

    Counts are whole numbers [bins]. P are the counts with all beyond the threshold added to the last bin. Q are the
    counts within it, the bins of a level that hold values given one count (Migacz 2017).
    """
    kept = levels * per_level
    p = counts[:kept].copy()
    inside = p.reshape(levels, per_level)
    full = inside > 0
    mean = inside.sum(1) / np.maximum(full.sum(1), 1)
    q = np.where(full, mean[:, None], 0.0).reshape(-1)
    p[-1] += counts[kept:].sum()
    occupied = p > 0
    p, q = p[occupied], np.where(q[occupied] > 0, q[occupied], SMOOTHING)
    return float(np.sum(p * np.log(p / q)) / p.sum() + np.log(q.sum() / p.sum()))
