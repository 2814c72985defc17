"""Every mode in one file, and constants that several operators read."""

from dataclasses import replace

import numpy as np
import pytest

import tfq_fine
from support.emitted import File, constants
from support.graphs import RELU
from support.nets import Net
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph
from tfq_converters.runtime.runner import Runner
from tfq_fine.api import Result
from tfq_fine.request.granularity import Blocks, ChannelGroups, PerTensor
from tfq_fine.request.recipe import Recipe, Rule
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

A8, A16 = ActivationSpec(8), ActivationSpec(16)


def mixed() -> Graph:
    net = Net(1, 9, 11, 5)
    x = net.conv(0, 41, RELU)  # a
    x = net.conv(x, 37, window=1)  # b
    x = net.simple("TANH", x)  # c
    x = net.depthwise(x)  # d
    x = net.conv(x, 19, RELU)  # e
    x = net.mean(x)  # f
    x = net.dense(x, 40, RELU)  # g
    x = net.dense(x, 70)  # h
    x = net.dense(x, 33, RELU)  # i
    return net.graph(net.dense(x, 7))  # j


# layer -> what its rule says, the form that follows, the weights and activations that the report names
RULES: tuple[tuple[str, OpSpec | None, str, str, str], ...] = (
    ("conv_2d_a", OpSpec("integer", WeightSpec(8), A8), "native", "int8 per-channel", "int8"),
    ("conv_2d_b", OpSpec("integer", WeightSpec(2, PerTensor()), A8), "pointwise", "int2 per-tensor", "int8"),
    ("tanh_c", OpSpec("integer", WeightSpec(8), A16), "", "", "int16"),
    ("depthwise_conv_2d_d", None, "", "", ""),
    (
        "conv_2d_e",
        OpSpec("integer", WeightSpec(4, ChannelGroups(3)), A16),
        "native",
        "int4 channel-groups of 3",
        "int16",
    ),
    ("mean_f", OpSpec("integer", WeightSpec(8), A8), "", "", "int8"),
    ("fully_connected_g", OpSpec("dynamic", WeightSpec(4)), "native", "int4 per-channel", ""),
    ("fully_connected_h", OpSpec("dynamic", WeightSpec(4, Blocks(32))), "blockwise", "int4 blocks of 32", ""),
    (
        "fully_connected_i",
        OpSpec("weight_only", WeightSpec(3, Blocks(20), symmetric=False)),
        "dequantize",
        "int4 (3 bits used) blocks of 18",
        "",
    ),
    ("fully_connected_j", OpSpec("integer", WeightSpec(2), A16), "native", "int2 per-channel", "int16"),
)


def test_every_mode_in_one_file() -> None:
    """It runs, or it would not have been handed over; every layer is what its rule says."""
    data = np.random.default_rng(0).normal(size=(8, 9, 11, 5)).astype(np.float32)
    rules = tuple(Rule(spec, layer=layer) for layer, spec, *_ in RULES)
    result = tfq_fine.quantize(write(mixed()), Recipe("mixed", None, rules), data=data, prefer="size")
    rows = {row.layer: row for row in result.report.rows}
    for layer, spec, form, weights, activations in RULES:
        row = rows[layer]
        assert row.mode == (spec.mode if spec else "float"), layer
        assert (row.form, row.weights, row.activations) == (form, weights, activations), layer
    x = data[:1]
    default, optimized = (Runner(result.content, kernels).run([x])[0] for kernels in ("default", "optimized"))
    largest = np.abs(default).max()
    # the kernels differ by a step here and there, of coarse layers, and 1 % where they quantize on the fly
    np.testing.assert_allclose(optimized, default, atol=0.05 * largest)
    before = Runner(write(mixed())).run([x])[0]
    assert np.corrcoef(before.reshape(-1), default.reshape(-1))[0, 1] > 0.5  # 2 and 3 bits in a row


def twice(first: OpSpec, second: OpSpec) -> Result:
    """One constant that two dense layers read."""
    net = Net(1, 40)
    x = net.simple("TANH", 0)
    one, two = net.dense(x, 11), net.dense(net.simple("RELU", x), 11)
    graph = net.graph(one, two)
    shared = graph.main.ops[-1].inputs[1]
    ops = [replace(op, inputs=(op.inputs[0], shared, *op.inputs[2:])) if op.layer.startswith("fully") else op
           for op in graph.main.ops]  # fmt: skip
    graph = replace(graph, subgraphs=(replace(graph.main, ops=tuple(ops)),))
    layers = [op.layer for op in ops if op.layer.startswith("fully")]
    rules = tuple(Rule(spec, layer=layer) for layer, spec in zip(layers, (first, second), strict=True))
    data = np.random.default_rng(0).normal(size=(8, 40)).astype(np.float32)
    return tfq_fine.quantize(write(graph), Recipe("twice", None, rules), data=data, prefer="size")


def stored_weights(result: Result) -> list[set[int]]:
    """The buffers of the weights of each output."""
    file = File(result.content)
    buffers = dict(constants(file))
    return [{buffers[file.stored(t)] for t in file.linear(output).weight_tensors()} for output in file.outputs]


SHARING: dict[str, tuple[OpSpec, OpSpec, bool]] = {
    "native": (OpSpec("dynamic", WeightSpec(4)), OpSpec("dynamic", WeightSpec(4)), True),
    "split": (OpSpec("dynamic", WeightSpec(8, Blocks(20))), OpSpec("dynamic", WeightSpec(8, Blocks(20))), True),
    "blockwise": (OpSpec("dynamic", WeightSpec(4, Blocks(32))), OpSpec("dynamic", WeightSpec(4, Blocks(32))), True),
    "dequantize": (
        OpSpec("weight_only", WeightSpec(4, Blocks(20))),
        OpSpec("weight_only", WeightSpec(4, Blocks(20))),
        True,
    ),
    "integer": (OpSpec("integer", WeightSpec(8), A8), OpSpec("integer", WeightSpec(8), A8), True),
    "other_activations": (OpSpec("integer", WeightSpec(8), A8), OpSpec("integer", WeightSpec(8), A16), True),
    "other_mode": (OpSpec("dynamic", WeightSpec(8)), OpSpec("integer", WeightSpec(8), A8), True),
    "other_bits": (OpSpec("dynamic", WeightSpec(8)), OpSpec("dynamic", WeightSpec(4)), False),
    "other_granularity": (OpSpec("dynamic", WeightSpec(8)), OpSpec("dynamic", WeightSpec(8, ChannelGroups(3))), False),
    "other_algorithm": (
        OpSpec("dynamic", WeightSpec(4, algorithm="round_to_nearest")),
        OpSpec("dynamic", WeightSpec(4, algorithm="mse_clip")),
        False,
    ),
}


@pytest.mark.parametrize("name", SHARING)
def test_constants_are_shared_where_specs_agree(name: str) -> None:
    """What two operators read is stored once, whatever their activations; else each has its own."""
    first, second, shared = SHARING[name]
    result = twice(first, second)
    one, two = stored_weights(result)
    assert (one == two) == shared
    assert shared or not one & two
    assert {row.mode for row in result.report.rows if row.weights} == {first.mode, second.mode}
