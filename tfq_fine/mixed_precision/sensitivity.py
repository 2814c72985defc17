"""How much each candidate of each layer moves the outputs of the model, with only that layer quantized.

The float model is run once; its values at the cut before a layer are held, and for every candidate of the layer the
operators from there on are run on the kernels, with the layer as the file would hold it. Each layer is a task that
holds all it needs, so that any executor can run it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import ABSENT, AnyArray, Graph
from tfq_converters.graph_edit import Part, keeps_state, part
from tfq_converters.quantized import OpEncoding, OpKey, QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner
from tfq_fine.calibration import Sample, result_of
from tfq_fine.mixed_precision.measures import Measure, NoiseShare
from tfq_fine.mixed_precision.units import Unit
from tfq_fine.numerics import ErrorSums
from tfq_fine.variants import FloatOutputs, FloatReference, judged

Values = dict[int, AnyArray]  # tensor of the main subgraph -> its value for one sample
Encodings = Mapping[OpKey, OpEncoding]
SENT = 8  # tasks that an executor has at a time: each holds the model's values at a cut


@dataclass(frozen=True)
class RestOfModel:
    """The operators from a cut of the graph on, the float model's values there, and its outputs; can be pickled.

    Attributes:
        rest: the operators.
        first: the index of the first one in the main subgraph.
        fed: for every sample, the values that these read.
        shown: for every sample, the values before the cut that outputs are judged by.
        measure: what is compared with the float model's outputs, and how.
        threads: the number of threads of the interpreter.
    """

    rest: Part
    first: int
    fed: Sequence[Values]
    shown: Sequence[Values]
    measure: Measure
    threads: int

    def losses(self, encodings: Encodings) -> list[float]:
        """Return, for every sample, what is lost in the outputs with these operators encoded."""
        results = _run(self.rest, self.first, self.fed, encodings, self.threads)
        pairs = zip(self.shown, results, strict=True)
        return [self.measure.loss(n, before | after) for n, (before, after) in enumerate(pairs)]

    def mean_losses(self, several: Sequence[Encodings]) -> list[float]:
        """Return the mean loss over samples for each of several ways to encode, from 0; an executor runs this."""
        return [max(float(np.mean(self.losses(encodings))), 0.0) if encodings else 0.0 for encodings in several]


class PartialRuns:
    """Runs the float model from cut to cut, and the operators after a cut on its values there.

    Args:
        graph: the float graph.
        samples: inputs in input order.
        threads: the number of threads of the interpreter.
        measure: makes what outputs are compared by of the float model's.
    """

    def __init__(
        self,
        graph: Graph,
        samples: Sequence[Sample],
        threads: int,
        measure: Callable[[FloatOutputs], Measure] = NoiseShare,
    ) -> None:
        self.graph, self.samples, self._threads, self._measure = graph, samples, threads, measure
        main = graph.main
        self._last = {t: o for o, op in enumerate(main.ops) for t in op.inputs if t != ABSENT}
        self._shown = {*(judge.tensor for judge in judged(graph)), *main.outputs}
        self._whole = keeps_state(main)
        self._values: list[Values] = [dict(zip(main.inputs, sample, strict=True)) for sample in samples]
        self._position = 0
        self._reference = FloatReference(graph, samples, threads)

    @property
    def values(self) -> Values:
        """The float model's values at the cut, for the first sample."""
        return self._values[0]

    @property
    def expected(self) -> FloatOutputs:
        """The float model's outputs."""
        return self._reference.outputs

    def go_to(self, stop: int) -> None:
        """Run the float model up to the cut before operator `stop`, which is not before that of the last call."""
        if not self._whole and stop > self._position:
            ends = {t for t in self._last if self._last[t] >= stop} | self._shown
            segment = self._part(range(self._position, stop), ends)
            results = _run(segment, self._position, self._values, {}, self._threads)
            self._values = [
                {t: value for t, value in (before | after).items() if t in ends}
                for before, after in zip(self._values, results, strict=True)
            ]
            self._position = stop

    def rest(self, threads: int | None = None) -> RestOfModel:
        """Return the operators from the cut on, to be run with so many threads; as many as here when None."""
        rest = self._part(range(self._position, len(self.graph.main.ops)), self._shown)
        fed = [{t: values[t] for t in rest.inputs} for values in self._values]
        shown = [{t: value for t, value in values.items() if t in self._shown} for values in self._values]
        return RestOfModel(
            rest, self._position, fed, shown, self._measure(self._reference.outputs), threads or self._threads
        )

    def own_outputs(self, encodings: Encodings) -> Iterator[tuple[Values, Values]]:
        """Yield, for every sample, float outputs of the first operator after the cut: (in float, encoded)."""
        only = self._part(range(self._position, self._position + 1), {*self.graph.main.ops[self._position].outputs})
        floats = {t for t in only.outputs if self.graph.main.tensors[t].dtype == "float32"}
        plain, encoded = (_run(only, self._position, self._values, how, self._threads) for how in ({}, encodings))
        for before, after in zip(plain, encoded, strict=True):
            yield {t: before[t] for t in floats}, {t: after[t] for t in floats}

    def own_errors(self, encodings: Encodings) -> dict[int, ErrorSums]:
        """Return tensor -> the errors of the first operator after the cut on float inputs, over all samples."""
        sums: dict[int, ErrorSums] = {}
        for expected, rounded in self.own_outputs(encodings):
            for t, value in expected.items():
                sums[t] = sums.get(t, ErrorSums()) + ErrorSums.of(value, rounded[t])
        return sums

    def _part(self, ops: range, shown: set[int]) -> Part:
        made = {t for o in ops for t in self.graph.main.ops[o].outputs}
        return part(self.graph, ops, made & shown)


