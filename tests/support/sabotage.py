"""Quantized graphs, and ways to make their files wrong."""

from dataclasses import replace

from support.graphs import images, small_cnn
from tfq_converters.graph import Graph, Tensor
from tfq_converters.realize.realized import Realized
from tfq_fine.activations import encoded_plan
from tfq_fine.calibration import calibrate
from tfq_fine.data import Batch
from tfq_fine.planning import Policy, make_plan
from tfq_fine.request.presets import RECIPES
from tfq_fine.weights import quantize


def quantized(recipe: str, graph: Graph | None = None):  # type: ignore[no-untyped-def]
    graph = graph or small_cnn()
    statistics = calibrate(graph, (Batch((images(1, n),), None, n) for n in range(4)))
    plan = make_plan(graph, RECIPES[recipe].resolve(graph), Policy("size", flexible=True))
    return quantize(graph, encoded_plan(graph, plan, statistics))


def sabotaged(realized: Realized, change) -> Realized:  # type: ignore[no-untyped-def]
    """`realized` with `change` applied to every int8 weight."""
    main = realized.graph.main
    tensors = tuple(
        change(t) if t.dtype == "int8" and t.data is not None and t.data.ndim > 1 else t for t in main.tensors
    )
    return replace(realized, graph=replace(realized.graph, subgraphs=(replace(main, tensors=tensors),)))


def one_code_off(tensor: Tensor) -> Tensor:
    assert tensor.data is not None
    data = tensor.data.copy()
    data.reshape(-1)[:9] ^= 64
    return replace(tensor, data=data)
