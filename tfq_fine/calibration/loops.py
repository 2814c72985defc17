"""Moments of what operators inside loops read, over all steps: the loop itself adds them up.

The body of a WHILE cannot be looked into from outside. So it is given more variables: for each operator the sum of
x^T x, that of x, and the number of rows of x so far. They start at 0, and leave the loop as results.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import Float32Array, Float64Array, Graph, Op, Options, Subgraph, Tensor
from tfq_converters.graph_edit import GraphBuilder, steps
from tfq_converters.operators import PLAIN_ADD, data_of, weight_axes
from tfq_converters.quantized import OpKey
from tfq_converters.runtime import Runner, depends_on_unrunnable
from tfq_fine.algorithms import Moments
from tfq_fine.calibration.kept_samples import Sample

CODE = "WHILE"
_PRODUCT = Options("BatchMatMulOptions", {"adjX": True, "adjY": False, "asymmetricQuantizeInputs": False})


def loop_operators(graph: Graph) -> dict[OpKey, int]:
    """Return the matrix products inside loops whose inputs can be observed -> the WHILE of the main subgraph.

    Those in a body that one WHILE of the main subgraph alone runs, where all of the model can be run.
    """
    return graph.derived.once(lambda: _loop_operators(graph), key="loop operators")


def _loop_operators(graph: Graph) -> dict[OpKey, int]:
    runs = Counter(
        body for subgraph in graph.subgraphs for op in subgraph.ops if op.code == CODE for body in _parts(op)
    )
    if depends_on_unrunnable(graph):
        return {}
    return {
        (body, n): o
        for o, loop in enumerate(graph.main.ops)
        if loop.code == CODE and all(runs[part] == 1 for part in _parts(loop))
        for body in (_parts(loop)[1],)
        for n, op in enumerate(graph.subgraphs[body].ops)
        if op.code == "FULLY_CONNECTED" and _is_observable(op, graph.subgraphs[body])
    }


def _parts(loop: Op) -> tuple[int, int]:
    """Return the subgraphs of a WHILE: its condition and its body."""
    return loop.option("condSubgraphIndex"), loop.option("bodySubgraphIndex")


def _is_observable(op: Op, body: Subgraph) -> bool:
    data = body.tensors[data_of(op)]
    is_sized = bool(data.shape) and -1 not in data.dynamic_shape and 0 not in data.shape
    return bool(weight_axes(op, body)) and data.dtype == "float32" and not data.is_constant and is_sized


def _moments(products: Float64Array, values: Float64Array, rows: Float64Array) -> Moments:
    """Return the moments of float inputs, in one group, from the sums [K, K], [K] and [1]."""
    count = max(float(rows.sum()), 1.0)
    hessian, mean = (products / count)[None], (values / count)[None]
    return Moments(hessian, np.zeros_like(hessian), mean, mean, int(count))


def loop_moments(graph: Graph, samples: Sequence[Sample], threads: int = 1) -> dict[OpKey, Moments]:
    """Return the moments of the float inputs of every operator of `loop_operators`, over all steps and samples.

    Args:
        graph: the float graph.
        samples: inputs of the model, in input order.
        threads: the number of threads of the interpreter.
    """
    keys = list(loop_operators(graph))
    if not keys or not samples:
        return {}
    with flatbuffer.scratch(_with_sums(graph)) as path:
        runner = Runner(path, threads=threads)
    totals: list[Float64Array] = []
    for sample in samples:
        runner.reset_variables()
        results = [np.asarray(value, np.float64) for value in runner.run(sample)]
        totals = results if not totals else [total + each for total, each in zip(totals, results, strict=True)]
    return {key: _moments(*totals[3 * n : 3 * n + 3]) for n, key in enumerate(keys)}


def _with_sums(graph: Graph) -> Graph:
    """Return the graph whose outputs are the three sums of every operator of `loop_operators`, in that order."""
    subgraphs, main = list(graph.subgraphs), GraphBuilder(graph.main.tensors, graph.main.ops)
    inside: dict[int, list[int]] = {}  # WHILE -> operators of its body
    for (_, n), o in loop_operators(graph).items():
        inside.setdefault(o, []).append(n)
    outputs: list[int] = []
    for o, operators in inside.items():
        loop = graph.main.ops[o]
        condition, body = _parts(loop)
        sizes = [_columns(graph.subgraphs[body], n) for n in operators]
        shapes = [shape for size in sizes for shape in ((size, size), (size,), (1,))]
        subgraphs[condition] = _with_inputs(graph.subgraphs[condition], shapes)
        subgraphs[body] = _adding_up(graph.subgraphs[body], operators, shapes)
        zeros = [main.constant(f"loop_{o}/zeros_{k}", np.zeros(shape, np.float32)) for k, shape in enumerate(shapes)]
        results = [main.new(Tensor(f"loop_{o}/sum_{k}", shape, "float32")) for k, shape in enumerate(shapes)]
        main.ops[o] = replace(loop, inputs=(*loop.inputs, *zeros), outputs=(*loop.outputs, *results))
        outputs += results
    subgraphs[0] = main.subgraph(graph.main, outputs=outputs)
    return replace(graph, subgraphs=tuple(subgraphs), signatures=())


def _columns(body: Subgraph, n: int) -> int:
    return body.tensors[data_of(body.ops[n])].shape[-1]


def _with_inputs(subgraph: Subgraph, shapes: Sequence[tuple[int, ...]]) -> Subgraph:
    """Return a subgraph with more inputs, which nothing reads."""
    builder = GraphBuilder(subgraph.tensors, subgraph.ops)
    more = [builder.new(Tensor(f"sum_{k}", shape, "float32")) for k, shape in enumerate(shapes)]
    return builder.subgraph(subgraph, inputs=(*subgraph.inputs, *more))


def _adding_up(body: Subgraph, operators: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> Subgraph:
    """Return the body with the sums as further variables."""
    builder = GraphBuilder(body.tensors, body.ops)
    before = [builder.new(Tensor(f"sum_{k}", shape, "float32")) for k, shape in enumerate(shapes)]
    after: list[int] = []
    for index, n in enumerate(operators):
        t, size = data_of(body.ops[n]), _columns(body, n)
        rows = math.prod(body.tensors[t].shape[:-1])
        matrix = _as_matrix(builder, t, rows, size)
        added = (
            steps.result_of(builder, "BATCH_MATMUL", [matrix, matrix], (size, size), _PRODUCT),
            steps.reduced(builder, "SUM", matrix, [0], (size,)),
            builder.constant(f"rows_{n}", _counted(rows)),
        )
        for k, each in enumerate(added):
            total = before[3 * index + k]
            shape = builder.tensors[total].shape
            after.append(steps.result_of(builder, "ADD", [total, each], shape, PLAIN_ADD))
    return builder.subgraph(body, inputs=(*body.inputs, *before), outputs=(*body.outputs, *after))


def _counted(rows: int) -> Float32Array:
    return np.array([rows], np.float32)


def _as_matrix(builder: GraphBuilder, t: int, rows: int, size: int) -> int:
    """Return a tensor as [rows, size]."""
    shape = (rows, size)
    if builder.tensors[t].shape == shape:
        return t
    options = Options("ReshapeOptions", {"newShape": np.array(shape, np.int32)})
    return steps.result_of(builder, "RESHAPE", [t, builder.shared(shape)], shape, options)
