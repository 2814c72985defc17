"""One pass over the representative data: the range of every float tensor, computed inside the graph.

REDUCE_MIN and REDUCE_MAX are appended to the float graph for every tensor that needs a range, and run with it on the
fast kernels; only the 2N scalars leave the interpreter. At most one batch is held.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.quantized import TensorKey
from tfq_converters.runtime import Runner
from tfq_fine.data import Batch
from tfq_fine.statistics import Range, Statistics

MAX_RANK = 6  # of XNNPACK's reductions


# operators whose outputs hold values of their first float input, and zeros at most
MOVES_VALUES = frozenset(
    "RESHAPE SQUEEZE EXPAND_DIMS TRANSPOSE SLICE STRIDED_SLICE SPLIT SPLIT_V UNPACK PAD MIRROR_PAD MAX_POOL_2D "
    "AVERAGE_POOL_2D DEPTH_TO_SPACE SPACE_TO_DEPTH BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TILE BROADCAST_TO REVERSE_V2 "
    "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR".split()
)
RECTIFIED = frozenset({1, 3})  # fused RELU and RELU6: the smallest value is 0, and every range holds 0


def tensors_to_observe(graph: Graph) -> tuple[TensorKey, ...]:
    """Every float tensor of the main subgraph that is fed or computed."""
    main = graph.main
    computed = {*main.inputs} | {t for op in main.ops for t in op.outputs}
    return tuple((0, t) for t in sorted(computed) if main.tensors[t].dtype == "float32")


def moved_from(graph: Graph) -> dict[int, int]:
    """Tensor -> the tensor whose values it holds, so that one range serves both (it may be a little too wide)."""
    main, found = graph.main, {}
    for op in main.ops:
        source = next((t for t in op.inputs if t >= 0 and main.tensors[t].dtype == "float32"), None)
        if op.code in MOVES_VALUES and source is not None and not main.tensors[source].is_constant:
            found |= {t: found.get(source, source) for t in op.outputs}
    return found


@dataclass(frozen=True)
class Observed:
    """A float graph extended by the reductions: one more output, the ranges of `keys` as [2N]."""

    content: bytes
    keys: tuple[TensorKey, ...]


def observed(graph: Graph, keys: tuple[TensorKey, ...]) -> Observed:
    """The file of `graph` whose only output is the minimum and then the maximum of every tensor in `keys`.

    Each tensor is reduced right after it was computed, while it is still in the cache.
    """
    main = graph.main
    tensors: list[Tensor] = [*main.tensors, Tensor("zero", (), "float32", data=np.zeros((), np.float32))]
    zero = len(main.tensors)
    scalars: dict[int, tuple[int, int]] = {}
    wanted = {t for _, t in keys}
    ops = [op for t in main.inputs if t in wanted for op in _reductions(t, tensors, scalars)]
    for op in main.ops:
        ops.append(op)
        low = zero if op.options and op.options.values.get("fusedActivationFunction") in RECTIFIED else None
        ops += [added for t in op.outputs if t in wanted for added in _reductions(t, tensors, scalars, low)]
    everything = tuple(scalars[t][side] for side in (0, 1) for _, t in keys)
    tensors.append(Tensor("ranges", (len(everything),), "float32"))
    options = Options("PackOptions", {"valuesCount": len(everything), "axis": 0})
    ops.append(Op("PACK", everything, (len(tensors) - 1,), options))
    extended: Subgraph = replace(main, tensors=tuple(tensors), ops=tuple(ops), outputs=(len(tensors) - 1,))
    graph = replace(graph, subgraphs=(extended, *graph.subgraphs[1:]), signatures=())
    return Observed(flatbuffer.write(graph), keys)


def _reductions(
    t: int, tensors: list[Tensor], scalars: dict[int, tuple[int, int]], low: int | None = None
) -> list[Op]:
    """The operators that reduce tensor `t`; appends what they need to `tensors`, their results to `scalars`.

    The minimum is not computed when tensor `low` is known to hold it.
    """

    def new(tensor: Tensor) -> int:
        tensors.append(tensor)
        return len(tensors) - 1

    name, shape, source, ops = tensors[t].name, tensors[t].shape, t, []
    if not 0 < len(shape) <= MAX_RANK:
        flat = np.array([-1], np.int32)
        shape = (int(np.prod(shape, dtype=np.int64)),)
        source = new(Tensor(f"{name}/flat", shape, "float32", (-1,)))
        target = new(Tensor(f"{name}/flat_shape", (1,), "int32", data=flat))
        ops.append(Op("RESHAPE", (t, target), (source,), Options("ReshapeOptions", {"newShape": flat})))
    axes = np.arange(len(shape), dtype=np.int32)
    axis = new(Tensor(f"{name}/axes", axes.shape, "int32", data=axes))
    results = []
    for code, known in (("REDUCE_MIN", low), ("REDUCE_MAX", None)):
        results.append(new(Tensor(f"{name}/{code}", (), "float32")) if known is None else known)
        if known is None:
            ops.append(Op(code, (source, axis), (results[-1],), Options("ReducerOptions", {"keepDims": False})))
    scalars[t] = (results[0], results[1])
    return ops


def calibrate(
    graph: Graph,
    batches: Iterable[Batch],
    keys: tuple[TensorKey, ...] | None = None,
    threads: int = 1,
) -> Statistics:
    """The range of every tensor in `keys` over all samples.

    Args:
        graph: the float graph.
        batches: representative inputs, in input order; read once.
        keys: tensors to observe; every float tensor of the main subgraph when None.
        threads: threads of the interpreter.

    Raises:
        TfqError: the data is empty, or a tensor became NaN or infinite (the first one and the sample are named).
    """
    wanted = tensors_to_observe(graph) if keys is None else keys
    moved = moved_from(graph)
    extended = observed(graph, tuple(dict.fromkeys((0, moved.get(t, t)) for _, t in wanted)))
    if not extended.keys:
        return Statistics()
    runner = Runner(extended.content, threads=threads)
    low = np.full(len(extended.keys), np.inf, np.float32)
    high = np.full(len(extended.keys), -np.inf, np.float32)
    samples = 0
    for first, count, found in _ranges(runner, batches):
        if not np.isfinite(found).all():
            raise TfqError(_not_finite(graph, extended.keys, found, first))
        np.minimum(low, found[: len(low)], out=low)
        np.maximum(high, found[len(low) :], out=high)
        samples += count
    if not samples:
        raise TfqError("no representative data: the data holds no samples")
    pairs = zip(extended.keys, low.tolist(), high.tolist(), strict=True)
    ranges = {key: Range(a, b) for key, a, b in pairs}
    return Statistics({(0, t): ranges[0, moved.get(t, t)] for _, t in wanted}, samples)


def _ranges(runner: Runner, batches: Iterable[Batch]) -> Iterator[tuple[int, int, np.ndarray]]:
    for batch in batches:
        yield batch.first, len(batch.inputs[0]) if batch.inputs else 1, runner.run(batch.inputs)[0]


def _not_finite(graph: Graph, keys: tuple[TensorKey, ...], found: np.ndarray, sample: int) -> str:
    bad = {key for key, *pair in zip(keys, *np.split(found, 2), strict=True) if not np.isfinite(pair).all()}
    for index, op in enumerate(graph.main.ops):
        if any((0, t) in bad for t in op.outputs):
            return f"{graph.main.op_name(index)} computes NaN or infinity in float, at sample {sample} or in its batch"
    names = [graph.main.tensors[t].name for _, t in bad]
    return f"NaN or infinity in {', '.join(names)}, at sample {sample} or in its batch"
