"""The sources of error: every activation and every weight of the quantized file against the float graph."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tfq_converters import flatbuffer
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.graph_edit import chunks, float_bytes, keeps_state, on_given_values
from tfq_converters.runtime import Apart, Kernels
from tfq_fine.numerics import ErrorSums
from tfq_fine.report import LayerError
from tfq_fine.verification.side import FLOAT_FILE, QUANTIZED_FILE, Side, decode
from tfq_fine.verification.tensor_pairs import Pair, activation_pairs, constant_pairs

LAYER_SAMPLES = 8  # samples that errors of layers are measured on
PROBE_BYTES = 2**28  # float activations that one probe holds at a time, per file
Values = Mapping[int, AnyArray]  # tensor of the main subgraph -> its value
Samples = Sequence[tuple[Sequence[AnyArray], Sequence[AnyArray]]]  # inputs of the float file, of the quantized one


def constant_errors(floating: Graph, quantized: Graph) -> tuple[LayerError, ...]:
    """Return the weights that are stored in 16 bits or fewer, in graph order."""
    errors = []
    for pair in constant_pairs(floating, quantized):
        constant = floating.subgraphs[pair.subgraph].tensors[pair.floating]
        stored = quantized.subgraphs[pair.subgraph].tensors[pair.quantized]
        sums = ErrorSums.of(constant.constant, _rounded(pair, floating, quantized))
        errors.append(
            LayerError(constant.name, pair.op.layer, pair.op.label, stored.dtype, sums.sqnr_db, sums.max_error)
        )
    return tuple(errors)


def activation_errors(
    floating: Graph,
    quantized: Graph,
    samples: Samples,
    kernels: Kernels = "default",
    elsewhere: Apart | None = None,
    limits: tuple[float, float] | None = None,
) -> tuple[LayerError, ...]:
    """Return the activations of the main subgraph that both files compute, in graph order.

    Each file is run as a whole. Its operators are then run again, each on the float model's values, which tells the
    error of an operator from what it inherits; and those of the float file with the rounded weights, which tells the
    error of weights from that of activations. Files that keep state between runs are only run as a whole.

    Args:
        floating: the float graph.
        quantized: the graph of the quantized file.
        samples: real inputs [n, ...] of the two files, each in its own input order.
        kernels: which implementation of the operators runs.
        elsewhere: the process that runs both; this one when None.
        limits: seconds that one run of each may take there.
    """
    batch = len(samples[0][0][0]) if samples[0][0] else 1
    tensors = floating.main.tensors
    runs = _Runs(floating, quantized, kernels, elsewhere, limits)
    return tuple(
        row
        for pairs in chunks(runs.pairs, lambda pair: batch * float_bytes(tensors[pair.floating]), PROBE_BYTES)
        for row in runs.errors(pairs, samples)
    )


def probe(graph: Graph, tensors: Sequence[int]) -> Graph:
    """Return the graph whose outputs are `tensors` of its main subgraph."""
    main = replace(graph.main, outputs=tuple(tensors))
    return replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())


class _Runs:
    """Runs both files, and their operators one by one on the float model's values. Arguments as `activation_errors`."""

    def __init__(
        self,
        floating: Graph,
        quantized: Graph,
        kernels: Kernels,
        elsewhere: Apart | None,
        limits: tuple[float, float] | None,
    ) -> None:
        self.pairs = activation_pairs(floating, quantized)
        self._floating, self._quantized, self._kernels = floating, quantized, kernels
        self._elsewhere = elsewhere
        self._limits = dict(zip((FLOAT_FILE, QUANTIZED_FILE), limits or (), strict=False))
        stateless = not keeps_state(floating.main) and not keeps_state(quantized.main)
        ours, theirs = floating.main.tensors, quantized.main.tensors
        self._given = [p for p in self.pairs if stateless and ours[p.floating].shape == theirs[p.quantized].shape]
        self._with_rounded_weights, rounded = _with_rounded_weights(floating, quantized)
        self._weighted = {t for op in floating.main.ops if rounded & {*op.inputs} for t in op.outputs}

    def errors(self, pairs: Sequence[Pair], samples: Samples) -> Iterator[LayerError]:
        """Yield the errors of these activations."""
        compared = [pair for pair in pairs if pair in self._given]
        weighted = [pair for pair in compared if pair.floating in self._weighted]
        twins = {pair.quantized: pair.floating for pair in self._given}
        own = on_given_values(self._quantized, twins, [pair.quantized for pair in compared])
        weights = on_given_values(self._with_rounded_weights, twins.values(), [pair.floating for pair in weighted])
        read = {*weights.inputs, *(twins[t] for t in own.inputs if t in twins)} - {*self._floating.main.inputs}
        shown = [*dict.fromkeys([*(pair.floating for pair in pairs), *sorted(read)])]
        reached, alone, rounded = ([ErrorSums() for _ in each] for each in (pairs, compared, weighted))
        with (
            self._open(probe(self._floating, shown), FLOAT_FILE) as float_file,
            self._open(probe(self._quantized, [pair.quantized for pair in pairs]), QUANTIZED_FILE) as file,
            self._open(own.graph, QUANTIZED_FILE) as operators,
            self._open(weights.graph, FLOAT_FILE) as float_operators,
        ):
            for our_inputs, their_inputs in samples:
                values = dict(zip(shown, float_file(our_inputs), strict=True))
                float_values = values | dict(zip(self._floating.main.inputs, our_inputs, strict=True))
                inputs = dict(zip(self._quantized.main.inputs, their_inputs, strict=True))
                _add(reached, pairs, values, file(their_inputs))
                _add(
                    alone,
                    compared,
                    values,
                    operators([inputs[t] if t in inputs else float_values[twins[t]] for t in own.inputs]),
                )
                _add(rounded, weighted, values, float_operators([float_values[t] for t in weights.inputs]))
        own_db = {pair.floating: sums.sqnr_db for pair, sums in zip(compared, alone, strict=True)}
        weights_db = {pair.floating: sums.sqnr_db for pair, sums in zip(weighted, rounded, strict=True)}
        for pair, sums in zip(pairs, reached, strict=True):
            if sums.count:
                name, dtype = (
                    self._floating.main.tensors[pair.floating].name,
                    self._quantized.main.tensors[pair.quantized].dtype,
                )
                yield LayerError(
                    name,
                    pair.op.layer,
                    pair.op.label,
                    dtype,
                    sums.sqnr_db,
                    sums.max_error,
                    own_db.get(pair.floating),
                    weights_db.get(pair.floating),
                )

    @contextmanager
    def _open(self, graph: Graph, what: str) -> Iterator[Callable[[Sequence[AnyArray]], list[AnyArray]]]:
        """Yield a function from inputs to outputs; one that returns nothing for a graph without outputs."""
        if not graph.main.outputs:
            yield lambda inputs: []
            return
        side = Side(graph, flatbuffer.write(graph), self._kernels, elsewhere=self._elsewhere, what=what)
        if what in self._limits:
            side.allow(self._limits[what])
        yield side.run
        side.close()


