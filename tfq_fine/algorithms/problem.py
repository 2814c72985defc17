"""The problem that a weight algorithm solves, and the row that describes an algorithm."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tfq_converters.graph import Float32Array, Float64Array, FloatArray, Op, Subgraph
from tfq_converters.operators import WeightAxes, data_of, facts_of, lstm, weight_axes
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.input_patches import patches
from tfq_fine.algorithms.moments import MOST_PATCHES, Moments, moments_of
from tfq_fine.numerics import CodeFormat

D = TypeVar("D", bound=np.generic)
Statistic = Literal["channel_mean", "channel_absmax", "second_moment", "inputs"]
Scope = Literal["weight", "operator"]


def has_state(op: Op, subgraph: Subgraph) -> bool:
    """Return whether an operator is a fused LSTM whose input, and output a step before, tell what its weights read."""
    return op.code == lstm.CODE and not lstm.unusual(op, subgraph)


def has_statistics(op: Op, subgraph: Subgraph) -> bool:
    """Return whether calibration can observe the input of a linear operator of the main subgraph."""
    if not facts_of(op.code).linear or not weight_axes(op, subgraph):
        return False
    data = subgraph.tensors[data_of(op)]
    return not data.is_constant and bool(data.shape) and 0 not in data.shape


@dataclass(frozen=True)
class OperatorInputs:
    """The input of one linear operator on a few samples, in float and as the quantized operators before it compute it.

    Both tuples hold one float32 array for each sample, of the shape that the operator reads.
    """

    op: Op
    subgraph: Subgraph
    exact: tuple[Float32Array, ...]
    quantized: tuple[Float32Array, ...]
    apart: int = 0  # the number of samples at the end that nothing is fitted to
    state: "OperatorInputs | None" = None  # what recurrent weights of a fused LSTM read: its output, a step before

    @property
    def fitted(self) -> int:
        """The number of samples that algorithms fit weights to."""
        return len(self.exact) - self.apart

    def patches(
        self, first: int = 0, stop: int | None = None, most: int = MOST_PATCHES
    ) -> Iterator[tuple[Float32Array, Float32Array]]:
        """Yield, for each sample, the patches that output values are computed from: (exact, quantized).

        Each is float32 [groups, patches, K], K in the order of the weight (`patches`). Of an input with many, as many
        as `most` asks for.

        Args:
            first: the first sample.
            stop: the sample after the last one; None for all.
            most: the number of patches of all samples, or ten for each input where that is more.
        """
        exact, quantized = self.exact[first:stop], self.quantized[first:stop]
        most = -(-max(most, 10 * self._inputs) // max(len(exact), 1))
        for n, (mine, other) in enumerate(zip(exact, quantized, strict=True)):
            yield tuple(patches(data, self.op, self.subgraph, most, first + n) for data in (mine, other))  # type: ignore[misc]

    @property
    def _inputs(self) -> int:
        """The number of values that an output value is computed from, at most."""
        (axes, *_) = weight_axes(self.op, self.subgraph)
        shape = self.subgraph.tensors[self.op.inputs[axes.slot]].shape
        return math.prod(shape) // shape[axes.channel]

    @cached_property
    def moments(self) -> Moments:
        """The moments over the samples that algorithms fit weights to."""
        return moments_of(self.patches(0, self.fitted))

    @cached_property
    def quantized_moments(self) -> Moments:
        """Like `moments`, but without `cross`: for those who see quantized inputs alone."""
        return moments_of(self.patches(0, self.fitted), crosses=False)

    @property
    def means(self) -> tuple[Float64Array, Float64Array]:
        """The means of exact and of quantized patches, float64 [groups, K] each, of moments that are known already."""
        moments: Moments = self.__dict__.get("moments") or self.quantized_moments
        return moments.exact_mean, moments.quantized_mean

    @cached_property
    def float_moments(self) -> Moments:
        """The moments over these samples of the float inputs, as if no earlier operator were quantized."""
        return moments_of((exact, exact) for exact, _ in self.patches(0, self.fitted))

    @cached_property
    def moments_apart(self) -> Moments:
        """The moments over the other samples; of the same ones where there are no others."""
        return moments_of(self.patches(self.fitted, most=MOST_PATCHES // 4)) if self.apart else self.moments


@dataclass(frozen=True)
class MomentInputs(OperatorInputs):
    """The input of an operator of which the moments alone are known, in float: of one inside a loop, over all steps.

    There are no patches, and what earlier operators lost is not known.
    """

    of_fitted: Moments | None = None
    of_others: Moments | None = None  # over the samples that nothing is fitted to; None where there are none

    @property
    def moments(self) -> Moments:
        """The moments over the samples that algorithms fit weights to."""
        assert self.of_fitted is not None
        return self.of_fitted

    quantized_moments = float_moments = moments

    @property
    def moments_apart(self) -> Moments:
        """The moments over the other samples; of the same ones where there are no others."""
        return self.moments if self.of_others is None else self.of_others

    @property
    def means(self) -> tuple[Float64Array, Float64Array]:
        """The mean of the input, twice: [1, K]."""
        return self.moments.exact_mean, self.moments.quantized_mean


@dataclass(frozen=True)
class InputStatistics:
    """The statistics of one operator's input; None for those that the algorithm does not read or that nobody took."""

    mean: Float64Array | None = None  # "channel_mean": float64 [I]
    absmax: Float32Array | None = None  # "channel_absmax": float32 [I]
    second_moment: Float64Array | None = None  # "second_moment": float64 [groups, K, K]
    values: OperatorInputs | None = None  # "inputs"

    def missing(self, reads: frozenset[Statistic]) -> list[str]:
        """Return the statistics among `reads` that are not there."""
        values = {
            "channel_mean": self.mean,
            "channel_absmax": self.absmax,
            "second_moment": self.second_moment,
            "inputs": self.values,
        }
        return [name for name in sorted(reads) if values[name] is None]


