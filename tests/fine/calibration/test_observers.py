"""Every observer against plain NumPy over the raw values, and what they are for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfq_converters.graph import Op, Options, Subgraph, Tensor
from tfq_fine.calibration.observers import OBSERVERS
from tfq_fine.calibration.observers.second_moment import second_moment
from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Extremes, MovingRange, Range
from tfq_fine.numerics.histogram import Counter, Histogram

RNG = np.random.default_rng(7)


def exact(values: np.ndarray) -> np.ndarray:
    """Values of 8 significant bits, which a histogram holds exactly."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(fraction * 256) / 256, exponent).astype(np.float32)


NORMAL = exact(RNG.normal(0.3, 1.7, size=997))
RECTIFIED = exact(np.maximum(RNG.normal(size=1009), 0))
HEAVY = exact(RNG.standard_t(2, size=1013))
DATA = {"normal": NORMAL, "rectified": RECTIFIED, "heavy": HEAVY, "negative": -RECTIFIED, "one": NORMAL[:1]}


def seen(values: np.ndarray) -> TensorStatistics:
    return TensorStatistics(Range(float(values.min()), float(values.max())), Histogram.of(values))


def choose(name: str, values: np.ndarray, bits: int = 8, **options: float) -> Range:
    observer = OBSERVERS[name]
    return observer.choose(seen(values), bits, {**observer.options, **options})


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False), min_size=1, max_size=50))
def test_a_histogram_rounds_to_eight_bits_and_counts_all(given_values: list[float]) -> None:
    values = np.array(given_values, np.float32)
    found = Histogram.of(values)
    assert found.total == len(values) and (np.diff(found.values) > 0).all() and (found.counts > 0).all()
    again = np.sort(np.repeat(found.values, found.counts))
    # half a unit of 8 significant bits; below the smallest normal number, half of its unit
    np.testing.assert_allclose(again, np.sort(values), rtol=2**-8, atol=2.0**-134)


def test_all_bit_patterns_of_bfloat16_keep_their_value_and_order() -> None:
    patterns = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
    values = patterns.view(np.float32)
    finite = values[np.isfinite(values)]
    found = Histogram.of(finite)
    np.testing.assert_array_equal(found.values, np.unique(finite))
    assert found.counts.max() == 2 and found.counts.sum() == len(finite)  # both zeros are 0


def test_what_rounds_to_infinity_stays_finite() -> None:
    assert np.isfinite(Histogram.of(np.array([3.4028235e38, -3.4028235e38], np.float32)).values).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_histograms_of_any_partition_are_the_same(seed: int, parts: int) -> None:
    values = np.random.default_rng(seed).standard_t(1, size=101).astype(np.float32)
    pieces = np.array_split(values, parts)
    merged = Histogram.of(pieces[0])
    for piece in pieces[1:]:
        merged = merged.merge(Histogram.of(piece))
    assert merged == Histogram.of(values)


def test_a_counter_keeps_tensors_apart() -> None:
    rows = RNG.normal(size=(7, 11 + 1 + 5)).astype(np.float32)
    counter = Counter([11, 1, 5])
    for row in rows:
        counter.add(row)
    first, second, third = counter.histograms()
    assert (
        first == Histogram.of(rows[:, :11])
        and second == Histogram.of(rows[:, 11])
        and third == Histogram.of(rows[:, 12:])
    )


@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
def test_min_max_is_the_whole_range(values: np.ndarray) -> None:
    assert choose("min_max", values) == (values.min(), values.max())


@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
@pytest.mark.parametrize("p", [99.99, 99.0, 75.0])
def test_percentile_is_numpys(values: np.ndarray, p: float) -> None:
    expected = [np.percentile(values, q, method="inverted_cdf") for q in (100 - p, p)]
    assert choose("percentile", values, percentile=p) == tuple(expected)


def test_percentile_of_each_tail_by_itself() -> None:
    low, high = choose("percentile", NORMAL, lower=0, upper=90)
    assert (low, high) == (NORMAL.min(), np.percentile(NORMAL, 90, method="inverted_cdf"))


@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
def test_mean_std_is_numpys(values: np.ndarray) -> None:
    mean, deviation = values.astype(np.float64).mean(), values.astype(np.float64).std()
    expected = max(mean - 1.5 * deviation, values.min()), min(mean + 1.5 * deviation, values.max())
    # sums in another order, in float64
    np.testing.assert_allclose(choose("mean_std", values, deviations=1.5), expected, rtol=1e-9)


