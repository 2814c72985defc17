"""Which layers suffer most from few bits: each one's weights are quantized alone, and the outputs are compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op
from tfq_converters.operators import WeightAxes, weight_axes
from tfq_converters.runtime import Runner
from tfq_fine.algorithms import WeightProblem, solve
from tfq_fine.numerics import affine
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.request.granularity import PerChannel, block_shape
from tfq_fine.request.specs import WeightSpec


def sensitive_layers(graph: Graph, samples: np.ndarray, weights: WeightSpec, share: float) -> list[str]:
    """Return the layers, `share` of all that have weights, without which the output SQNR is worst; the worst first.

    Args:
        graph: the float graph.
        samples: real inputs (n, *input).
        weights: what every layer gets; all granularities are taken as per-channel here.
        share: 0 .. 1.
    """
    expected = _outputs(graph, samples)
    quality = {}
    for op in graph.main.ops:
        for axes in weight_axes(op, graph.main):
            quality[op.layer] = ErrorSums.of(
                expected, _outputs(_with_rounded(graph, op, axes, weights), samples)
            ).sqnr_db
    worst = sorted(quality, key=lambda layer: quality[layer])
    return worst[: max(1, round(share * len(worst)))]


def _with_rounded(graph: Graph, op: Op, axes: WeightAxes, weights: WeightSpec) -> Graph:
    tensors = list(graph.main.tensors)
    index = op.inputs[axes.slot]
    data = tensors[index].data
    assert data is not None
    block = block_shape(PerChannel(), data.shape, axes.channel)
    form = affine.CodeFormat(weights.bits)
    codes = solve(weights, WeightProblem(data, block, form))
    tensors[index] = replace(tensors[index], data=codes.dequantize())
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)), *graph.subgraphs[1:]))


def _outputs(graph: Graph, samples: np.ndarray) -> np.ndarray:
    runner = Runner(flatbuffer.write(graph), threads=2)
    return np.concatenate([runner.run([samples[index : index + 1]])[0] for index in range(len(samples))])
