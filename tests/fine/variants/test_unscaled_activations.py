"""Outliers after an activation function and in the values of attention, which no gamma of a norm can take."""

from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.nets import Net
from support.norm_nets import attention, layer_norm
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph
from tfq_converters.runtime.runner import Runner
from tfq_fine.api import Result
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.transforms import unscaled_paths, with_products
from tfq_fine.variants.select_transforms import chosen_transforms

TOKENS, INPUTS, INNER, OUTPUTS = 7, 11, 35, 5
OUTLIERS, FACTOR = [3, 17, 30], 100.0


def data(count: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, TOKENS, INPUTS)).astype(np.float32)


def mlp(mover: bool = False) -> Graph:
    """Two layers with GELU in between; three of its channels are large, and the weights that read them small."""
    net, size = Net(1, TOKENS, INPUTS), np.ones(INNER)
    size[OUTLIERS] = FACTOR
    x = net.simple("GELU", widened(net, net.dense(0, INNER), size, rows=True))
    x = net.reshape(x, TOKENS, INNER) if mover else x
    return net.graph(widened(net, net.dense(x, OUTPUTS), 1 / size, rows=False))


def attended(after_norm: bool) -> Graph:
    """Attention with large channels of the values, perhaps after a norm, whose constants tell their size."""
    net, size = Net(1, TOKENS, INPUTS), np.ones(15)
    size[[2, 9]] = FACTOR
    x = layer_norm(net, net.simple("NEG", 0), np.ones(INPUTS), np.zeros(INPUTS)) if after_norm else 0
    heads = attention(net, x, 3, 5)
    values = next(op for op in reversed(net.ops) if op.code == "FULLY_CONNECTED").outputs[0]
    widened(net, values, size, rows=True)
    return net.graph(widened(net, net.dense(heads, OUTPUTS), 1 / size, rows=False))


def widened(net: Net, y: int, size: np.ndarray, rows: bool) -> int:
    """Multiply the rows or the columns of the weights that make `y`, and its bias where rows are."""
    o = next(o for o, op in enumerate(net.ops) if y in op.outputs)
    x, weight, bias = net.ops[o].inputs
    values = net.tensors[weight].constant * (size[:, None] if rows else size)
    shift = net.tensors[bias].constant * (size if rows else 1)
    constants = (net.constant(each.astype(np.float32)) for each in (values, shift))
    net.ops[o] = replace(net.ops[o], inputs=(x, *constants))
    return y


def sqnr(result: Result, graph: Graph) -> float:
    files, sums = (Runner(write(graph)), Runner(result.content)), ErrorSums()
    for sample in data(40, seed=1):
        (expected,), (found,) = (file.run([sample[None]]) for file in files)
        sums += ErrorSums.of(expected, found)
    return sums.sqnr_db


def quantized(graph: Graph, recipe: str, *transforms: str) -> Result:
    return tfq.quantize(write(graph), recipe, data(), transforms=transforms, quality="fast", prefer="size")


@pytest.mark.parametrize("mover", [False, True])
def test_a_product_leaves_the_outputs(mover: bool) -> None:
    graph = mlp(mover)
    (path,) = unscaled_paths(graph)
    rewritten = with_products(graph, [(path, np.random.default_rng(0).uniform(0.25, 4, INNER))])
    assert [op.code for op in rewritten.graph.main.ops].count("MUL") == 1
    assert [graph.main.ops[o].code for o in rewritten.origin][1:3] == ["GELU", "GELU"]
    (expected,), (found,) = (Runner(write(each), "reference").run([data(1)]) for each in (graph, rewritten.graph))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_what_a_constant_scales_gets_no_product() -> None:
    net = Net(1, TOKENS, INPUTS)
    assert not unscaled_paths(net.graph(net.dense(net.dense(0, INNER, fused=1), OUTPUTS)))


@pytest.mark.parametrize(("recipe", "gain"), [("full_int8", 10), ("dynamic_int8", 5)])
def test_a_product_brings_channels_after_gelu_to_one_size(recipe: str, gain: float) -> None:
    graph = mlp()
    before, after = (quantized(graph, recipe, *names) for names in ((), ("explicit_mul",)))
    (row,) = after.report.transforms
    assert row.applied
    assert [op.code for op in after.graph.main.ops].count("MUL") == 1
    assert sqnr(after, graph) > sqnr(before, graph) + gain


def test_no_product_is_tried_by_default() -> None:
    assert "explicit_mul" not in chosen_transforms("auto", tfq.RECIPES["fptq"].transforms)


def test_what_gelu_makes_is_rounded_token_by_token() -> None:
    """Its range is beyond v1 = 150, and no constant scales it: both matrices are dynamic, and GELU is float."""
    result = quantized(mlp(), "full_int8", "log_equalization")
    (row,) = result.report.transforms
    assert row.applied
    assert row.text.startswith("0 activations equalized and 1 dynamic by range")
    assert [found.mode for found in result.report.rows] == ["dynamic", "float", "dynamic"]


@pytest.mark.parametrize("name", ["smooth_quant", "log_equalization"])
@pytest.mark.parametrize("after_norm", [False, True])
def test_values_with_outliers_are_scaled_through_attention(name: str, after_norm: bool) -> None:
    graph = attended(after_norm)
    before, after = (quantized(graph, "full_int8", *names) for names in ((), (name,)))
    assert after.report.transforms[0].applied
    assert sqnr(after, graph) > sqnr(before, graph) + 10