def _run(segment: Part, first: int, fed: Sequence[Values], encodings: Encodings, threads: int) -> list[Values]:
    """Run the operators `first` and later ones on values by tensor, and return theirs."""
    if not segment.outputs:
        return [{} for _ in fed]
    own = {(0, o - first): encoding for (_, o), encoding in encodings.items()}
    with flatbuffer.scratch(realize(QuantizedGraph(segment.graph, own)).graph) as path:
        runner = Runner(path, threads=threads)
    results = []
    for values in fed:
        runner.reset_variables()
        outputs = runner.run([values[t] for t in segment.inputs])
        results.append(dict(zip(segment.outputs, outputs, strict=True)))
    return results


def sensitivities(
    runs: PartialRuns,
    layers: Mapping[Unit, Sequence[Encodings]],
    begin: Callable[[Unit], None],
    executor: Executor | None = None,
) -> Iterator[tuple[Unit, list[float]]]:
    """Yield, for every layer, the mean loss in the outputs for each way to encode it.

    Args:
        runs: the model, at its inputs.
        layers: the layers, in the order of their first operators -> the ways; empty for float.
        begin: is told which layer is next.
        executor: runs the layers, each with one thread; this process when None.

    Raises:
        TfqError: the executor lost a layer.
    """
    sent: deque[tuple[Unit, Future[list[float]]]] = deque()
    try:
        for unit, several in layers.items():
            if executor is None:
                begin(unit)
            runs.go_to(unit.keys[0][1])
            if executor is None:
                yield unit, runs.rest().mean_losses(several)
                continue
            sent.append((unit, executor.submit(RestOfModel.mean_losses, runs.rest(threads=1), several)))
            if len(sent) == SENT:
                yield _received(*sent.popleft(), begin)
        while sent:
            yield _received(*sent.popleft(), begin)
    finally:
        for _, future in sent:
            future.cancel()


def _received(unit: Unit, future: "Future[list[float]]", begin: Callable[[Unit], None]) -> tuple[Unit, list[float]]:
    begin(unit)
    return unit, result_of(future, f"layer {unit.name}")
