"""AdaRound and block reconstruction: blocks, soft codes, gradients, and that nothing gets worse."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfq_fine as tfq
from support.linear_operators import OPERATORS, Linear
from tfq_converters import flatbuffer
from tfq_converters.quantized import ActivationEncoding, WeightCodes
from tfq_converters.reading import read_model
from tfq_converters.runtime import Runner
from tfq_fine.algorithms import WeightProblem
from tfq_fine.calibration import Cut
from tfq_fine.numerics import CodeFormat
from tfq_fine.weights import reconstruct
from tfq_fine.weights.reconstruction import fitting, learning
from tfq_fine.weights.reconstruction.block_function import BlockFunction, is_differentiable
from tfq_fine.weights.reconstruction.blocks import Block, blocks, operator_blocks
from tfq_fine.weights.reconstruction.fitting import Learned
from tfq_fine.weights.reconstruction.soft_range import SoftRange
from tfq_fine.weights.reconstruction.soft_rounding import UNDECIDED, SoftWeight

RNG = np.random.default_rng(5)


def residual_net() -> keras.Model:
    """A stem, an inverted residual, and a head: 1 + 3 + 1 linear operators."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    y = layers.Conv2D(11, 1, activation="relu6")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(y)
    x = layers.Add()([x, layers.Conv2D(6, 1)(y)])
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


IMAGES = RNG.normal(size=(24, 9, 7, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Any:
    return read_model(residual_net()).graph


def linear(graph: Any) -> list[int]:
    return [o for o, op in enumerate(graph.main.ops) if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]


def test_a_residual_is_one_block_and_chains_are_cut(graph: Any):
    """stem | expand, depthwise, project, add | mean, dense: the residual is entered and left by one tensor."""
    main, places = graph.main, linear(graph)
    found = blocks(main, places)
    assert [[o for _, o in block.fitted] for block in found] == [[places[0]], places[1:4], [places[4]]]
    assert main.ops[found[1].stop - 1].code == "ADD" and found[1].output == main.ops[found[1].stop - 1].outputs[0]
    assert found[2].first == found[1].stop


def test_a_chain_without_branches_is_cut_after_three_layers():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), *(layers.Dense(n, activation="relu") for n in (7, 6, 5, 4, 3))])
    main = read_model(model).graph.main
    assert [len(block.fitted) for block in blocks(main, linear(read_model(model).graph))] == [3, 2]


def test_masks_may_go_past_a_block():
    """The mask of a second input is read by both halves, and depends on no linear operator."""
    keras.utils.set_random_seed(0)
    inputs, mask = keras.Input((6,)), keras.Input((6,))
    x = layers.Dense(6)(inputs)
    for _ in range(2):
        y = layers.Dense(6)(layers.Dense(9, activation="relu")(x))
        x = layers.Add()([x, layers.Multiply()([y, mask])])
    graph = read_model(keras.Model([inputs, mask], x)).graph
    assert [len(block.fitted) for block in blocks(graph.main, linear(graph))] == [1, 2, 2]


BY_MATRICES = ("matmuls", "matmuls_turned")  # each row of the input meets a matrix of its own


@pytest.mark.parametrize("case", [OPERATORS[name] for name in OPERATORS if name not in BY_MATRICES])
def test_batches_are_computed_as_the_kernels_compute_samples(case: Linear):
    """Every linear operator, three samples at once; float sums in another order differ in the last bits."""
    graph = case.graph
    (block,) = operator_blocks(graph.main, [0])
    samples = [RNG.normal(size=case.data).astype(np.float32) for _ in range(3)]
    runner = Runner(flatbuffer.write(graph))
    expected = np.concatenate([runner.run([sample])[0] for sample in samples])
    found = BlockFunction(graph.main, block)(tf, {0: np.concatenate(samples)}, {}).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def problem(weight: np.ndarray, block: tuple[int, ...], symmetric: bool = True, bits: int = 4) -> WeightProblem:
    return WeightProblem(weight, block, CodeFormat(bits, symmetric))


