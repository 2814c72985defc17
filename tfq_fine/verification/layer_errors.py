"""The sources of error: every activation and every weight of the quantized file against the float graph."""

from collections.abc import Sequence
from dataclasses import replace

from tfq_converters import flatbuffer
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.graph_edit import chunks, float_bytes
from tfq_converters.runtime import Apart, Kernels
from tfq_fine.numerics import ErrorSums
from tfq_fine.report import LayerError
from tfq_fine.verification.side import FLOAT_FILE, QUANTIZED_FILE, Side, decode
from tfq_fine.verification.tensor_pairs import Pair, activation_pairs, constant_pairs

PROBE_BYTES = 2**28  # float activations that one probe holds at a time, per file


def constant_errors(floating: Graph, quantized: Graph) -> tuple[LayerError, ...]:
    """Return the weights that are stored in 16 bits or fewer, in graph order."""
    errors = []
    for pair in constant_pairs(floating, quantized):
        constant = floating.subgraphs[pair.subgraph].tensors[pair.floating]
        stored = quantized.subgraphs[pair.subgraph].tensors[pair.quantized]
        sums = ErrorSums.of(constant.constant, decode(stored.constant, stored).reshape(constant.shape))
        errors.append(_layer_error(pair, constant.name, stored.dtype, sums))
    return tuple(errors)


def activation_errors(
    floating: Graph,
    quantized: Graph,
    samples: Sequence[tuple[Sequence[AnyArray], Sequence[AnyArray]]],
    kernels: Kernels = "default",
    elsewhere: Apart | None = None,
    limits: tuple[float, float] | None = None,
) -> tuple[LayerError, ...]:
    """Return the activations of the main subgraph that both files compute, in graph order.

    Args:
        floating: the float graph.
        quantized: the graph of the quantized file.
        samples: real inputs [n, ...] of the two files, each in its own input order.
        kernels: which implementation of the operators runs.
        elsewhere: the process that runs both; this one when None.
        limits: seconds that one run of each may take there.
    """
    batch = len(samples[0][0][0]) if samples[0][0] else 1
    rows = []
    every, tensors = activation_pairs(floating, quantized), floating.main.tensors
    for pairs in chunks(every, lambda pair: batch * float_bytes(tensors[pair.floating]), PROBE_BYTES):
        ours = probe(floating, [pair.floating for pair in pairs], kernels, elsewhere, FLOAT_FILE)
        theirs = probe(quantized, [pair.quantized for pair in pairs], kernels, elsewhere, QUANTIZED_FILE)
        for side, limit in zip((ours, theirs), limits or (), strict=False):
            side.allow(limit)
        sums = [ErrorSums() for _ in pairs]
        for our_inputs, their_inputs in samples:
            for index, (x, y) in enumerate(zip(ours.run(our_inputs), theirs.run(their_inputs), strict=True)):
                if x.shape == y.shape:
                    sums[index] += ErrorSums.of(x, y)
        ours.close()
        theirs.close()
        for pair, errors in zip(pairs, sums, strict=True):
            if errors.count:
                name, dtype = floating.main.tensors[pair.floating].name, quantized.main.tensors[pair.quantized].dtype
                rows.append(_layer_error(pair, name, dtype, errors))
    return tuple(rows)


def probe(
    graph: Graph,
    tensors: Sequence[int],
    kernels: Kernels = "default",
    elsewhere: Apart | None = None,
    what: str = QUANTIZED_FILE,
) -> Side:
    """Return the file of `graph` whose outputs are `tensors` of its main subgraph."""
    main = replace(graph.main, outputs=tuple(tensors))
    changed = replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())
    return Side(changed, flatbuffer.write(changed), kernels, elsewhere=elsewhere, what=what)


def _layer_error(pair: Pair, name: str, dtype: str, sums: ErrorSums) -> LayerError:
    return LayerError(name, pair.op.layer, pair.op.label, dtype, sums.sqnr_db, sums.max_error)