@dataclass(frozen=True)
class WeightProblem:
    """One constant operand of a linear operator, and the form in which the file holds it.

    Attributes:
        weight: float32, in the operator's own axes.
        block: the shape of the block of values that share a scale.
        codes: the bits and the type of scales of the codes.
        axes: the axes of output channels and inputs; None where an algorithm that reads no inputs is called alone.
        inputs: what the algorithm's row reads of the operator's input.
        options: the options of the row, defaults included.
        floor: the smallest scale that kernels can compute with, [channels], or [1] for all output channels.
        keeps_mean: a bias takes back what the error of the weights does to the mean of the outputs.
    """

    weight: Float32Array
    block: tuple[int, ...]
    codes: CodeFormat
    axes: WeightAxes | None = None
    inputs: InputStatistics = InputStatistics()
    options: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    floor: FloatArray | None = None
    keeps_mean: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of blocks along each axis: the shape of the scales."""
        return tuple(-(-size // length) for size, length in zip(self.weight.shape, self.block, strict=True))

    @cached_property
    def scale_floor(self) -> FloatArray:
        """The smallest scales, of a shape that broadcasts against the scales of the blocks."""
        if self.floor is None:
            return np.zeros((1,) * self.weight.ndim)
        assert self.axes is not None, "scales have a floor in kernels, which know the axes"
        channel, length = self.axes.channel, self.block[self.axes.channel]
        if len(self.floor) == 1:
            return self.floor.reshape((1,) * self.weight.ndim)
        filled = np.pad(self.floor, (0, -len(self.floor) % length))
        shape = [-1 if axis == channel else 1 for axis in range(self.weight.ndim)]
        return np.asarray(filled.reshape(-1, length).max(axis=1).reshape(shape))

    def floored(self, scale: FloatArray, zero_point: NDArray[D]) -> tuple[Float32Array, NDArray[D]]:
        """Return scales that are not below their floor, float32, and zero points unchanged.

        Both have the rank of the weight, with its shape divided by that of a block.
        """
        kept = np.copysign(np.maximum(np.abs(scale), self.scale_floor), scale)  # negative ones are `signed_scales`
        return kept.astype(np.float32), zero_point

    def moments(self, apart: bool = False) -> Moments:
        """Return the moments of the inputs that algorithms fit to, or of those `apart` that they are judged on."""
        moments = self._values.moments_apart if apart else self._values.moments
        return moments.centred if self.keeps_mean else moments

    def quantized_moments(self) -> Moments:
        """Return the moments of quantized inputs that algorithms fit to, as if they were those of the float model."""
        moments = self._values.quantized_moments.on_float_inputs
        return moments.centred if self.keeps_mean else moments

    def float_moments(self) -> Moments:
        """Return the moments of the inputs in the float model that algorithms fit to."""
        moments = self._values.float_moments
        return moments.centred if self.keeps_mean else moments

    @property
    def _values(self) -> OperatorInputs:
        assert self.inputs.values is not None, "the row of the algorithm reads the inputs"
        return self.inputs.values


@dataclass(frozen=True)
class Solution:
    """The codes of a weight, and how they were found where an algorithm has several ways."""

    codes: WeightCodes
    how: str


@dataclass(frozen=True)
class Option:
    """A number that a user may set, its default and its limits, which are allowed values too."""

    default: float
    low: float
    high: float
    whole: bool = False

    def problem(self, name: str, value: object) -> str:
        """Return the reason why `value` cannot be used; "" when it can."""
        kind = "a whole number" if self.whole else "a number"
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number and self.low <= value <= self.high and not (self.whole and value != int(value))  # type: ignore[operator, call-overload]
        return "" if fits else f"{name}={value}: expected {kind} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Algorithm:
    """A way to choose the codes and scales of a weight.

    Attributes:
        solve: the function that does it.
        reads: the statistics of the operator's input that it cannot do without.
        options: its options by name.
        keeps_equal: equal values get equal codes, so that no transform may scale the inputs apart.
        scope: "weight" where the weight and `reads` are all that it sees; "operator" where it runs in graph order on
            inputs that earlier operators compute once quantized (`calibration.layerwise`), which "inputs" asks for.
        learns: how many operators' roundings are learned by gradients from what `solve` returns: those of one operator,
            or of a block (`weights.reconstruct`), in as many steps as the option "steps" says.
        by_moments: whether moments of the inputs are all that it reads of "inputs", so that it fits weights inside
            loops, too.
        stand_in: the algorithm in its place where what it reads is not known, such as the inputs of a table, and while
            variants of the model are compared.
    """

    solve: Callable[[WeightProblem], WeightCodes | Solution]
    reads: frozenset[Statistic] = frozenset()
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    keeps_equal: bool = False
    scope: Scope = "weight"
    learns: Literal["", "operator", "block"] = ""
    by_moments: bool = False
    stand_in: str = "round_to_nearest"

    def __post_init__(self) -> None:
        assert ("inputs" in self.reads) == (self.scope == "operator"), "the inputs are read in graph order"

    def with_defaults(self, options: Mapping[str, float]) -> dict[str, float]:
        """Return all options, those that are not in `options` at their defaults."""
        return {name: option.default for name, option in self.options.items()} | dict(options)
