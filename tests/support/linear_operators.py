"""One linear operator as a float graph, with inputs before and after earlier operators were quantized."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Options, Subgraph, Tensor
from tfq_converters.operators import WeightAxes, weight_axes
from tfq_fine.algorithms import InputStatistics, OperatorInputs, WeightProblem, solve, to_matrices
from tfq_fine.numerics import CodeFormat, affine
from tfq_fine.request import Granularity, WeightSpec, block_shape

SAME, VALID = 0, 1


def _window(kind: str, axes: str, padding: int, stride: int, dilation: int, **more: Any) -> Options:
    strides = {f"stride{axis}": stride for axis in axes}
    dilations = {} if kind == "TransposeConvOptions" else {f"dilation{axis}Factor": dilation for axis in axes}
    return Options(kind, {"padding": padding, "fusedActivationFunction": 0} | strides | dilations | more)


@dataclass(frozen=True)
class Linear:
    """A linear operator over one input.

    Attributes:
        code: its name in the schema.
        data: the shape of its input.
        weight: float32, in its own axes.
        output: the shape of its output; the batch of the input along axis 0.
        options: its options.
    """

    code: str
    data: tuple[int, ...]
    weight: np.ndarray
    output: tuple[int, ...]
    options: Options

    @property
    def graph(self) -> Graph:
        """The operator alone, x -> y, without a bias; with one of zeros where kernels expect one."""
        tensors = [Tensor("x", self.data, "float32"), Tensor("w", self.weight.shape, "float32", data=self.weight)]
        tensors.append(Tensor("y", self.output, "float32"))
        operands: tuple[int, ...] = (0, 1, ABSENT) if self.code == "FULLY_CONNECTED" else (0, 1)
        if self.code in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            zeros = np.zeros(self.output[-1], np.float32)
            tensors.append(Tensor("b", zeros.shape, "float32", data=zeros))
            operands = (0, 1, 3)
        if self.code == "TRANSPOSE_CONV":
            size = np.array(self.output, np.int32)
            tensors.append(Tensor("size", size.shape, "int32", data=size))
            operands = (3, 1, 0)
        op = Op(self.code, operands, (2,), self.options, layer="linear")
        return Graph((Subgraph("main", tuple(tensors), (op,), (0,), (2,)),))

    @property
    def axes(self) -> WeightAxes:
        """The axes of the weight."""
        main = self.graph.main
        (axes,) = weight_axes(main.ops[0], main)
        return axes

    def inputs(
        self, exact: Sequence[np.ndarray], quantized: Sequence[np.ndarray] | None = None, apart: int = 0
    ) -> OperatorInputs:
        """The inputs on some samples; those of the float network where no others are given."""
        main = self.graph.main
        return OperatorInputs(main.ops[0], main, tuple(exact), tuple(exact if quantized is None else quantized), apart)

    def problem(
        self,
        inputs: OperatorInputs,
        form: CodeFormat,
        granularity: Granularity,
        floor: np.ndarray | None = None,
        keeps_mean: bool = False,
    ) -> WeightProblem:
        """The problem of the weight on these inputs."""
        axes, statistics = self.axes, InputStatistics(second_moment=second_moment(inputs), values=inputs)
        block = block_shape(granularity, self.weight.shape, axes.channel, axes.inputs)
        return WeightProblem(self.weight, block, form, axes, statistics, floor=floor, keeps_mean=keeps_mean)


def second_moment(inputs: OperatorInputs) -> np.ndarray:
    """That of the float inputs, float64 [groups, K, K]."""
    patches = np.concatenate([exact for exact, _ in inputs.patches()], axis=1).astype(np.float64)
    return np.asarray(np.einsum("gpk,gpl->gkl", patches, patches) / patches.shape[1])


def solved(problem: WeightProblem, algorithm: str, **options: float) -> Any:
    """The codes of an algorithm, options by name."""
    return solve(WeightSpec(algorithm=algorithm, options=options), problem)


def rounded(problem: WeightProblem) -> Any:
    """The codes of rounding to nearest over the whole extent of each block, scales not below their floor."""
    low, high = affine.block_extent(problem.weight, problem.block)
    scale, zero_point = problem.floored(*affine.weight_scale(low, high, problem.codes))
    return affine.encode(problem.weight, problem.block, scale, zero_point, problem.codes)


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def dense(inputs: int, outputs: int, rows: int = 3) -> Linear:
    """FULLY_CONNECTED."""
    values = {"fusedActivationFunction": 0, "weightsFormat": 0, "keepNumDims": True}
    options = Options("FullyConnectedOptions", values | {"asymmetricQuantizeInputs": False})
    return Linear("FULLY_CONNECTED", (rows, inputs), _random(outputs, inputs), (rows, outputs), options)


def _positions(size: int, window: int, padding: int, stride: int, dilation: int) -> int:
    return -(-size // stride) if padding == SAME else (size - (window - 1) * dilation - 1) // stride + 1


def conv(
    inputs: int, outputs: int, window: tuple[int, int] = (2, 3), groups: int = 1, padding: int = SAME,
    stride: int = 1, dilation: int = 1,
) -> Linear:  # fmt: skip
    """CONV_2D of an image of 7 x 9; `inputs` and `outputs` are those of one group."""
    height, width = (_positions(s, w, padding, stride, dilation) for s, w in zip((7, 9), window, strict=True))
    options = _window("Conv2DOptions", "HW", padding, stride, dilation)
    weight = _random(outputs * groups, *window, inputs)
    return Linear("CONV_2D", (1, 7, 9, inputs * groups), weight, (1, height, width, outputs * groups), options)


def depthwise(channels: int, multiplier: int, padding: int = SAME, stride: int = 1, dilation: int = 1) -> Linear:
    """DEPTHWISE_CONV_2D of an image of 7 x 9."""
    height, width = (_positions(s, w, padding, stride, dilation) for s, w in zip((7, 9), (3, 2), strict=True))
    options = _window("DepthwiseConv2DOptions", "HW", padding, stride, dilation, depthMultiplier=multiplier)
    outputs = channels * multiplier
    return Linear(
        "DEPTHWISE_CONV_2D", (1, 7, 9, channels), _random(1, 3, 2, outputs), (1, height, width, outputs), options
    )


def transposed(inputs: int, outputs: int) -> Linear:
    """TRANSPOSE_CONV of an image of 3 x 5 to one of 6 x 10."""
    options = _window("TransposeConvOptions", "HW", SAME, 2, 1)
    return Linear("TRANSPOSE_CONV", (1, 3, 5, inputs), _random(outputs, 3, 2, inputs), (1, 6, 10, outputs), options)


def conv_3d(inputs: int, outputs: int, padding: int = VALID, stride: int = 1) -> Linear:
    """CONV_3D of a volume of 4 x 5 x 3."""
    window = (2, 3, 1)
    sizes = (_positions(s, w, padding, stride, 1) for s, w in zip((4, 5, 3), window, strict=True))
    options = _window("Conv3DOptions", "DHW", padding, stride, 1)
    return Linear("CONV_3D", (1, 4, 5, 3, inputs), _random(*window, inputs, outputs), (1, *sizes, outputs), options)


def matmul(
    inputs: int, outputs: int, matrices: int | None = None, swapped: bool = False, turned: bool = False
) -> Linear:
    """BATCH_MATMUL by a constant.

    Args:
        inputs: its rows.
        outputs: its columns.
        matrices: how many matrices it holds, one for each row of the batch; None for one that all share.
        swapped: whether the constant is transposed.
        turned: whether the input is.
    """
    outer = (2,) if matrices is None else (matrices,)
    sides = (outputs, inputs) if swapped else (inputs, outputs)
    weight = _random(*(() if matrices is None else outer), *sides)
    values = {"adjX": turned, "adjY": swapped, "asymmetricQuantizeInputs": False}
    data = (*outer, inputs, 5) if turned else (*outer, 5, inputs)
    return Linear("BATCH_MATMUL", data, weight, (*outer, 5, outputs), Options("BatchMatMulOptions", values))


OPERATORS = {
    "dense": dense(11, 7),
    "conv": conv(5, 7),
    "conv_strided": conv(3, 4, (3, 3), padding=VALID, stride=2),
    "conv_dilated": conv(2, 5, dilation=2),
    "grouped": conv(3, 2, groups=5),
    "depthwise": depthwise(5, 1, padding=VALID),
    "depthwise_multiplied": depthwise(5, 3, stride=2),
    "transposed": transposed(5, 3),
    "conv_3d": conv_3d(3, 5),
    "conv_3d_strided": conv_3d(2, 3, SAME, 2),
    "matmul": matmul(11, 7),
    "matmul_swapped": matmul(5, 7, swapped=True),
    "matmuls": matmul(5, 7, matrices=3),
    "matmuls_turned": matmul(5, 3, matrices=2, swapped=True, turned=True),
}


def correlated(shape: tuple[int, ...], samples: int, seed: int = 0) -> list[np.ndarray]:
    """Inputs whose channels are mixtures of fewer sources and some noise, smooth over an image, as in networks."""
    rng = np.random.default_rng(seed)
    channels = shape[-1]
    mixing = rng.normal(size=(max(channels // 3, 1), channels)) / np.sqrt(max(channels // 3, 1))
    inputs = []
    for _ in range(samples):
        sources = rng.normal(size=(*shape[:-1], len(mixing)))
        for axis in range(1, len(shape) - 1):
            sources = (sources + np.roll(sources, 1, axis)) / np.sqrt(2)
        inputs.append((sources @ mixing + 0.3 * rng.normal(size=shape)).astype(np.float32))
    return inputs


def drifted(linear: Linear, samples: int = 8) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs in float, and as earlier operators leave them: scaled, shifted and noisy, channel by channel."""
    exact = correlated(linear.data, samples)
    rng = np.random.default_rng(1)
    channels = linear.data[-1]
    factors, shifts = rng.uniform(0.8, 1.2, channels), rng.normal(size=channels) * 0.3
    noise = [rng.normal(size=x.shape) * 0.05 for x in exact]
    return exact, [(x * factors + shifts + n).astype(np.float32) for x, n in zip(exact, noise, strict=True)]