def _add(sums: list[ErrorSums], pairs: Sequence[Pair], values: Values, found: Sequence[AnyArray]) -> None:
    for index, (pair, y) in enumerate(zip(pairs, found, strict=True)):
        if values[pair.floating].shape == y.shape:
            sums[index] += ErrorSums.of(values[pair.floating], y)


def _with_rounded_weights(floating: Graph, quantized: Graph) -> tuple[Graph, set[int]]:
    """Return the float graph with the weights of the quantized file in its main subgraph, and which these are."""
    pairs = [pair for pair in constant_pairs(floating, quantized) if pair.subgraph == 0]
    tensors = [*floating.main.tensors]
    for pair in pairs:
        tensors[pair.floating] = replace(tensors[pair.floating], data=_rounded(pair, floating, quantized))
    main = replace(floating.main, tensors=tuple(tensors))
    return replace(floating, subgraphs=(main, *floating.subgraphs[1:])), {pair.floating for pair in pairs}


def _rounded(pair: Pair, floating: Graph, quantized: Graph) -> AnyArray:
    """Return what the quantized file stores for a constant of the float file, decoded and in its shape."""
    stored = quantized.subgraphs[pair.subgraph].tensors[pair.quantized]
    return decode(stored.constant, stored).reshape(floating.subgraphs[pair.subgraph].tensors[pair.floating].shape)
