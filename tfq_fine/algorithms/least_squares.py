"""The least squares problem of one weight: its rows as matrices, the moments of their inputs, and what codes cost."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

from tfq_converters.graph import Float32Array, Float64Array, Int64Array
from tfq_converters.operators import WeightAxes
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.moments import Moments
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

D = TypeVar("D", bound=np.generic)

MOST_DAMPING = 1.0  # share of the mean diagonal: with that much every positive semi-definite matrix can be factored


@dataclass(frozen=True)
class Rounded:
    """Codes of a weight as matrices, and the scales and zero points of its blocks, flattened.

    Attributes:
        codes: float64 whole numbers [groups, rows, K].
        scale: float64 [blocks].
        zero_point: float64 [blocks].
    """

    codes: Float64Array
    scale: Float64Array
    zero_point: Float64Array


def to_matrices(array: NDArray[D], axes: WeightAxes, groups: int, inputs: int) -> NDArray[D]:
    """Return an array of a weight's shape as [groups, rows, K], K in the order of `algorithms.patches`.

    A transposed convolution and a BATCH_MATMUL by several matrices have more rows than output channels: their `inputs`
    are the channels alone.
    """
    if axes.inputs is None:
        return np.moveaxis(array, axes.channel, 0).reshape(groups, -1, inputs)
    moved = np.moveaxis(array, (axes.channel, axes.inputs), (0, -1))
    return moved.reshape(groups, -1, inputs)


def from_matrices(matrices: NDArray[D], axes: WeightAxes, shape: tuple[int, ...]) -> NDArray[D]:
    """Return matrices [groups, rows, K] as an array of `shape`, that of the weight: the inverse of `to_matrices`."""
    if axes.inputs is None:
        rest = [size for axis, size in enumerate(shape) if axis != axes.channel]
        return np.ascontiguousarray(np.moveaxis(matrices.reshape(shape[axes.channel], *rest), 0, axes.channel))
    rest = [size for axis, size in enumerate(shape) if axis not in (axes.channel, axes.inputs)]
    moved = matrices.reshape(shape[axes.channel], *rest, shape[axes.inputs])
    return np.ascontiguousarray(np.moveaxis(moved, (0, -1), (axes.channel, axes.inputs)))


@dataclass(frozen=True)
class LeastSquares:
    """min over stored weights V of E|W x - V q|^2 + damping |V - W|^2: the search for codes near its optimum.

    Attributes:
        problem: the weight, its blocks and format.
        moments: the moments of the inputs that count.
        damping: the share of the mean diagonal of the second moment that is added to its diagonal.
        factor: U, upper triangular, float64 [groups, K, K]: U^T U is the inverse of the damped second moment.
    """

    problem: WeightProblem
    moments: Moments
    damping: float
    factor: Float64Array

    @property
    def axes(self) -> WeightAxes:
        """The axes of the weight."""
        assert self.problem.axes is not None, "an algorithm that reads inputs gets the axes"
        return self.problem.axes

    def said(self, name: str) -> str:
        """Return the name of an algorithm, and the damping where that had to be raised to factor the matrix."""
        asked = self.problem.options["damping"]
        return name if self.damping == asked else f"{name}, damped by {self.damping:g} in place of {asked:g}"

    def matrices(self, array: NDArray[D]) -> NDArray[D]:
        """Return an array of the weight's shape as [groups, rows, K]."""
        groups, inputs, _ = self.moments.hessian.shape
        return to_matrices(array, self.axes, groups, inputs)

    def weights(self, matrices: NDArray[D]) -> NDArray[D]:
        """Return [groups, rows, K] in the weight's own axes."""
        return from_matrices(matrices, self.axes, self.problem.weight.shape)

    @cached_property
    def weight(self) -> Float64Array:
        """The float weight, float64 [groups, rows, K]."""
        return self.matrices(self.problem.weight).astype(np.float64)

    @cached_property
    def places(self) -> Int64Array:
        """The flat index of the block of every value, int64 [groups, rows, K]."""
        return self.matrices(affine.block_indices(self.problem.weight.shape, self.problem.block))

    @cached_property
    def hessian(self) -> Float64Array:
        """The damped second moment, float64 [groups, K, K]."""
        return damped(self.moments.hessian, self.damping)

    @cached_property
    def target(self) -> Float64Array:
        """The optimum of real values, float64 [groups, rows, K].

        Setting the derivative with respect to V to 0 gives V = W + W E[(x - q) q^T] (E[q q^T] + ridge)^-1.
        """
        if not self.moments.cross.any():
            return self.weight
        pulled = self.weight @ self.moments.cross
        return np.asarray(self.weight + (pulled @ self.factor.transpose(0, 2, 1)) @ self.factor)

    @cached_property
    def importance(self) -> Float32Array:
        """The damped second moment of the input that each value meets, float32 of the weight's shape."""
        diagonal = np.diagonal(self.hessian, axis1=1, axis2=2)[:, None, :]
        return self.weights(np.broadcast_to(diagonal, self.weight.shape)).astype(np.float32)

    def values(self, rounded: Rounded) -> Float64Array:
        """Return what codes stand for, float64 [groups, rows, K]."""
        zero_point = rounded.zero_point[self.places] if rounded.zero_point.any() else 0.0
        return np.asarray(rounded.scale[self.places] * (rounded.codes - zero_point))

    def nearest(self, values: Float64Array, scale: Float64Array, zero_point: Float64Array) -> Float64Array:
        """Return the nearest codes of `values`, all three of shapes that broadcast."""
        form = self.problem.codes
        return np.asarray(np.clip(np.rint(values / scale) + zero_point, form.lowest, form.highest))

    def rounded(self, codes: WeightCodes) -> Rounded:
        """Return codes as matrices."""
        scale, zero_point = (array.reshape(-1).astype(np.float64) for array in (codes.scale, codes.zero_point))
        return Rounded(self.matrices(codes.codes).astype(np.float64), scale, zero_point)

    def codes(self, rounded: Rounded) -> WeightCodes:
        """Return codes as the file holds them."""
        problem = self.problem
        return WeightCodes(
            self.weights(rounded.codes).astype(np.int8),
            rounded.scale.reshape(problem.grid).astype(np.float32),
            rounded.zero_point.reshape(problem.grid).astype(np.int64),
            problem.codes.stored_bits,
            problem.block,
        )

    def as_stored(self, scale: Float64Array) -> Float64Array:
        """Return scales, float64 [blocks], as the file can hold them: rounded, and not below their floor."""
        problem = self.problem
        floored, _ = problem.floored(scale.reshape(problem.grid), np.zeros(problem.grid))
        return affine.ROUNDED_SCALES[problem.codes.scales](floored).reshape(-1).astype(np.float64)

    def better(self, one: Rounded, other: Rounded) -> Rounded:
        """Return, for each set of rows that share scales, the codes of smaller output error; `one` of equal ones."""
        first, second = (self.moments.error(self.weight, self.values(each)) for each in (one, other))
        rows = self.places[:, :, 0]  # blocks are a grid: rows that share one scale share all
        labels, index = np.unique(rows, return_inverse=True)
        worse = np.bincount(index.reshape(-1), (first - second).reshape(-1), len(labels)) > 0
        if not worse.any():
            return one
        taken = worse[index.reshape(rows.shape)]
        scale, zero_point = one.scale.copy(), one.zero_point.copy()
        changed = np.unique(self.places[taken])
        scale[changed], zero_point[changed] = other.scale[changed], other.zero_point[changed]
        return Rounded(np.where(taken[:, :, None], other.codes, one.codes), scale, zero_point)


