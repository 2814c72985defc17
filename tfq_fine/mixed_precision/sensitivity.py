"""How much each candidate of each layer moves the outputs of the model, with only that layer quantized.

The float model is run once; its values at the cut before a layer are held, and for every candidate of the layer the
operators from there on are run on the kernels, with the layer as the file would hold it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import ABSENT, AnyArray, Graph
from tfq_converters.graph_edit import keeps_state, part
from tfq_converters.quantized import OpEncoding, OpKey, QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner
from tfq_fine.calibration import Sample
from tfq_fine.mixed_precision.fitting import FittedCandidate
from tfq_fine.mixed_precision.units import Candidate, Unit
from tfq_fine.planning import Decision
from tfq_fine.variants import WORST, FloatReference, decibels_of, judged

Values = dict[int, AnyArray]  # tensor of the main subgraph -> its value for one sample
WORST_SHARE = 1e6  # stands for outputs that are not finite


class PartialRuns:
    """Runs the operators after a cut of the graph on the float model's values at the cut.

    Args:
        graph: the float graph.
        samples: inputs in input order.
        threads: the number of threads of the interpreter.
    """

    def __init__(self, graph: Graph, samples: Sequence[Sample], threads: int) -> None:
        self.graph, self._threads = graph, threads
        main = graph.main
        self._last = {t: o for o, op in enumerate(main.ops) for t in op.inputs if t != ABSENT}
        self._judges = judged(graph)
        self._shown = {*(judge.tensor for judge in self._judges), *main.outputs}
        self._whole = keeps_state(main)
        self._values: list[Values] = [dict(zip(main.inputs, sample, strict=True)) for sample in samples]
        self._position = 0
        self._reference = FloatReference(graph, samples, threads)

    @property
    def values(self) -> Values:
        """The float model's values at the cut, for the first sample."""
        return self._values[0]

    def go_to(self, stop: int) -> None:
        """Run the float model up to the cut before operator `stop`, which is not before that of the last call."""
        if not self._whole and stop > self._position:
            ends = {t for t in self._last if self._last[t] >= stop} | self._shown
            results = self._run(range(self._position, stop), {}, ends)
            self._values = [
                {t: value for t, value in (before | after).items() if t in ends}
                for before, after in zip(self._values, results, strict=True)
            ]
            self._position = stop

    def shares(self, encodings: Mapping[OpKey, OpEncoding]) -> list[float]:
        """Return, for every sample, the share of noise in the outputs with these operators at the cut or later encoded.

        That is 1 / SQNR, as `variants.judging` compares outputs; `WORST_SHARE` where one is not finite.
        """
        results = self._run(range(self._position, len(self.graph.main.ops)), encodings, self._shown)
        energies, shares = self._reference.energies, []
        for n, (before, after) in enumerate(zip(self._values, results, strict=True)):
            values = before | after
            pairs = [
                self._reference.pair(n, k, judge, t, values)
                for k, (judge, t) in enumerate(zip(self._judges, self.graph.main.outputs, strict=True))
            ]
            usual = [energies[k][0 if judge.tensor in values else 1] for k, judge in enumerate(self._judges)]
            decibels = decibels_of([x for x, _ in pairs], [y for _, y in pairs], usual)
            shares.append(WORST_SHARE if decibels == WORST else 10 ** (-decibels / 10))
        return shares

    def _run(self, ops: range, encodings: Mapping[OpKey, OpEncoding], shown: set[int]) -> list[Values]:
        main = self.graph.main
        made = {t for o in ops for t in main.ops[o].outputs}
        segment = part(self.graph, ops, made & shown)
        if not segment.outputs:
            return [{} for _ in self._values]
        own = {(0, n): encodings[0, o] for n, o in enumerate(ops) if (0, o) in encodings}
        with flatbuffer.scratch(realize(QuantizedGraph(segment.graph, own)).graph) as path:
            runner = Runner(path, threads=self._threads)
        results = []
        for values in self._values:
            runner.reset_variables()
            outputs = runner.run([values[t] for t in segment.inputs])
            results.append(dict(zip(segment.outputs, outputs, strict=True)))
        return results


def sensitivities(
    runs: PartialRuns,
    units: Sequence[Unit],
    candidates: Sequence[FittedCandidate],
    begin: Callable[[Unit], None],
) -> dict[tuple[Unit, Candidate], float]:
    """Return the mean share of noise in the outputs for every candidate of every unit.

    Args:
        runs: the model, at its inputs.
        units: the layers, in the order of their first operators.
        candidates: what each would be in the file.
        begin: is told which unit is next.
    """
    noise: dict[tuple[Unit, Candidate], float] = {}
    for unit in units:
        begin(unit)
        runs.go_to(unit.keys[0][1])
        done: dict[tuple[Decision, ...], float] = {}
        for fitted in candidates:
            same = fitted.decisions(unit)
            if same not in done:
                own = {key: fitted.encodings[key] for key in unit.keys if key in fitted.encodings}
                done[same] = float(np.mean(runs.shares(own))) if own else 0.0
            noise[unit, fitted.candidate] = done[same]
    return noise
