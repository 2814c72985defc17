"""The inputs of operators layer by layer, against whole runs of the float model and of the emitted file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from tfq_converters import flatbuffer
from tfq_converters.operators.weights import data_of, weight_axes
from tfq_converters.quantized import WeightCodes
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner
from tfq_fine.algorithms import ALGORITHMS, Algorithm, Option, WeightProblem, algorithm_problems
from tfq_fine.calibration import Layerwise
from tfq_fine.numerics import affine

RNG = np.random.default_rng(0)
SAMPLES = [(RNG.normal(size=(1, 9, 7, 3)).astype(np.float32),) for _ in range(3)]


def branching_cnn() -> keras.Model:
    """Two branches that meet, so that a value crosses several segments."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 7, 3))
    first = layers.Conv2D(5, 3, padding="same", activation="relu")(inputs)
    second = layers.DepthwiseConv2D(3, padding="same")(first)
    third = layers.Conv2D(5, 1)(second)
    joined = layers.Add()([first, third])
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(joined)))


def linear_ops(graph: Any) -> list[int]:
    return [o for o, op in enumerate(graph.main.ops) if weight_axes(op, graph.main)]


@pytest.fixture(scope="module")
def result() -> Any:
    return tfq.quantize(branching_cnn(), "full_int8", data=np.concatenate([s[0] for s in SAMPLES]), transforms=None)


def test_float_inputs_are_those_of_one_whole_run(result: Any):
    """The sums of a segment are those of the whole graph: the same kernels add in the same order."""
    graph = result.quantized.graph
    inside = replace(graph.main, outputs=tuple(data_of(graph.main.ops[o]) for o in linear_ops(graph)))
    whole = Runner(flatbuffer.write(replace(graph, subgraphs=(inside,), signatures=())))
    expected = [whole.run(sample) for sample in SAMPLES]
    layerwise = Layerwise(graph, SAMPLES)
    for n, o in enumerate(linear_ops(graph)):
        inputs = layerwise.inputs_of((0, o), {})
        for sample in range(len(SAMPLES)):
            np.testing.assert_array_equal(inputs.exact[sample], expected[sample][n])
            np.testing.assert_array_equal(inputs.quantized[sample], expected[sample][n])


def test_quantized_inputs_are_those_in_the_file(result: Any):
    """Integer codes are the same to the last bit, whether the file runs as a whole or in segments."""
    quantized = result.quantized
    realized = realize(quantized)
    main = realized.graph.main
    layerwise, several = Layerwise(quantized.graph, SAMPLES), 0
    for o in linear_ops(quantized.graph):
        encoding = quantized.ops[0, o]
        source = data_of(quantized.graph.main.ops[o])
        (form,) = encoding.inputs.values()
        place = realized.places[0, source][form]
        shown = replace(realized.graph, subgraphs=(replace(main, outputs=(place,)),), signatures=())
        runner = Runner(flatbuffer.write(shown))
        inputs = layerwise.inputs_of((0, o), quantized.ops)
        for sample, value, exact in zip(SAMPLES, inputs.quantized, inputs.exact, strict=True):
            codes = runner.run(sample)[0]
            np.testing.assert_array_equal(form.encode(value), codes)
            several += not np.array_equal(value, exact)
    assert several > 3


def test_only_what_is_read_later_is_held(result: Any):
    graph = result.quantized.graph
    layerwise = Layerwise(graph, SAMPLES)
    for o in linear_ops(graph):
        layerwise.inputs_of((0, o), {})
        read = {t for op in graph.main.ops[o:] for t in op.inputs}
        assert all(set(values) <= read | set(graph.main.inputs) for values in layerwise._exact)


def test_operators_come_in_graph_order(result: Any):
    graph = result.quantized.graph
    layerwise = Layerwise(graph, SAMPLES)
    first, *_, last = linear_ops(graph)
    layerwise.inputs_of((0, last), {})
    with pytest.raises(ValueError, match="in graph order"):
        layerwise.inputs_of((0, first), {})


