"""The algorithm for weights below 8 bits whose spec names none, by `quality`."""

from dataclasses import replace
from typing import Literal

from tfq_fine.request.specs import OpSpec, WeightSpec

Quality = Literal["fast", "balanced", "best"]
MOST_BITS: dict[Quality, int] = {
    "fast": 0,
    "balanced": 7,
    "best": 8,
}  # bits up to which weights are fitted
WITHOUT_DATA, FEW = "squant", 7  # the algorithm of weights that are not fitted, and the most bits that it is for


def with_quality(spec: OpSpec | None, quality: Quality, has_data: bool) -> OpSpec | None:
    """Return the spec with the algorithm of `quality` if it names none.

    Args:
        spec: the request for one operator; None stays float.
        quality: "fast" reads no data for codes; "balanced" and "best" name the algorithms that fit weights to it.
        has_data: whether there are samples to fit weights to.
    """
    weights = None if spec is None else spec.weights
    if spec is None or weights is None or weights.algorithm != "auto":
        return spec
    if has_data and weights.bits <= MOST_BITS[quality]:
        algorithm: str = quality
    elif weights.bits <= FEW:
        algorithm = WITHOUT_DATA
    else:
        return spec
    named: WeightSpec = replace(weights, algorithm=algorithm)
    return replace(spec, weights=named)
