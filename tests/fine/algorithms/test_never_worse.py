"""What holds for the codes of every algorithm, whatever operator, granularity and format they are for."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.linear_operators import (
    Linear,
    as_matrices,
    conv,
    conv_3d,
    correlated,
    dense,
    depthwise,
    matmul,
    output_error,
    rounded,
    solved,
    transposed,
)
from tfq_fine.algorithms import ALGORITHMS, WeightProblem
from tfq_fine.algorithms.least_squares import from_matrices
from tfq_fine.numerics import CodeFormat, affine
from tfq_fine.request.granularity import Blocks, ChannelGroups, Granularity, PerChannel, PerTensor

FITTED = [name for name, row in ALGORITHMS.items() if row.scope == "operator"]


@st.composite
def linears(draw: st.DrawFn) -> Linear:
    """Operators whose sides have no factor in common."""
    small, other, third = draw(st.permutations([2, 3, 5, 7]).map(lambda sides: sides[:3]))
    kind = draw(st.sampled_from(["dense", "conv", "grouped", "depthwise", "transposed", "3d", "matmul", "matmuls"]))
    made = {
        "dense": lambda: dense(small * other + 1, third),
        "conv": lambda: conv(small, other, stride=draw(st.integers(1, 2))),
        "grouped": lambda: conv(small, other, groups=third),
        "depthwise": lambda: depthwise(small, other),
        "transposed": lambda: transposed(small, other),
        "3d": lambda: conv_3d(small, other),
        "matmul": lambda: matmul(11 * small, other, swapped=draw(st.booleans())),
        "matmuls": lambda: matmul(small * other, third, matrices=other),
    }
    return made[kind]()


@dataclass(frozen=True)
class Drawn:
    """A problem, and whether what earlier operators did is to be corrected."""

    linear: Linear
    form: CodeFormat
    granularity: Granularity
    seed: int
    drift: float
    keeps_mean: bool
    apart: int
    floor: float

    @property
    def problem(self) -> WeightProblem:
        linear, rng = self.linear, np.random.default_rng(self.seed)
        channels = linear.weight.shape[linear.axes.channel]
        size = np.exp(rng.normal(size=channels))  # so that each channel has a scale of its own
        shape = [-1 if axis == linear.axes.channel else 1 for axis in range(linear.weight.ndim)]
        weight = rng.normal(size=linear.weight.shape) * size.reshape(shape)
        linear = replace(linear, weight=weight.astype(np.float32))
        exact = correlated(linear.data, 4, self.seed)
        quantized = [(x * (1 + self.drift) + self.drift * rng.normal(size=x.shape)).astype(np.float32) for x in exact]
        step = np.abs(weight).max() / max(self.form.highest, 1)
        floor = self.floor * step * rng.uniform(0, 1, channels) if self.floor else None
        inputs = linear.inputs(exact, quantized, self.apart)
        return linear.problem(inputs, self.form, self.granularity, floor, self.keeps_mean)


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Every combination that a file may hold: half-precision scales and floors belong to different kernels."""
    linear = draw(linears())
    has_inputs = linear.axes.inputs is not None
    kinds: list[Granularity] = [PerTensor(), PerChannel(), ChannelGroups(2), ChannelGroups(3)]
    kinds += [Blocks(3), Blocks(4)] if has_inputs else []
    symmetric = draw(st.booleans())
    scales = draw(st.sampled_from(["float32", "float16", "bfloat16"])) if symmetric else "float32"
    bits = draw(st.integers(2, 8))
    full = symmetric and bits < 8 and draw(st.booleans())
    floor = draw(st.sampled_from([0.0, 0.5, 3.0])) if scales == "float32" else 0.0
    return Drawn(
        linear,
        CodeFormat(bits, symmetric, scales, full),
        draw(st.sampled_from(kinds)),
        draw(st.integers(0, 99)),
        draw(st.sampled_from([0.0, 0.1])),
        draw(st.booleans()),
        draw(st.integers(0, 1)),
        floor,
    )


def stored_scales(scale: np.ndarray, form: CodeFormat) -> np.ndarray:
    """Scales as the file holds them, in float64."""
    if form.scales == "float32":
        return scale.astype(np.float32).astype(np.float64)
    held = scale.astype(np.float16).astype(np.float64)
    if form.scales == "bfloat16":  # 8 significant bits
        mantissa, _ = np.frexp(held)
        assert (mantissa * 256 == np.rint(mantissa * 256)).all()
    return held


