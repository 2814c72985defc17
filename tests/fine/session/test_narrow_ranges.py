"""Activations of next to no range, as those of networks that were not trained: their files run on all kernels."""

import numpy as np
import pytest

import tfq_fine as tfq
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime import Runner

RANDOM = np.random.default_rng(5)
RELU6 = 3  # of the schema's ActivationFunctionType


def _narrow(scale: float) -> bytes:
    """x [1, 9] -> FULLY_CONNECTED with RELU6, of values about `scale` -> FULLY_CONNECTED -> SOFTMAX."""
    one, two = RANDOM.normal(size=(7, 9)), RANDOM.normal(size=(5, 7))
    tensors = (
        Tensor("x", (1, 9), "float32"),
        Tensor("w1", (7, 9), "float32", data=(scale * one).astype(np.float32)),
        Tensor("a", (1, 7), "float32"),
        Tensor("w2", (5, 7), "float32", data=two.astype(np.float32)),
        Tensor("logits", (1, 5), "float32"),
        Tensor("scores", (1, 5), "float32"),
    )

    def dense(activation: int) -> Options:
        settings = {"weightsFormat": 0, "keepNumDims": False, "asymmetricQuantizeInputs": False, "quantizedBiasType": 0}
        return Options("FullyConnectedOptions", settings | {"fusedActivationFunction": activation})

    ops = (
        Op("FULLY_CONNECTED", (0, 1, -1), (2,), dense(RELU6)),
        Op("FULLY_CONNECTED", (2, 3, -1), (4,), dense(0)),
        Op("SOFTMAX", (4,), (5,), Options("SoftmaxOptions", {"beta": 1.0})),
    )
    return flatbuffer.write(Graph((Subgraph("main", tensors, ops, (0,), (5,)),)))


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e-10, 1e-20])
@pytest.mark.parametrize("recipe", ["full_int8", "full_int16x8"])
def test_narrow_ranges_run(recipe, scale):
    """At 1e-10, a bound of 6 is 2e11 steps of the range; both failed to run before scales had a least value."""
    x = RANDOM.normal(size=(20, 9)).astype(np.float32)
    result = tfq.quantize(_narrow(scale), recipe, x, prefer="size")
    assert all(row.mode == "integer" for row in result.report.rows)
    scores = Runner(result.content).run([x[:1]])[0]
    np.testing.assert_allclose(scores, 0.2, atol=0.01)  # logits of 0: all classes are alike, to a step of 1/256