def joined_patches(problem: WeightProblem) -> tuple[np.ndarray, np.ndarray]:
    """All patches, exact and quantized, float64 [groups, patches, K]."""
    values = problem.inputs.values
    assert values is not None
    exact, quantized = zip(*values.patches(0, values.fitted), strict=True)
    return tuple(np.concatenate(each, axis=1).astype(np.float64) for each in (exact, quantized))  # type: ignore[return-value]


def as_matrices(problem: WeightProblem, array: np.ndarray) -> np.ndarray:
    """An array of the shape of the weight as [groups, rows, K]."""
    assert problem.axes is not None
    groups, _, inputs = joined_patches(problem)[0].shape
    return to_matrices(array, problem.axes, groups, inputs)


def output_error(problem: WeightProblem, stored: np.ndarray, keeps_mean: bool = False) -> np.ndarray:
    """E|W x - V q|^2 of every output, [groups, rows], on the patches themselves."""
    exact, quantized = joined_patches(problem)
    weight, values = (as_matrices(problem, array).astype(np.float64) for array in (problem.weight, stored))
    difference = weight @ exact.transpose(0, 2, 1) - values @ quantized.transpose(0, 2, 1)
    if keeps_mean:
        difference -= difference.mean(axis=2, keepdims=True)
    return np.asarray(np.square(difference).mean(axis=2))