def rounded(values: np.ndarray, low: float, high: float, bits: int) -> np.ndarray:
    """Quantization written from Jacob et al. 2018, equation 1."""
    if bits == 16:
        scale, zero, least = np.float32(max(-low, high) / 32767), 0, -32767
    else:
        least = -(2 ** (bits - 1))
        scale = np.float32((max(high, 0) - min(low, 0)) / (2**bits - 1))
        zero = int(np.clip(np.rint(least - min(low, 0) / scale), least, -least - 1))
    codes = np.clip(np.rint(values / scale) + zero, least, 2 ** (bits - 1) - 1)
    return (codes - zero) * scale


def error(values: np.ndarray, found: Range, bits: int) -> float:
    return float(np.square(rounded(values, *found, bits) - values.astype(np.float64)).sum())


@pytest.mark.parametrize(
    "values", [NORMAL, RECTIFIED, HEAVY, -RECTIFIED], ids=["normal", "rectified", "heavy", "negative"]
)
@pytest.mark.parametrize("bits", [8, 16])
def test_mse_has_the_least_error_of_a_grid(values: np.ndarray, bits: int) -> None:
    found = choose("mse", values, bits)
    whole = Range(float(values.min()), float(values.max()))
    assert error(values, found, bits) <= error(values, whole, bits) * (1 + 1e-5)  # sums of float32
    if bits == 8:  # a search of both ends at once, at the same shares, is not better by more than the descent may miss
        shares = 2.0 ** -np.arange(0, 8, 0.125)
        lows = whole.low * shares if whole.low < 0 else [whole.low]
        highs = whole.high * shares if whole.high > 0 else [whole.high]
        best = min(error(values, Range(low, high), bits) for low in lows for high in highs)
        assert error(values, found, bits) <= 1.02 * best


def entropy_threshold(values: np.ndarray, levels: int, most: int) -> float:
    """Migacz 2017, pages 30 to 36, over the raw values: one loop per threshold and level."""
    magnitudes = np.abs(values[values != 0]).astype(np.float64)
    top, bins = magnitudes.max(), levels * most
    counts = np.bincount(np.minimum((magnitudes * (bins / top)).astype(int), bins - 1), minlength=bins).astype(float)
    best, threshold = math.inf, top
    for per_level in range(most, 0, -1):
        kept = levels * per_level
        p, q = counts[:kept].copy(), np.zeros(kept)
        for level in range(levels):
            piece = slice(level * per_level, (level + 1) * per_level)
            filled = counts[piece] > 0
            if filled.any():
                q[piece][filled] = counts[piece].sum() / filled.sum()
        p[-1] += counts[kept:].sum()
        q[(p > 0) & (q == 0)] = 1e-4
        q[p == 0] = 0
        p, q = p / p.sum(), q / q.sum()
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        if divergence < best - 1e-12:
            best, threshold = divergence, top * per_level / most
    return float(threshold)


@pytest.mark.parametrize("values", [NORMAL, RECTIFIED, HEAVY], ids=["normal", "rectified", "heavy"])
def test_entropy_is_that_of_the_slides(values: np.ndarray) -> None:
    levels = 128 if values.min() < 0 else 256
    threshold = entropy_threshold(values, levels, 32)
    expected = max(float(values.min()), -threshold), min(float(values.max()), threshold)
    np.testing.assert_allclose(choose("entropy", values), expected, rtol=1e-6)


def test_entropy_clips_a_lonely_outlier() -> None:
    values = np.concatenate([NORMAL, exact(np.array([60.0]))])
    assert choose("entropy", values).high < 10


def moving(values: list[tuple[float, float]], momentum: float) -> MovingRange:
    found = MovingRange(momentum)
    for low, high in values:
        one = MovingRange(momentum, low * (1 - momentum), high * (1 - momentum), 1 - momentum)
        found = found.then(one)
    return found


@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(0, 9)), min_size=1, max_size=9), st.integers(0, 9))
def test_a_moving_average_is_the_weighted_mean_and_continues(runs: list[tuple[float, float]], cut: int) -> None:
    weights = np.array([0.9**age for age in range(len(runs))])[::-1]
    expected = np.average(np.array(runs), axis=0, weights=weights)
    whole = moving(runs, 0.9)
    np.testing.assert_allclose(whole.range, expected, atol=1e-12)  # float64
    np.testing.assert_allclose(moving(runs[:cut], 0.9).then(moving(runs[cut:], 0.9)).range, expected, atol=1e-12)
    assert OBSERVERS["moving_average"].choose(TensorStatistics(Range(-9, 9), moving=whole), 8, {}) == whole.range


