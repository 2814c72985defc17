"""Every mode, width and granularity, as a file that passes the run check."""

from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from benchmarks.granularity_settings import BITS, MODES, spec
from support.graphs import DENSE, images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime.runner import Runner
from tfq_fine.request.granularity import Blocks, ChannelGroups, PerChannel, PerTensor
from tfq_fine.request.presets import RECIPES
from tfq_fine.request.specs import OpSpec
from tfq_fine.verification.side import decode

GRANULARITIES = (PerTensor(), ChannelGroups(4), PerChannel(), Blocks(3))
DATA = images(8)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=repr)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefer", ["size", "speed"])
def test_file_computes_its_numbers(mode, bits, granularity, prefer):
    """The sides are coprime with the groups: 7 channels, and 5 in two groups of 4."""
    recipe = tfq.Recipe("requested", spec(mode, bits, granularity), flexible=True)
    result = tfq.quantize(flatbuffer.write(small_cnn()), recipe, DATA, prefer=prefer)
    assert result.content  # the run check has passed


def test_bias_of_groups_has_the_scales_of_its_channels() -> None:
    """Two groups of five channels are four and one, not three and two."""
    recipe = tfq.Recipe("groups", spec("integer", 8, ChannelGroups(4)))
    main = tfq.quantize(flatbuffer.write(small_cnn()), recipe, DATA).graph.main
    dense = next(op for op in main.ops if op.code == "FULLY_CONNECTED")
    weight, bias = (main.tensors[t].quantization for t in dense.inputs[1:])
    assert weight is not None and bias is not None
    ratios = bias.scale / weight.scale
    assert len(ratios) == 5
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)  # all of them the scale of the input


@pytest.mark.parametrize("recipe", ["weight_only_int4", "dynamic_int4"])
def test_data_corrects_biases_without_integers(recipe):
    """The mean logits stay near those in float; rounding alone shifts them."""
    graph = small_cnn()
    content, batch = flatbuffer.write(graph), images(64)

    def shift(data: np.ndarray | None) -> float:
        made = tfq.quantize(content, recipe, data, prefer="size", quality="fast").content
        float_mean, found = (logits(source, batch).mean(axis=0) for source in (content, made))
        return float(np.abs(found - float_mean).max())

    assert shift(batch) < 0.5 * shift(None)  # on the way through the model means shift again, which nothing takes back
    plain = replace(RECIPES[recipe], default=replace_weights(RECIPES[recipe].default, bias_correction=False))
    assert tfq.quantize(content, plain, batch, quality="fast").statistics is None  # nothing asks for a calibration


def logits(content: bytes, batch: np.ndarray) -> np.ndarray:
    graph = flatbuffer.read(content)
    (dense,) = (op for op in graph.main.ops if op.code == "FULLY_CONNECTED")
    exposed = replace(graph, subgraphs=(replace(graph.main, outputs=dense.outputs),), signatures=())
    runner = Runner(flatbuffer.write(exposed))
    found = np.concatenate([runner.run([image[None]])[0] for image in batch])
    return decode(found, graph.main.tensors[dense.outputs[0]])


def replace_weights(requested: OpSpec | None, **changes: object) -> OpSpec:
    assert requested is not None and requested.weights is not None
    return replace(requested, weights=replace(requested.weights, **changes))


@pytest.mark.parametrize("bits", BITS)
def test_blocks_of_weight_only_files_cost_two_bytes_each(bits):
    """A scale in float16 for each block: no zero points, and no float32 scales."""
    graph = small_cnn()
    (dense,) = (op for op in graph.main.ops if op.code == "FULLY_CONNECTED")
    recipe = tfq.Recipe("requested", None, (tfq.Rule(spec("weight_only", bits, Blocks(3)), op="FULLY_CONNECTED"),))

    def size(rows: int) -> int:
        kernel = np.random.default_rng(0).normal(size=(rows, 7)).astype(np.float32)
        return len(tfq.quantize(flatbuffer.write(with_dense(graph, dense, kernel)), recipe, prefer="size").content)

    more = 512
    codes, scales, biases = more * 9 * bits // 8, 2 * more * 3, 4 * more  # 7 inputs are filled up to 9
    assert abs(size(2 * more) - size(more) - (codes + scales + biases)) <= 64  # alignment


def with_dense(graph: Graph, dense: Op, kernel: np.ndarray) -> Graph:
    """`graph` with another kernel, and a bias of zeros, in its FULLY_CONNECTED."""
    tensors = list(graph.main.tensors)
    for index, data in zip(dense.inputs[1:], (kernel, np.zeros(len(kernel), np.float32)), strict=True):
        tensors[index] = replace(tensors[index], shape=data.shape, data=data)
    for index in (*dense.outputs, *graph.main.outputs):
        tensors[index] = replace(tensors[index], shape=(1, len(kernel)))
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("share", [1e-6, 1e-8, 0.0])
def test_channels_that_are_all_but_switched_off_keep_their_bias(bits, share):
    """The fast kernels of 4 and 2 bits accumulate in the high bits of a byte: a bias near 2^28 codes overflows."""
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(16, 8)).astype(np.float32), np.linspace(-3, 3, 16, dtype=np.float32)
    kernel[::5] *= np.float32(share)
    content = flatbuffer.write(dense_alone(kernel, bias))
    batch = rng.normal(size=(64, 8)).astype(np.float32)
    result = tfq.quantize(content, tfq.Recipe("requested", spec("integer", bits, PerChannel())), batch)
    (row,) = result.report.rows
    assert row.weights == f"int{bits} per-channel"
    off = np.abs(logits(result.content, batch) - logits(content, batch))[:, ::5]
    assert off.max() < 0.05  # codes of the output are about 0.06 apart
    stored = result.graph.main.tensors[result.graph.main.ops[1].inputs[2]]
    assert stored.data is not None and stored.quantization is not None
    np.testing.assert_allclose((stored.data * stored.quantization.scale)[::5], bias[::5], atol=1e-3)


def dense_alone(kernel: np.ndarray, bias: np.ndarray) -> Graph:
    """One FULLY_CONNECTED on rows of an even number of inputs, which the fast int4 kernels ask for."""
    tensors = (
        Tensor("x", (1, kernel.shape[1]), "float32"),
        Tensor("kernel", kernel.shape, "float32", data=kernel),
        Tensor("bias", bias.shape, "float32", data=bias),
        Tensor("y", (1, len(kernel)), "float32"),
    )
    ops = (Op("FULLY_CONNECTED", (0, 1, 2), (3,), Options("FullyConnectedOptions", DENSE)),)
    return Graph((Subgraph("main", tensors, ops, (0,), (3,)),))
