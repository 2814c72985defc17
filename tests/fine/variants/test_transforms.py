"""Transforms are chosen by what they bring, one line each."""

import math
from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import RELU
from support.nets import Net
from support.uneven_nets import joined, uneven
from tfq_converters.flatbuffer.reading import read
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Options, Tensor
from tfq_converters.runtime.runner import Runner
from tfq_fine.cli import arguments
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.report.quantization import QuantizationReport
from tfq_fine.transforms.batch_norm import fold_batch_norm
from tfq_fine.variants import select_transforms as module
from tfq_fine.variants.float_reference import FloatReference
from tfq_fine.variants.judging import Measured, decibels_of, gain, judged
from tfq_fine.variants.transform_table import TRANSFORMS
from tfq_fine.variants.variant import Variant


def behind_relu() -> Graph:
    """Convolution, ReLU, batch norm, twice; channels of very different sizes."""
    net = Net(1, 6, 9, 3)
    x = norm_of_uneven(net, uneven(net, net.conv(0, 7, RELU)))
    x = norm_of_uneven(net, uneven(net, net.conv(x, 11, RELU)))
    return net.graph(net.dense(net.mean(x), 5))


def norm_of_uneven(net: Net, x: int) -> int:
    """Batch norm that gives all channels one size again."""
    scale = 1 / np.geomspace(0.02, 2, net.shape(x)[-1])
    y = net.with_constant("MUL", x, net.constant(scale.astype(np.float32)))
    return net.with_constant("ADD", y, net.random(net.shape(x)[-1]))


def plain() -> Graph:
    net = Net(1, 6, 9, 3)
    return net.graph(net.dense(net.mean(net.conv(0, 7, RELU)), 5))


def data(count: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6, 9, 3)).astype(np.float32)


def sqnr(content: bytes, graph: Graph) -> float:
    files = Runner(write(graph)), Runner(content)
    sums = ErrorSums()
    for image in data(40, seed=1):
        (expected,), (found,) = (file.run([image[None]]) for file in files)
        sums += ErrorSums.of(expected, found)
    return sums.sqnr_db


def test_each_repair_is_on_where_it_helps_and_says_what_it_brought() -> None:
    graph = behind_relu()
    content = write(graph)
    on, off = (tfq.quantize(content, "full_int8", data(), transforms=given, prefer="size") for given in ("auto", None))
    rows = {row.name: row for row in on.report.transforms}
    assert list(rows) == [name for name, row in TRANSFORMS.items() if row.default]
    assert off.report.transforms == ()
    folded, masks = rows["fold_batch_norm"], rows["bounded_masks"]
    assert folded.applied and folded.text.startswith("2 folded, such as mul_b (MUL)")
    assert folded.before is not None and folded.after is not None and folded.after > folded.before + 3
    assert (masks.applied, masks.text) == (False, "no masks in integers")
    assert sqnr(on.content, graph) > sqnr(off.content, graph) + 3  # measured on other samples
    assert "fold_batch_norm" in str(on.report) and "SQNR dB without" in str(on.report)
    assert QuantizationReport.from_json(on.report.to_json()) == on.report


def test_the_switches() -> None:
    content = write(behind_relu())
    result = tfq.quantize(content, "full_int8", data(), transforms=("cross_layer",))
    assert [row.name for row in result.report.transforms] == ["cross_layer"]
    codes = [op.code for op in result.quantized.graph.main.ops]
    assert codes.count("MUL") == 2  # nothing is folded
    assert all(spec.weights is None or not spec.weights.bias_correction for spec in specs(result))
    with pytest.raises(tfq.TfqError, match="unknown transforms fold; known: fold_batch_norm, shift, cross_layer"):
        tfq.quantize(content, "full_int8", data(), transforms=("fold",))


def specs(result: object) -> list[tfq.OpSpec]:
    return [decision.spec for decision in result.plan.values() if decision.spec is not None]  # type: ignore[attr-defined]


