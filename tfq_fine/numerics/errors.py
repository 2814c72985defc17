"""How far two arrays are apart, and how well outputs fit labels.

Errors add up over batches: `ErrorSums.of(x, y) + ErrorSums.of(x2, y2)` is that of the concatenated arrays.
"""

import math
from dataclasses import dataclass

import numpy as np

from tfq_converters.check import comparable, sqnr_db
from tfq_converters.graph import AnyArray, BoolArray, FloatArray, IntArray

CHUNK = 2**13  # values that are held in float64 at a time: in the cache, and too few for BLAS to start threads


@dataclass(frozen=True)
class ErrorSums:
    """Sums over pairs (x, y) of a reference and an approximation, in float64."""

    signal: float = 0.0  # sum x²
    noise: float = 0.0  # sum (x - y)²
    other: float = 0.0  # sum y²
    product: float = 0.0  # sum x y
    max_error: float = 0.0  # max |x - y|; NaN when any difference is
    count: int = 0

    @staticmethod
    def of(reference: AnyArray, approximation: AnyArray) -> "ErrorSums":
        """Return the sums of two arrays of one shape.

        A position where both hold the same infinity is exact and carries no signal. NaN on either side, or an infinity
        on one, makes the noise NaN or infinite.

        >>> ErrorSums.of(np.array([3.0, 4.0]), np.array([3.0, 4.5])).sqnr_db
        20.0
        """
        assert reference.shape == approximation.shape, (reference.shape, approximation.shape)
        x, y = _flat(reference), _flat(approximation)
        sums = ErrorSums()
        for start in range(0, x.size, CHUNK):
            sums += ErrorSums._of_chunk(x[start : start + CHUNK], y[start : start + CHUNK])
        return sums

    @staticmethod
    def _of_chunk(reference: FloatArray, approximation: FloatArray) -> "ErrorSums":
        x, y = comparable(reference, approximation)
        error = x - y
        return ErrorSums(
            signal=float(np.dot(x, x)),
            noise=float(np.dot(error, error)),
            other=float(np.dot(y, y)),
            product=float(np.dot(x, y)),
            max_error=float(np.abs(error).max()),
            count=x.size,
        )

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        return ErrorSums(
            self.signal + other.signal,
            self.noise + other.noise,
            self.other + other.other,
            self.product + other.product,
            float(np.maximum(self.max_error, other.max_error)),  # keeps NaN, as `max` does not
            self.count + other.count,
        )

    @property
    def sqnr_db(self) -> float:
        """10 log10(sum x² / sum (x - y)²), in dB; `tfq_converters.check.sqnr_db` names the values at the edges."""
        return sqnr_db(self.signal, self.noise)

    @property
    def cosine(self) -> float:
        """The cosine, sum x y / sqrt(sum x² sum y²); 1 when both are all zero, 0 when one is."""
        if self.noise == 0:
            return 1.0
        if self.signal == 0 or self.other == 0:
            return 0.0
        return self.product / (math.sqrt(self.signal) * math.sqrt(self.other))


def _flat(values: AnyArray) -> FloatArray:
    """Return `values` as a flat array of reals; a complex number counts as two."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


@dataclass(frozen=True)
class Agreement:
    """How often two classifiers agree. Ties go to the lowest class, as argmax does."""

    top1: int = 0  # samples whose highest class is the same
    top5: int = 0  # samples whose highest class of the reference is among the five highest of the other
    count: int = 0
    tied: int = 0  # samples whose highest score several classes share, on either side; they are in `top1` too

    @staticmethod
    def of(reference: FloatArray, approximation: FloatArray) -> "Agreement":
        """Return the counts of two arrays [n, classes]."""
        expected = reference.argmax(axis=1)
        return Agreement(
            top1=int(in_top(approximation, expected, 1).sum()),
            top5=int(in_top(approximation, expected, 5).sum()),
            count=len(reference),
            tied=int((is_tied(reference) | is_tied(approximation)).sum()),
        )

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.top1 + other.top1, self.top5 + other.top5, self.count + other.count, self.tied + other.tied
        )


def is_tied(scores: FloatArray) -> BoolArray:
    """Return whether several classes share the highest score [n], of scores [n, C].

    >>> is_tied(np.array([[0.5, 0.5, 0.2], [0.1, 0.1, 0.8]]))
    array([ True, False])
    """
    return np.asarray((scores == scores.max(axis=-1, keepdims=True)).sum(axis=-1) > 1)


def is_classes(output: AnyArray) -> bool:
    """Return whether an output looks like scores of classes: floating, [n, C] with C >= 2."""
    return output.ndim == 2 and output.shape[1] >= 2 and output.dtype.kind == "f"


def in_top(scores: FloatArray, classes: IntArray, k: int) -> BoolArray:
    """Return whether each of `classes` [...] is among the `k` highest of `scores` [..., C].

    Ties go to the lowest class; where a score is NaN, nothing is.

    >>> in_top(np.array([[0.5, 0.5, 0.2]]), np.array([1]), 1)
    array([False])
    """
    own = np.take_along_axis(scores, classes[..., None], axis=-1)
    earlier = np.arange(scores.shape[-1]) < classes[..., None]
    ahead = (scores > own) | ((scores == own) & earlier)
    return np.asarray((ahead.sum(axis=-1) < k) & ~np.isnan(scores).any(axis=-1))
