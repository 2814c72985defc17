"""The range that loses the least information: KL divergence of the values before and after quantization (Migacz 2017,
"8-bit inference with TensorRT", GTC; Wu et al. 2020, arXiv 2004.09602, section 3.3)."""

from collections.abc import Mapping

import numpy as np

from tfq_fine.histogram import Histogram
from tfq_fine.observers.seen import Seen
from tfq_fine.statistics import Range

FINE = 8  # bins in each quantization level
SHARES = 2.0 ** -np.arange(0.0, 8.0, 0.125)  # of the largest magnitude: down to 1/256
SMOOTHING = 1e-4  # probability that an empty level gets, so that the divergence is finite


def entropy(seen: Seen, bits: int, options: Mapping[str, float]) -> Range:
    """[-t, t], as far as the values reach, for the threshold t with the least divergence; of equals, the largest.

    Levels are of 8 bits at most, also for 16-bit activations: a finer search would see single values.
    """
    magnitudes = np.abs(seen.counted.values)
    levels = 2 ** (min(bits, 8) - (seen.range.low < 0 < seen.range.high))
    thresholds = seen.range.absmax * SHARES
    divergences = [divergence(magnitudes, seen.counted, t, levels) for t in thresholds.tolist()]
    threshold = float(thresholds[int(np.argmin(divergences))])
    return seen.range.intersection(Range(-threshold, threshold))


def divergence(magnitudes: np.ndarray, histogram: Histogram, threshold: float, levels: int) -> float:
    """KL(P || Q) in nats: P the values clipped to `threshold`, Q the same once each level holds one value.

    As in Migacz 2017, Q is made without what is clipped, and spread over the bins of a level that hold values.
    """
    if threshold <= 0:
        return 0.0
    fine = levels * FINE
    where = np.minimum((magnitudes * (fine / threshold)).astype(np.int64), fine - 1)
    clipped = np.bincount(where, histogram.counts, fine)
    inside = magnitudes <= threshold
    kept = np.bincount(where[inside], histogram.counts[inside], fine).reshape(levels, FINE)
    filled = clipped.reshape(levels, FINE) > 0
    spread = np.where(filled, (kept.sum(1) / np.maximum(filled.sum(1), 1))[:, None], 0.0).reshape(-1)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1.0)
    seen = p > 0
    q = np.where(seen & (q == 0), SMOOTHING / fine, q)
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))