def test_values_that_a_model_keeps_begin_anew_for_every_sample():
    """A stateful LSTM in float: every segment begins at the inputs, and every sample without a state."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(5)(inputs)))
    data = RNG.normal(size=(3, 4, 3)).astype(np.float32)
    result = tfq.quantize(model, "weight_only_int8")
    graph = result.quantized.graph
    (o,) = (o for o in linear_ops(graph) if graph.main.ops[o].code == "FULLY_CONNECTED")
    found = Layerwise(graph, [(row[None],) for row in data]).inputs_of((0, o), {})
    expected = np.asarray(keras.Model(inputs, model.layers[1].output)(data))
    np.testing.assert_allclose(np.concatenate(found.exact), expected, atol=1e-5)  # float32 gates in another order


def test_an_algorithm_of_scope_operator_gets_both_inputs_in_graph_order(monkeypatch: pytest.MonkeyPatch):
    solved: list[WeightProblem] = []

    def recorded(problem: WeightProblem) -> WeightCodes:
        solved.append(problem)
        return affine.encode_weight(problem.weight, problem.block, problem.codes)

    row = Algorithm(recorded, frozenset({"inputs", "second_moment", "channel_absmax"}), scope="operator")
    monkeypatch.setitem(ALGORITHMS, "recorded", row)
    spec = tfq.OpSpec("integer", tfq.WeightSpec(8, algorithm="recorded"), tfq.ActivationSpec(8))
    data = np.concatenate([s[0] for s in SAMPLES])
    tfq.quantize(branching_cnn(), tfq.Recipe("recorded", spec, flexible=True), data=data, transforms=None)
    assert len(solved) == 4
    for n, problem in enumerate(solved):
        inputs, moment, largest = problem.inputs.values, problem.inputs.second_moment, problem.inputs.absmax
        assert inputs is not None and moment is not None and largest is not None
        pieces = [exact.astype(np.float64) for exact, _ in inputs.patches()]
        rows = np.concatenate(pieces, axis=1)
        expected = rows.transpose(0, 2, 1) @ rows / rows.shape[1]
        np.testing.assert_allclose(moment, expected, rtol=1e-4, atol=1e-5)  # calibration multiplies in float32
        whole = np.abs(np.concatenate(inputs.exact))
        np.testing.assert_array_equal(largest, whole.max(axis=tuple(range(whole.ndim - 1))))
        own, error = inputs.moments.hessian, inputs.moments.cross
        quantized = np.concatenate([patches.astype(np.float64) for _, patches in inputs.patches()], axis=1)
        squares = quantized.transpose(0, 2, 1) @ quantized / quantized.shape[1]
        np.testing.assert_allclose(own, squares, rtol=1e-5, atol=1e-6)  # products in float32
        np.testing.assert_allclose(
            error, (rows - quantized).transpose(0, 2, 1) @ quantized / rows.shape[1], rtol=1e-4, atol=1e-7
        )
        assert n == 0 or np.abs(error).max() > 0


class Untouched:
    """Data that must not be read."""

    def __iter__(self) -> Any:
        raise AssertionError("the data was read")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "gptx"}, "unknown algorithm 'gptx'; known: auto, balanced"),
        ({"algorithm": "mse_clip", "options": (("smalest", 0.4),)}, "no option 'smalest'; it has smallest, candidates"),
        ({"algorithm": "mse_clip", "options": (("smallest", 1.5),)}, "smallest=1.5: expected a number from 0.01 to 1"),
        ({"algorithm": "mse_clip", "options": (("candidates", 2.5),)}, "candidates=2.5: expected a whole number"),
        ({"algorithm": "mse_clip", "options": (("smallest", float("nan")),)}, "smallest=nan: expected a number"),
        ({"algorithm": "octav", "options": (("smallest", 0.5),)}, "no option 'smallest'; it has none"),
    ],
)
def test_names_and_options_are_checked_before_the_data_is_read(changes: Mapping[str, Any], message: str):
    weights = replace(tfq.WeightSpec(4), **changes)
    recipe = tfq.Recipe("wrong", tfq.OpSpec("integer", weights, tfq.ActivationSpec(8)), flexible=True)
    with pytest.raises(tfq.TfqError, match=message.replace("(", r"\(")):
        tfq.quantize(branching_cnn(), recipe, data=Untouched())


def test_an_observer_is_checked_before_the_data_is_read():
    with pytest.raises(tfq.TfqError, match="no option 'percentil'"):
        tfq.quantize(branching_cnn(), "full_int8", data=Untouched(), observer="percentile:percentil=99")


def test_a_misspelt_option_in_text_is_an_error():
    recipe = tfq.RECIPES["full_int8"].with_algorithm("mse_clip:smallest=0.4,candidates=9")
    assert recipe.default is not None and recipe.default.weights is not None
    assert algorithm_problems(recipe.default.weights) == []
    assert dict(recipe.default.weights.options) == {"smallest": 0.4, "candidates": 9}


def test_limits_are_allowed_values():
    option = Option(0.3, 0.0, 1.0)
    assert option.problem("x", 0) == option.problem("x", 1.0) == ""
    assert all(option.problem("x", value) for value in (-0.1, 1.1, float("nan"), "0.5", None, True))


def test_weights_in_a_loop_are_rounded_where_the_algorithm_reads_inputs(monkeypatch: pytest.MonkeyPatch):
    def never(problem: WeightProblem) -> WeightCodes:
        assert problem.inputs.mean is not None
        return affine.encode_weight(problem.weight, problem.block, problem.codes)

    monkeypatch.setitem(ALGORITHMS, "reads", Algorithm(never, frozenset({"channel_mean"})))
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.GRU(5)(inputs)))
    recipe = tfq.Recipe("reads", tfq.OpSpec("weight_only", tfq.WeightSpec(8, algorithm="reads")))
    result = tfq.quantize(model, recipe, data=RNG.normal(size=(3, 4, 3)).astype(np.float32))
    reasons = {decision.reason for (s, _), decision in result.plan.items() if s > 0 and decision.spec is not None}
    assert reasons == {"algorithm 'reads' reads its inputs, which are not observed; round_to_nearest is used instead"}
    with pytest.raises(tfq.TfqError, match="reads channel_mean of the inputs, and there are none: give representative"):
        tfq.quantize(model, recipe)