def judged_error(problem: WeightProblem, stored: np.ndarray, apart: bool) -> float:
    """The output error on the samples that the algorithm chose its codes by."""
    values = problem.inputs.values
    assert values is not None
    if apart and values.apart:
        split = values.fitted
        values = replace(values, exact=values.exact[split:], quantized=values.quantized[split:], apart=0)
        problem = replace(problem, inputs=replace(problem.inputs, values=values))
    return float(output_error(problem, stored, problem.keeps_mean).sum())


@pytest.mark.parametrize("algorithm", FITTED)
@settings(max_examples=60)
@given(case=drawn())
def test_no_fitted_codes_are_worse_than_rounding_on_the_data_that_they_are_chosen_by(algorithm: str, case: Drawn):
    """By the error that it sees: `gptq` knows nothing of float inputs, `balanced` and `best` judge on samples apart."""
    problem = case.problem
    values = problem.inputs.values
    assert values is not None
    seen = problem
    if algorithm == "gptq":
        seen = replace(problem, inputs=replace(problem.inputs, values=replace(values, exact=values.quantized)))
    apart = algorithm in ("balanced", "best")
    fitted = judged_error(seen, solved(problem, algorithm).dequantize(), apart)
    plain = judged_error(seen, rounded(problem).dequantize(), apart)
    assert fitted <= plain * (1 + 1e-5) + 1e-9  # sums of float32


@settings(max_examples=40)
@given(case=drawn())
def test_codes_weighted_by_second_moments_are_no_worse_than_rounding_in_any_block(case: Drawn):
    """By the squared error times the second moment of the input that each value meets."""
    problem = case.problem
    moment, axes = problem.inputs.second_moment, problem.axes
    assert moment is not None and axes is not None
    squares = np.diagonal(moment, axis1=1, axis2=2)[:, None, :]
    matrices = np.broadcast_to(squares, as_matrices(problem, problem.weight).shape)
    importance = from_matrices(matrices, axes, problem.weight.shape).astype(np.float32)
    error = affine.squared_error(problem.weight, solved(problem, "mse_clip_weighted"), importance)
    plain = affine.squared_error(problem.weight, rounded(problem), importance)
    assert (error <= plain * (1 + 1e-5) + 1e-12).all()


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"clusters"}))
@settings(max_examples=40)
@given(case=drawn())
def test_codes_and_scales_are_those_of_the_format(algorithm: str, case: Drawn):
    problem, form = case.problem, case.form
    codes = solved(problem, algorithm)
    assert codes.codes.min() >= form.lowest and codes.codes.max() <= form.highest
    assert codes.block == problem.block and codes.bits == form.stored_bits
    assert codes.scale.dtype == np.float32 and codes.zero_point.dtype == np.int64
    np.testing.assert_array_equal(stored_scales(codes.scale, form), codes.scale.astype(np.float64))
    assert np.isfinite(codes.scale).all() and (codes.scale != 0).all()
    assert form.signed_scales or (codes.scale > 0).all()
    if form.symmetric:
        assert (codes.zero_point == 0).all()
    assert (codes.zero_point >= form.lowest).all() and (codes.zero_point <= form.highest).all()
    rounds = algorithm == "round_to_nearest" or (algorithm == "auto" and form.bits == 8)  # scales are raised after
    if case.floor and not rounds:
        assert (codes.scale >= problem.scale_floor.astype(np.float32)).all()


@pytest.mark.parametrize("algorithm", ["mse_clip", "octav", "hqq", "auto"])
@settings(max_examples=40)
@given(case=drawn())
def test_codes_without_data_are_no_worse_than_rounding_in_any_block(algorithm: str, case: Drawn):
    """By squared error; `hqq` by its own norm, which is set to it. At 8 bits `auto` is rounding, whatever the floor."""
    problem = case.problem if algorithm != "auto" or case.form.bits < 8 else replace(case, floor=0.0).problem
    options = {"norm": 2.0} if algorithm == "hqq" else {}
    error = affine.squared_error(problem.weight, solved(problem, algorithm, **options))
    plain = affine.squared_error(problem.weight, rounded(problem))
    assert (error <= plain * (1 + 1e-5) + 1e-12).all()
