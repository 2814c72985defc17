"""Second moments of what meets the weights of one operator: all that least squares over its outputs needs.

x is a patch of the float model's input, q the same patch as the quantized operators before it compute it. The output
error of weights V in place of W is E|W x - V q|^2 = E|W d|^2 + 2 tr(W D (W - V)^T) + tr((W - V) H (W - V)^T), where
d = x - q, D = E[d q^T] and H = E[q q^T].
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array

MOST_PATCHES = 16384  # patches of all samples, or ten for each input where that is more: others add time, no accuracy

AT_ONCE = 2**22  # values of patches whose products are added up at once
CONSTANT = 1e-12  # share of its second moment that the variance of an input which varies exceeds


@dataclass(frozen=True)
class Moments:
    """Moments over patches; about the mean where a bias takes back what the mean of the outputs loses.

    Attributes:
        hessian: E[q q^T], float64 [groups, K, K].
        cross: E[(x - q) q^T], float64 [groups, K, K].
        exact_mean: E[x], float64 [groups, K].
        quantized_mean: E[q], float64 [groups, K].
        count: the number of patches.
        factors: damping -> U of `least_squares.inverse_factor`, so that layers that read one input share it.
    """

    hessian: Float64Array
    cross: Float64Array
    exact_mean: Float64Array
    quantized_mean: Float64Array
    count: int
    factors: dict[float, Float64Array] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def centred(self) -> "Moments":
        """The moments about the means; 0 for inputs that do not vary, rather than errors of rounding."""
        difference = self.exact_mean - self.quantized_mean
        hessian = self.hessian - self.quantized_mean[:, :, None] * self.quantized_mean[:, None, :]
        cross = self.cross - difference[:, :, None] * self.quantized_mean[:, None, :]
        variance, square = (np.diagonal(each, axis1=1, axis2=2) for each in (hessian, self.hessian))
        varies = variance > CONSTANT * square
        hessian = hessian * (varies[:, :, None] & varies[:, None, :])
        return Moments(hessian, cross * varies[:, None, :], self.exact_mean, self.quantized_mean, self.count)

    @cached_property
    def on_float_inputs(self) -> "Moments":
        """The moments as they would be if no earlier operator were quantized, with those of q in place of x."""
        return Moments(self.hessian, np.zeros_like(self.cross), self.quantized_mean, self.quantized_mean, self.count)

    def error(self, weight: Float64Array, stored: Float64Array) -> Float64Array:
        """Return the output error of `stored` in place of `weight`, each [groups, rows, K], less a constant.

        Returns:
            float64 [groups, rows], the part of E|W x - V q|^2 that depends on the stored weights.
        """
        difference = weight - stored
        pulled = difference @ self.hessian
        if self.cross.any():
            pulled += 2.0 * (weight @ self.cross)
        return np.asarray(np.einsum("grk,grk->gr", pulled, difference))


def moments_of(pairs: Iterable[tuple[Float32Array, Float32Array]], crosses: bool = True) -> Moments:
    """Return the moments over pairs of patches (exact, quantized), each float32 [groups, patches, K].

    Without `crosses`, for those who see quantized inputs alone, `cross` is 0: it takes twice as long as `hessian`.

    Products are those of differences from the mean of the first patches: sums of float32 values would lose the variance
    of inputs whose mean is large.
    """
    sums: list[Float64Array] = []
    count, origin = 0, np.zeros(())
    for exact, quantized in _joined(pairs):
        if not sums:
            origin = quantized.mean(axis=1, keepdims=True)
        error, moved = exact - quantized, quantized - origin
        hessian = moved.transpose(0, 2, 1) @ moved
        cross = error.transpose(0, 2, 1) @ moved if crosses and error.any() else np.zeros_like(hessian)
        added = [hessian, cross, *(each.sum(axis=1, dtype=np.float64) for each in (error, moved))]
        if not sums:
            sums = [each.astype(np.float64) for each in added]
        else:
            for total, each in zip(sums, added, strict=True):
                total += each
        count += quantized.shape[1]
    hessian, cross, difference, mean = (total / count for total in sums)
    origin = origin[:, 0].astype(np.float64)
    quantized_mean = origin + mean
    hessian += origin[:, :, None] * quantized_mean[:, None, :] + mean[:, :, None] * origin[:, None, :]
    cross += difference[:, :, None] * origin[:, None, :]
    return Moments(hessian, cross, quantized_mean + difference, quantized_mean, count)


def _joined(pairs: Iterable[tuple[Float32Array, Float32Array]]) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Yield the patches of several samples at once: few products of large matrices take less time than many small."""
    waiting: list[tuple[Float32Array, Float32Array]] = []
    for pair in pairs:
        waiting.append(pair)
        if sum(exact.size for exact, _ in waiting) > AT_ONCE:
            yield _together(waiting)
            waiting = []
    if waiting:
        yield _together(waiting)


def _together(pairs: Sequence[tuple[Float32Array, Float32Array]]) -> tuple[Float32Array, Float32Array]:
    exact, quantized = zip(*pairs, strict=True)
    return np.concatenate(exact, axis=1), np.concatenate(quantized, axis=1)