@pytest.mark.parametrize(("block", "symmetric"), [((1, 7), True), ((1, 3), False), ((2, 7), True), ((5, 7), False)])
def test_soft_weights_begin_near_their_codes_and_end_on_codes(block: tuple[int, ...], symmetric: bool):
    weight = RNG.normal(size=(5, 7)).astype(np.float32)
    grid = tuple(-(-size // length) for size, length in zip(weight.shape, block, strict=True))
    scale = RNG.uniform(0.2, 0.4, grid).astype(np.float32)
    zero_point = np.zeros(grid, np.int64) if symmetric else RNG.integers(-3, 4, grid)
    codes = RNG.integers(-7, 8, weight.shape).astype(np.int8)
    start = WeightCodes(codes, scale, zero_point, 4, block)
    soft = SoftWeight.of(tf, problem(weight, block, symmetric), start)
    wide = WeightCodes(np.ones_like(codes), scale, np.zeros(grid, np.int64), 4, block).dequantize()  # scale of each
    away = np.abs(soft.values(tf).numpy() - start.dequantize()) / wide
    assert away.max() <= UNDECIDED + 1e-4 and away.max() > UNDECIDED / 2
    np.testing.assert_array_equal(soft.codes(tf).codes, codes)
    np.testing.assert_array_equal(soft.codes(tf).scale, scale)
    soft.variable.assign(np.full(weight.shape, 9.0))
    np.testing.assert_array_equal(soft.codes(tf).codes, np.clip(soft.floor + 1, -7, 7))
    assert float(soft.undecided(tf, 2.0)) == 0.0
    np.testing.assert_allclose(soft.values(tf).numpy(), soft.codes(tf).dequantize(), rtol=1e-6)


def test_the_sigmoid_and_the_regularizer_are_those_of_the_paper():
    """Equations 23 and 24 in numpy: clip(1.2 / (1 + exp(-V)) - 0.1), and 1 - |2 h - 1|^beta."""
    weight = np.array([[0.0, 0.1, 0.2]], np.float32)
    start = WeightCodes(np.zeros((1, 3), np.int8), np.ones((1, 1), np.float32), np.zeros((1, 1), np.int64), 4, (1, 3))
    soft = SoftWeight.of(tf, problem(weight, (1, 3)), start)
    variable = np.array([[-1.3, 0.4, 5.0]])
    soft.variable.assign(variable)
    up = np.clip(1.2 / (1 + np.exp(-variable)) - 0.1, 0, 1)
    np.testing.assert_allclose(soft.up(tf).numpy(), up, rtol=1e-6)
    np.testing.assert_allclose(soft.undecided(tf, 3.0), (1 - np.abs(2 * up - 1) ** 3).mean(), rtol=1e-5)


def dense_graph(weight: np.ndarray) -> Any:
    model = keras.Sequential([keras.Input((weight.shape[1],)), layers.Dense(weight.shape[0], use_bias=False)])
    model.layers[0].set_weights([weight.T])
    return read_model(model).graph


def test_roundings_are_far_better_than_nearest_where_inputs_go_together():
    """Six inputs that go together: nearest is far from the best of 2^6 ways to round up or down."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(4, 6)).astype(np.float32)
    rows = rng.normal(size=(256, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(256, 6))
    rows = rows.astype(np.float32)
    scale = np.full((4, 1), 0.5, np.float32)
    start = WeightCodes(np.rint(weight / 0.5).astype(np.int8), scale, np.zeros((4, 1), np.int64), 8, (1, 6))
    graph = dense_graph(weight)
    (block,) = operator_blocks(graph.main, [0])
    tensor = graph.main.inputs[0]
    inputs = [{tensor: row[None]} for row in rows]
    observed = learning.Observed(inputs, inputs, [row[None] @ weight.T for row in rows])
    soft = SoftWeight.of(tf, problem(weight, (1, 6), bits=8), start)
    slot = (0, 1)
    learning.learn(BlockFunction(graph.main, block), learning.Variables({slot: soft}, {}, {}), observed, 400)

    def errors(codes: np.ndarray, scales: np.ndarray = scale) -> np.ndarray:
        return np.square(rows @ (weight - scales * codes).T).sum(axis=0)

    floor = np.floor(weight / 0.5)
    ways = np.array(list(itertools.product((0, 1), repeat=6)))
    best = np.min([errors(floor + way) for way in ways], axis=0).sum()
    nearest, found = errors(start.codes).sum(), errors(soft.codes(tf).codes, soft.codes(tf).scale).sum()
    assert nearest > 20 * best
    assert found < nearest / 3  # gradients find a good way, not the best one


MODEL = residual_net()


def quantized(algorithm: str, recipe: str = "full_w4a8") -> Any:
    return tfq.quantize(MODEL, tfq.RECIPES[recipe].with_algorithm(algorithm), IMAGES, prefer="size", transforms=None)


@pytest.fixture(scope="module")
def balanced() -> bytes:
    return quantized("balanced").content


@pytest.mark.parametrize(
    ("algorithm", "recipe"),
    [("adaround", "weight_only_int2_block32"), ("reconstruct", "full_w4a8"), ("reconstruct", "dynamic_int4")],
)
def test_the_file_holds_what_was_learned(algorithm: str, recipe: str):
    """Two runs give the same bytes, and the report says which layers were reconstructed."""
    first, second = (quantized(f"{algorithm}:steps=100", recipe) for _ in range(2))
    assert first.content == second.content
    hows = [row.algorithm for row in first.report.rows if row.algorithm]
    assert any(how.endswith("reconstructed") for how in hows), hows


def test_a_second_run_takes_what_was_learned_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same bytes without one gradient step; other samples learn anew."""
    recipe, calls = tfq.RECIPES["dynamic_int4"].with_algorithm("reconstruct:steps=30"), []
    options = {"prefer": "size", "transforms": None, "cache_dir": tmp_path}
    learn = learning.learn

    def counted(*arguments: Any) -> None:
        calls.append(1)
        learn(*arguments)

    monkeypatch.setattr(fitting, "learn", counted)
    first = tfq.quantize(MODEL, recipe, IMAGES, **options)
    assert len(calls) == 3  # blocks
    assert tfq.quantize(MODEL, recipe, IMAGES, **options).content == first.content
    assert len(calls) == 3
    tfq.quantize(MODEL, recipe, IMAGES[:-1], **options)
    assert len(calls) == 6


@pytest.fixture
def learns_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    def nonsense(subgraph: Any, block: Block, problems: Any, encodings: Any, *_: Any) -> Learned:
        codes = {
            (key, 1): replace(encodings[key].weights[1], codes=-encodings[key].weights[1].codes) for key in block.fitted
        }
        return Learned(codes, {}, dict.fromkeys(block.fitted, "nonsense"))

    monkeypatch.setattr(reconstruct, "learned", nonsense)


@pytest.mark.usefixtures("learns_nonsense")
def test_what_makes_the_output_worse_is_not_kept(balanced: bytes):
    """The codes are those of the algorithm that reconstruction begins at."""
    assert quantized("reconstruct").content == balanced


def test_an_interrupted_block_keeps_its_codes(monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C in the second of three blocks: the first one is reconstructed, the others are not."""
    calls, learn = [], learning.learn

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        learn(*arguments)

    monkeypatch.setattr(fitting, "learn", interrupted)
    quantized("reconstruct:steps=5")
    assert len(calls) == 2


def test_a_block_that_tensorflow_computes_otherwise_keeps_its_codes(monkeypatch: pytest.MonkeyPatch, balanced: bytes):
    class Wrong(BlockFunction):
        def __call__(self, *arguments: Any) -> Any:
            return 1.01 * super().__call__(*arguments)

    monkeypatch.setattr(fitting, "BlockFunction", Wrong)
    assert quantized("reconstruct").content == balanced


def test_blocks_with_operators_that_have_no_derivative_are_taken_operator_by_operator(graph: Any):
    main = graph.main
    unknown = replace(main, ops=tuple(replace(op, code="NEW") if op.code == "ADD" else op for op in main.ops))
    whole = blocks(main, linear(graph))[1]
    assert is_differentiable(main, whole) and not is_differentiable(unknown, whole)


def test_nan_is_worse_than_any_output():
    good = Cut(1, [{0: np.zeros((1, 2))}], [{0: np.ones((1, 2))}], 0)
    bad = replace(good, quantized=[{0: np.full((1, 2), np.nan)}])
    assert not reconstruct.output_error(bad, 0) < reconstruct.output_error(good, 0)


# --- scales of activations ---


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("int8", 0), ("int8", 17), ("int16", 0)])
def test_the_gradient_of_a_scale_is_that_of_the_paper(dtype: str, zero_point: int):
    """LSQ, equation 3, in numpy: round(x / s) - x / s within the range, the code of the end beyond it."""
    scale, limits = 2.0**-5, np.iinfo(dtype)  # a power of two: x / s is exact in float32, too
    x = (RNG.normal(size=301) * 100 * scale * (1 if dtype == "int8" else 300)).astype(np.float32).astype(np.float64)
    soft = SoftRange.of(tf, ActivationEncoding(dtype, scale, zero_point))
    with tf.GradientTape() as tape:
        values = soft.rounded(tf, tf.constant(x, tf.float32))
        total = tf.reduce_sum(values * np.arange(301, dtype=np.float32))
    codes = np.rint(x / scale) + zero_point
    inside = (codes >= limits.min) & (codes <= limits.max)
    assert 0 < inside.sum() < 301  # both cases are there
    ends = np.clip(codes, limits.min, limits.max) - zero_point
    slopes = np.where(inside, np.rint(x / scale) - x / scale, ends)
    expected = (slopes * np.arange(301)).sum() * scale  # the variable is the logarithm of the scale
    np.testing.assert_array_equal(values, ends * scale)
    np.testing.assert_allclose(tape.gradient(total, soft.stretch), expected, rtol=1e-5)  # sums of float32
    soft.stretch.assign(0.5)
    assert soft.encoding() == ActivationEncoding(dtype, float(np.float32(scale * np.exp(0.5))), zero_point)


def wide_net() -> keras.Model:
    """Two layers; one of seven hidden values is 50 times as large as the others, and its weights are 0 after that."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((11,)), layers.Dense(7, activation="relu"), layers.Dense(5)])
    hidden, last = model.layers
    kernel, bias = hidden.get_weights()
    hidden.set_weights([kernel * np.where(np.arange(7) == 3, 50, 1), bias])
    kernel, bias = last.get_weights()
    last.set_weights([kernel * (np.arange(7) != 3)[:, None], bias])
    return model


def hidden_scale(content: bytes) -> float:
    """Return the scale of what the first layer writes."""
    main = flatbuffer.read(content).main
    first = next(op for op in main.ops if op.code == "FULLY_CONNECTED")
    return float(main.tensors[first.outputs[0]].quantization.scale[0])


def test_a_range_that_is_clearly_too_wide_is_clipped():
    """Clipping the one large value costs nothing: 500 steps learn less than half of the range."""
    model, rows = wide_net(), np.random.default_rng(2).normal(size=(64, 11)).astype(np.float32)
    recipe = tfq.RECIPES["full_int8"].with_observer("min_max")
    contents = {
        name: tfq.quantize(model, recipe.with_algorithm(name), rows, transforms=None).content
        for name in ("balanced", "reconstruct:steps=500", "reconstruct:steps=500,ranges=0")
    }
    scales = [hidden_scale(content) for content in contents.values()]
    assert scales[1] < scales[0] / 2 and scales[2] == scales[0]
    fresh = np.random.default_rng(3).normal(size=(200, 11)).astype(np.float32)
    expected = model.predict(fresh, verbose=0)
    errors = [np.median(np.square(run_all(content, fresh) - expected)) for content in contents.values()]
    assert errors[1] < errors[0] / 3, errors


def run_all(content: bytes, rows: np.ndarray) -> np.ndarray:
    runner = Runner(content)
    return np.concatenate([runner.run([row[None]])[0] for row in rows])


def tied_net() -> keras.Model:
    """A pooling and a concatenation, whose kernels want one scale, a sigmoid that fixes its own, and an input."""
    keras.utils.set_random_seed(6)
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(5, 3, activation="relu")(inputs)
    x = layers.MaxPooling2D(2)(x)
    y = layers.Conv2D(6, 1, activation="sigmoid")(x)
    z = layers.Conv2D(4, 1, activation="relu")(x)
    x = layers.Concatenate()([z, layers.Conv2D(3, 1)(z)])
    return keras.Model(inputs, [layers.Dense(5)(layers.Flatten()(x)), layers.Flatten()(y)])


def test_ties_fixed_scales_and_inputs_are_respected():
    """The run check refuses a file whose kernels disagree; some scales were learned, that of the input was not."""
    model = tied_net()
    plain, learned = (
        flatbuffer.read(
            tfq.quantize(
                model, tfq.RECIPES["full_w4a8"].with_algorithm(name), IMAGES, prefer="size", transforms=None
            ).content
        ).main
        for name in ("balanced", "reconstruct:steps=60")
    )
    changed = 0
    for before, after in zip(plain.ops, learned.ops, strict=True):
        own, other = (
            [main.tensors[t].quantization for t in op.outputs] for main, op in ((plain, before), (learned, after))
        )
        if after.code in ("MAX_POOL_2D", "CONCATENATION"):
            source = learned.tensors[after.inputs[0]].quantization
            assert source.scale == other[0].scale and source.zero_point == other[0].zero_point
        if after.code in ("LOGISTIC", "QUANTIZE"):
            assert own[0].scale == other[0].scale
        changed += own[0] is not None and own[0].scale != other[0].scale
        assert own[0] is None or own[0].zero_point == other[0].zero_point
    assert changed >= 1
