"""The builder of graphs: what is added, changed and taken out is in the subgraph that comes of it, and runs."""

import numpy as np

from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph, Tensor
from tfq_converters.graph_edit import steps
from tfq_converters.graph_edit.builder import GraphBuilder
from tfq_converters.graph_edit.fake_quantize import fake_quantized
from tfq_converters.quantized import ActivationEncoding
from tfq_converters.runtime.runner import Runner

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
SOURCE = Subgraph(
    "main",
    (Tensor("x", X.shape, "float32"), Tensor("unused", (1,), "float32"), Tensor("y", X.shape, "float32")),
    (Op("ABS", (0,), (2,), layer="abs"),),
    (0,),
    (2,),
)


def run(builder: GraphBuilder, outputs: list[int]) -> list[np.ndarray]:
    subgraph, _ = builder.finish(SOURCE, outputs=outputs)
    return Runner(write(Graph((subgraph,)))).run([X])


def test_steps_compute_what_they_say():
    builder = GraphBuilder(SOURCE.tensors, SOURCE.ops)
    low, high = steps.range_of(builder, 0)
    row = steps.joined(builder, [steps.over_channels(builder, "REDUCE_MAX", 2), steps.packed(builder, [low, high])])
    energy = steps.mean_square(builder, steps.difference(builder, 0, 2))
    first, second = run(builder, [row, energy])
    assert np.array_equal(first, [*np.abs(X).max((0, 1)), X.min(), X.max()])
    # a mean of 24 squares in another order: a few units of 2^-24 of it
    assert np.isclose(second, np.mean((X - np.abs(X)) ** 2), rtol=1e-6)


def test_fake_quantized_values_are_those_of_the_codes():
    for form in (ActivationEncoding("int8", 0.03, 5), ActivationEncoding("int16", 1e-4, 0)):
        builder = GraphBuilder(SOURCE.tensors)
        (found,) = run(builder, [fake_quantized(builder, 0, form)])
        assert np.array_equal(found, form.decode(form.encode(X)))


def test_finish_leaves_out_what_nothing_uses():
    builder = GraphBuilder(SOURCE.tensors, SOURCE.ops)
    kept = builder.step("NEG", (2,), Tensor("z", X.shape, "float32"), None)
    subgraph, places = builder.finish(SOURCE, outputs=[kept])
    assert [tensor.name for tensor in subgraph.tensors] == ["x", "y", "z"]
    assert places == {0: 0, 2: 1, 3: 2}
    assert subgraph.outputs == (2,)
    assert SOURCE.ops[0].outputs == (2,)  # the source is a value still


def test_changes_of_operators():
    builder = GraphBuilder(SOURCE.tensors, SOURCE.ops)
    builder.layer = "added"
    one, same = builder.shared([1, 2]), builder.shared(np.array([1, 2]))
    assert one == same
    (copy,) = builder.again(builder.ops[0])
    assert (builder.tensors[copy].name, builder.ops[1].layer) == ("y/again", "abs")
    builder.step("NEG", (2,), Tensor("z", X.shape, "float32"), None)
    assert builder.ops[2].layer == "added"
    builder.feed_instead(2, copy)
    builder.remove(0)
    builder.feed(2, 1, ABSENT)
    subgraph = builder.subgraph(SOURCE)
    assert [(op.code, op.inputs) for op in subgraph.ops] == [("ABS", (0,)), ("NEG", (copy, ABSENT))]
    assert builder.kept() == (1, 2)
    builder.rename(0, "scaled")
    builder.rename(0, "scaled")
    assert builder.tensors[0].name == "x/scaled"
