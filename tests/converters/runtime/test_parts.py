"""Files whose weights unpack to much are run in parts, each on the kernels that a whole file is run on."""

import numpy as np
import pytest

import tfq_fine
from support.graphs import images, small_cnn
from support.nets import Net
from support.sabotage import one_code_off, quantized, sabotaged
from tfq_converters import flatbuffer, writer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.graph_edit import parts
from tfq_converters.graph_edit.parts import Part, cut
from tfq_converters.realize.realized import realize
from tfq_converters.runtime.runner import Runner


def branches() -> Graph:
    """Four dense layers; the first result is read again by the last, two parts later."""
    net = Net(3, 70)
    first = net.dense(0, 17)
    second = net.dense(first, 70)
    third = net.dense(second, 17)
    return net.graph(net.dense(net.sum(first, third), 5))


def emitted(recipe: str) -> Graph:
    return tfq_fine.quantize(flatbuffer.write(branches()), recipe, prefer="size").graph


def run_parts(graph: Graph, found: list[Part], inputs: list[np.ndarray]) -> dict[int, np.ndarray]:
    values = dict(zip(graph.main.inputs, inputs, strict=True))
    for part in found:
        shown = Runner(flatbuffer.write(part.graph)).run([values[t] for t in part.inputs])
        values |= dict(zip(part.outputs, shown, strict=True))
    return values


@pytest.mark.parametrize("recipe", ["weight_only_int8", "weight_only_int4_block32", "float16"])
def test_parts_compute_what_the_whole_computes(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = emitted(recipe)
    assert cut(graph, []) == []  # it is small
    monkeypatch.setattr(parts, "PART_BYTES", 4 * 1400)
    found = cut(graph, [])
    assert len(found) == 3  # three layers of 1,190 weights; the 85 of the last still fit
    assert [op.code for part in found for op in part.graph.main.ops] == [op.code for op in graph.main.ops]
    x = np.random.default_rng(0).normal(size=(3, 70)).astype(np.float32)
    values = run_parts(graph, found, [x])
    for t, expected in zip(graph.main.outputs, Runner(flatbuffer.write(graph)).run([x]), strict=True):
        np.testing.assert_allclose(values[t], expected, rtol=1e-5, atol=1e-5)  # float32 sums, in another order


def test_no_unpacked_weight_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed of constants alone is computed in the part that reads it."""
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    found = cut(emitted("weight_only_int4_block32"), [])
    assert len(found) == 4
    shapes = [part.graph.main.tensors[t].shape for part in found for t in part.graph.main.inputs]
    assert {shape[0] for shape in shapes} == {3}  # activations of a batch of 3


def test_a_dynamic_range_file_unpacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 0)
    assert cut(emitted("dynamic_int8"), []) == []


@pytest.mark.parametrize("recipe", ["weight_only_int8", "weight_only_int4_block32"])
def test_the_run_check_sees_every_part(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = writer.write(quantized(recipe), [(images(1),)]).checked
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    checked = writer.write(quantized(recipe), [(images(1),)]).checked
    assert whole.parts == 1 < checked.parts
    assert checked.kernels == whole.kernels
    assert checked.sqnr.keys() == whole.sqnr.keys()
    np.testing.assert_allclose(list(checked.sqnr.values()), list(whole.sqnr.values()), atol=0.01)  # the same, in dB


def test_a_wrong_code_is_caught_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = quantized("weight_only_int8")
    monkeypatch.setattr(writer, "realize", lambda given: sabotaged(realize(given), one_code_off))
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    with pytest.raises(TfqError, match=r"on the default kernels, conv \(CONV_2D\) computes something else"):
        writer.write(numbers, [(images(1),)])


def test_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    notes = tfq_fine.quantize(flatbuffer.write(small_cnn()), "weight_only_int8", prefer="size").report.notes
    assert any("it was run in 3 parts" in note for note in notes)