def with_accident(scale: float) -> TensorStatistics:
    runs = RNG.normal(size=(50, 64)).astype(np.float32)
    runs[13] *= scale
    extremes = Extremes(Histogram.of(runs.min(1)), Histogram.of(runs.max(1)))
    return TensorStatistics(Range(float(runs.min()), float(runs.max())), Histogram.of(runs), extremes)


@pytest.mark.parametrize("name", ["percentile", "mean_std", "mse", "entropy", "auto"])
def test_one_sample_unlike_all_others_is_left_out(name: str) -> None:
    observer, found = OBSERVERS[name], with_accident(50)
    assert found.range.absmax > 80
    assert observer.choose(found, 8, observer.options).absmax < 6
    if name in ("mse", "entropy", "mean_std"):
        assert observer.choose(found, 8, {**observer.options, "fence": 0}).absmax > 6  # what the fence is for


def test_ordinary_samples_are_all_within_the_fence() -> None:
    found = with_accident(1)
    assert found.within().range == found.range


def linear(code: str, options: dict[str, object], weight: np.ndarray, shape: tuple[int, ...]) -> tuple[Op, Subgraph]:
    tensors = (
        Tensor("x", shape, "float32"),
        Tensor("w", weight.shape, "float32", data=weight),
        Tensor("y", (1,), "float32"),
    )
    op = Op(code, (0, 1), (2,), Options("", options))
    return op, Subgraph("main", tensors, (op,), (0,), (2,))


def convolved(x: np.ndarray, w: np.ndarray, options: dict[str, int], groups: int) -> list[list[np.ndarray]]:
    """The patches that a convolution reads, one after the other, as CONV_2D is specified, by groups."""
    n, height, width, channels = x.shape
    kh, kw = w.shape[1:3]
    sh, sw, dh, dw = (options[k] for k in ("strideH", "strideW", "dilationHFactor", "dilationWFactor"))
    eh, ew = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    if options["padding"] == 0:
        oh, ow = -(-height // sh), -(-width // sw)
        top, left = max((oh - 1) * sh + eh - height, 0) // 2, max((ow - 1) * sw + ew - width, 0) // 2
    else:
        oh, ow, top, left = (height - eh) // sh + 1, (width - ew) // sw + 1, 0, 0
    per = channels // groups
    found: list[list[np.ndarray]] = [[] for _ in range(groups)]
    for image in range(n):
        for r in range(oh):
            for c in range(ow):
                for g in range(groups):
                    patch = np.zeros((kh, kw, per))
                    for i in range(kh):
                        for j in range(kw):
                            y, z = r * sh + i * dh - top, c * sw + j * dw - left
                            if 0 <= y < height and 0 <= z < width:
                                patch[i, j] = x[image, y, z, g * per : (g + 1) * per]
                    found[g].append(patch.reshape(-1))
    return found


@pytest.mark.parametrize("padding", [0, 1], ids=["same", "valid"])
@pytest.mark.parametrize("kind", ["conv", "grouped", "depthwise"])
@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 3, 1, 1), (1, 1, 2, 1)], ids=str)
def test_second_moments_are_those_of_the_patches(kind: str, padding: int, steps: tuple[int, ...]) -> None:
    names = ("strideH", "strideW", "dilationHFactor", "dilationWFactor")
    options = dict(zip(names, steps, strict=True)) | {"padding": padding}
    x = RNG.normal(size=(2, 7, 5, 6)).astype(np.float32)
    groups = {"conv": 1, "grouped": 3, "depthwise": 6}[kind]
    weight = np.zeros((1, 3, 2, 6) if kind == "depthwise" else (9, 3, 2, 6 // groups), np.float32)
    code = "DEPTHWISE_CONV_2D" if kind == "depthwise" else "CONV_2D"
    found = second_moment(x, *linear(code, options, weight, x.shape))
    for g, rows in enumerate(convolved(x, weight, options, groups)):
        stacked = np.array(rows)
        # float32 products of up to 70 patches
        np.testing.assert_allclose(found[g], stacked.T @ stacked / len(stacked), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("code", ["FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"])
def test_second_moments_of_the_channels(code: str) -> None:
    x = RNG.normal(size=(2, 3, 5, 7)).astype(np.float32)
    found = second_moment(x, *linear(code, {"adjX": False}, np.zeros((3, 7), np.float32), x.shape))
    rows = x.reshape(-1, 7).astype(np.float64)
    np.testing.assert_allclose(found, [rows.T @ rows / 30], rtol=1e-4, atol=1e-5)
