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


def with_quality(spec: OpSpec | None, quality: Quality, has_data: bool) -> OpSpec | None:
    """Return the spec with the algorithm of `quality` if it names none.

    Args:
        spec: the request for one operator; None stays float.
        quality: "fast" reads no data; "balanced" and "best" name the algorithms that fit weights to it.
        has_data: whether there are samples to fit weights to.
    """
    weights = None if spec is None else spec.weights
    if spec is None or weights is None or weights.algorithm != "auto":
        return spec
    if not has_data or weights.bits > MOST_BITS[quality]:
        return spec
    fitted: WeightSpec = replace(weights, algorithm=quality)
    return replace(spec, weights=fitted)