def test_nothing_is_run_where_nothing_is_applicable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Trial, "measured", lambda *_: pytest.fail("something was run"))
    result = tfq.quantize(write(plain()), "full_int8", data(), transforms=("fold_batch_norm", "bounded_masks"))
    assert [row.text for row in result.report.transforms] == ["nothing to fold", "no masks in integers"]


def measured_as(
    monkeypatch: pytest.MonkeyPatch, start: Graph, plain: tuple[float, ...], other: tuple[float, ...]
) -> None:
    """Every file of a rewritten graph has the figures `other`, that of the unchanged graph `plain`."""
    before = [tensor.name for tensor in start.main.tensors]

    def measured(trial: object, variant: Variant) -> Measured:
        same = [tensor.name for tensor in variant.graph.main.tensors] == before
        return Measured(plain if same else other)

    monkeypatch.setattr(module.Trial, "measured", measured)


@pytest.mark.parametrize("other", [(30.0,) * 16, (39.9,) * 15 + (math.nan,), (-math.inf,) * 16])
def test_what_does_not_help_is_left(other: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every change made it worse, or gave values that are not finite; each line says why."""
    start = behind_relu()
    measured_as(monkeypatch, start, (40.0,) * 16, other)
    result = tfq.quantize(write(start), "full_int8", data(), transforms=("fold_batch_norm", "cross_layer"))
    assert not any(row.applied for row in result.report.transforms)
    folded, scaled = result.report.transforms
    assert "off: it" in folded.text and scaled.text
    assert [op.code for op in result.quantized.graph.main.ops] == [op.code for op in start.main.ops]


def test_a_gain_within_its_standard_error_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    start = behind_relu()
    folded = fold_batch_norm(start).rewritten.graph
    measured_as(monkeypatch, folded, (40.0,) * 4, (45.0, 36.0, 45.0, 36.0))  # 0.5 dB more, give or take 2.6
    result = tfq.quantize(write(folded), "full_int8", data(), transforms=("cross_layer",))
    (row,) = result.report.transforms
    assert not row.applied and "it brings 0.5 dB, with a standard error of 2.6" in row.text


def test_float_outputs_that_move_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FloatReference, "difference", lambda *_: 2e-5)
    result = tfq.quantize(write(behind_relu()), "full_int8", data(), transforms=("fold_batch_norm",))
    (row,) = result.report.transforms
    assert not row.applied and row.before is not None and row.after is not None and row.after > row.before
    assert row.text.endswith("off: the float outputs would move by 2e-05 of the largest")


def test_rules_follow_their_operators() -> None:
    """Operators move up when others are folded away."""
    recipe = tfq.RECIPES["full_int8"].with_rules(tfq.Rule(None, layer="fully_connected_h"))
    result = tfq.quantize(write(behind_relu()), recipe, data(), transforms=("fold_batch_norm",), prefer="size")
    assert result.report.transforms[0].applied
    kept = [row.code for row in result.report.rows if row.reason == "the recipe keeps it float"]
    assert kept == ["FULLY_CONNECTED"]


def test_a_generator_is_read_once() -> None:
    seen = []

    def samples() -> object:
        for index, image in enumerate(data(11)):
            seen.append(index)
            yield image[None]

    result = tfq.quantize(write(behind_relu()), "full_int8", samples())
    assert seen == list(range(11))
    assert result.statistics is not None and result.statistics.samples == 11
    assert result.report.transforms[0].samples == 11  # all of them: the data is put aside, and read again from there


def test_statistics_hold_for_the_model_as_it_is() -> None:
    """The graph is left alone; biases are judged on the samples that statistics keep, also once they were saved."""
    content = write(behind_relu())
    statistics = tfq.calibrate(content, data())
    result = tfq.quantize(content, "full_int8", statistics=statistics)
    why = "the statistics hold for the unchanged model"
    rows = {row.name: row for row in result.report.transforms}
    assert {name for name, row in rows.items() if row.text == why} == {"fold_batch_norm", "cross_layer", "smooth_quant"}
    assert rows["bias_correction"].samples == 24 and rows["bias_correction"].after is not None
    assert len(result.quantized.graph.main.ops) == len(behind_relu().main.ops)
    assert result.report.verdict is not None and not result.report.generated


def test_statistics_without_samples_leave_biases_alone() -> None:
    content = write(behind_relu())
    bare = replace(tfq.calibrate(content, data()), kept=())
    result = tfq.quantize(content, "full_int8", statistics=bare)
    rows = {row.name: row for row in result.report.transforms}
    assert not rows["bias_correction"].applied
    assert rows["bias_correction"].text == "there is no data to measure it on"
    assert result.report.generated and "on 1 generated input" in str(result.report)


def test_probabilities_are_judged_by_log_probabilities() -> None:
    net = Net(3, 5)
    scores = net.dense(0, 7)
    graph = net.graph(net.add("SOFTMAX", (scores,), net.shape(scores), Options("SoftmaxOptions", {"beta": 1.0})))
    (judge,) = judged(graph)
    assert judge.tensor == scores
    values = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    expected = np.log(np.exp(values) / np.exp(values).sum(-1, keepdims=True))
    np.testing.assert_allclose(judge.seen(values), expected, atol=1e-6)
    np.testing.assert_allclose(judge.seen(values + 5), expected, atol=1e-5)  # a common shift is nothing


def test_what_is_not_finite_is_the_worst() -> None:
    ones = np.ones((2, 3), np.float32)
    assert decibels_of([ones], [ones]) == 120
    assert decibels_of([ones], [np.array([[1, 1, 1], [1, np.nan, 1]], np.float32)]) == -math.inf
    assert decibels_of([ones], [ones * np.float32(np.inf)]) == -math.inf
    assert decibels_of([ones * np.float32(np.nan)], [ones]) == 120  # the float model's own
    assert decibels_of([np.arange(3)], [np.arange(3)]) == 120  # no float output: nothing to compare


def test_a_sample_whose_output_is_zero_decides_nothing() -> None:
    """It is compared with a share of what the output is as a rule: an error of a hundredth is 10 dB, not the worst."""
    zero, off = np.zeros((1, 4), np.float32), np.full((1, 4), 0.01, np.float32)
    assert decibels_of([zero], [off]) == -math.inf
    assert decibels_of([zero], [off], [4.0]) == pytest.approx(10.0, abs=1e-4)


def classes(constant: bool) -> Graph:
    """The index of the largest of five scores; and a constant, as the anchors of a detector are."""
    net = Net(1, 7)
    x = net.dense(0, 5)
    net.tensors.append(Tensor("class", (1,), "int64"))
    index = len(net.tensors) - 1
    axis = net.constant(np.array([1], np.int32))
    net.ops.append(Op("ARG_MAX", (x, axis), (index,), Options("ArgMaxOptions", {"outputType": 4}), layer="class"))
    graph = net.graph(index)
    outputs = (x, net.random(3, 2)) if constant else (index,)
    main = replace(graph.main, tensors=tuple(net.tensors), outputs=outputs)
    return replace(graph, subgraphs=(main,))


@pytest.mark.parametrize("recipe", ["dynamic_int8", "full_int8"])
@pytest.mark.parametrize("constant", [False, True])
def test_outputs_that_cannot_be_judged_are_left_alone(constant: bool, recipe: str) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    result = tfq.quantize(write(classes(constant)), recipe, rows, prefer="size")
    assert result.report.verdict is not None
    assert not any(row.applied for row in result.report.transforms if row.name == "islands")


def test_data_that_differs_from_read_to_read_is_put_aside() -> None:
    reads = []

    def samples() -> object:
        reads.append(len(reads))
        return (image[None] for image in data(24, seed=len(reads)))

    tfq.quantize(write(behind_relu()), "full_int8", samples)
    assert len(reads) == 1
    assert gain([10.0, 11.0], [12.0, -math.inf]) == (-math.inf, 0.0)
    assert gain([-math.inf, 11.0], [12.0, 12.0]) == (math.inf, 0.0)


def test_a_model_with_state_is_not_measured() -> None:
    net = Net(3, 5)
    graph = net.graph(net.dense(0, 7))
    tensors = (*graph.main.tensors, replace(graph.main.tensors[0], name="state", is_variable=True))
    graph = replace(graph, subgraphs=(replace(graph.main, tensors=tensors),))
    result = tfq.quantize(write(graph), "full_int8", np.ones((4, 3, 5), np.float32))
    assert result.report.transforms[0].text == "the model keeps state between samples"


def test_there_is_no_line_without_data() -> None:
    assert tfq.quantize(write(plain()), "dynamic_int8").report.transforms == ()


def test_the_command_has_a_flag_for_each() -> None:
    assert {name: row.default for name, row in TRANSFORMS.items()} == arguments.TRANSFORMS
    given = arguments.parse(["tfq-fine", "quantize", "m", "--recipe", "r", "--output", "o", "--no-cross-layer"])
    assert not given.cross_layer and given.fold_batch_norm and given.bias_correction


def test_files_read_back() -> None:
    """The graph of the file is as valid as that of any other."""
    result = tfq.quantize(write(behind_relu()), "full_int8", data())
    assert [op.code for op in read(result.content).main.ops] == [op.code for op in result.graph.main.ops]
    assert all(isinstance(op, Op) for op in result.graph.main.ops)


def test_the_order_of_the_data_is_no_matter() -> None:
    """Samples that decide are chosen by their values; only the order of float sums of means differs."""
    graph, given = behind_relu(), data(40)
    orders = (given, given[::-1], given[np.argsort(given.mean(axis=(1, 2, 3)))])
    found = [tfq.quantize(write(graph), "full_int8", order) for order in orders]
    assert [r.report.transforms for r in found[1:]] == [found[0].report.transforms] * 2
    assert len({round(sqnr(r.content, graph), 1) for r in found}) == 1


def test_blank_samples_first_cost_nothing() -> None:
    graph, given = behind_relu(), data(40)
    blank = np.concatenate([np.zeros_like(given[:16]), given[16:]])
    found = [sqnr(tfq.quantize(write(graph), "full_int8", d).content, graph) for d in (given, blank)]
    assert found[1] > found[0] - 1


def test_parts_of_a_concatenation_that_differ_are_equalized() -> None:
    """One part is 50 times as large as the other; new samples gain more than an island would be needed for."""
    graph = joined(50.0, fixed=False)
    data, new = (np.random.default_rng(n).normal(size=(64, 6)).astype(np.float32) for n in (0, 1))
    decibels = {}
    for names in ((), ("cross_layer",)):
        result = tfq.quantize(write(graph), "full_int8", data, transforms=names)
        files = Runner(write(graph)), Runner(result.content)
        exact, close = (np.concatenate([file.run([row[None]])[0] for row in new]) for file in files)
        decibels[names] = 10 * np.log10(np.square(exact).sum() / np.square(exact - close).sum())
    assert [row.applied for row in result.report.transforms] == [True]
    assert decibels["cross_layer",] > decibels[()] + 6


def test_the_former_name_of_the_argument_is_warned_of() -> None:
    expected = tfq.quantize(write(plain()), "dynamic_int8", data(8), transforms="bias_correction")
    with pytest.warns(DeprecationWarning, match="'repairs' is now called 'transforms'") as caught:
        result = tfq.quantize(write(plain()), "dynamic_int8", data(8), repairs="bias_correction")  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    assert result.content == expected.content and result.report == expected.report
    with pytest.raises(TypeError, match="both 'transforms' and its former name 'repairs'"):
        tfq.quantize(write(plain()), transforms=None, repairs=None)  # type: ignore[call-arg]