def nearest(squares: LeastSquares) -> Rounded:
    """Return the weight itself, each value rounded to nearest over the whole range of its block."""
    problem = squares.problem
    low, high = affine.block_extent(problem.weight, problem.block)
    scale, zero_point = problem.floored(*affine.weight_scale(low, high, problem.codes))
    return squares.rounded(affine.encode(problem.weight, problem.block, scale, zero_point, problem.codes))


def damped(hessian: Float64Array, damping: float) -> Float64Array:
    """Return second moments, float64 [groups, K, K], with a share of their mean diagonal added; 1 where they are 0."""
    diagonal = np.diagonal(hessian, axis1=1, axis2=2).mean(axis=1)
    ridge = np.where(diagonal > 0, damping * diagonal, 1.0)
    return hessian + ridge[:, None, None] * np.eye(hessian.shape[1])


def inverse_factor(hessian: Float64Array) -> Float64Array:
    """Return U, upper triangular, with U^T U the inverse of each positive definite matrix, both float64 [groups, K, K].

    With R the upper factor of H = R R^T, which the Cholesky factor of H in reverse order gives, U is the inverse of R.

    Raises:
        numpy.linalg.LinAlgError: a matrix is not positive definite.
    """
    upper = np.linalg.cholesky(hessian[:, ::-1, ::-1])[:, ::-1, ::-1]
    if len(upper) > 1:
        return np.triu(np.linalg.inv(upper))
    inverse, singular = dtrtri(upper[0])
    if singular:
        raise np.linalg.LinAlgError("a factor has a 0 on its diagonal")
    return np.asarray(inverse)[None]


def factored(problem: WeightProblem, moments: Moments, damping: float) -> LeastSquares:
    """Return the least squares problem with as much damping as its matrix needs.

    Args:
        problem: the weight.
        moments: the moments of its inputs.
        damping: the share of the mean diagonal that is added, ten times as much wherever that does not suffice.
    """
    while True:
        try:
            factor = moments.factors.get(damping)
            if factor is None:
                factor = moments.factors[damping] = inverse_factor(damped(moments.hessian, damping))
            if np.isfinite(factor).all():
                return LeastSquares(problem, moments, damping, factor)
        except np.linalg.LinAlgError:
            pass
        assert damping < MOST_DAMPING, "a second moment with its mean diagonal added has a factor"
        damping = min(max(damping, 1e-6) * 10, MOST_DAMPING)
