"""The outputs of the float model on the samples, which those of the files of variants are compared with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.runtime import Runner
from tfq_fine.calibration import Sample
from tfq_fine.variants.judging import Judged, decibels_of, judged


class FloatReference:
    """The float model on some samples, which it is run on when it is first compared with.

    Args:
        model: the float model.
        samples: inputs, in input order.
        threads: the number of threads of the interpreter.
    """

    def __init__(self, model: Graph, samples: Sequence[Sample], threads: int):
        self._model, self._samples, self._threads = model, samples, threads

    @cached_property
    def expected(self) -> list[list[tuple[AnyArray, AnyArray]]]:
        """The values that the float model's outputs are judged by, and the outputs, for every sample and output."""
        outputs = self._model.main.outputs
        tensors = tuple(dict.fromkeys((*(judge.tensor for judge in judged(self._model)), *outputs)))
        where = {t: k for k, t in enumerate(tensors)}
        rows = self.float_outputs(with_outputs(self._model, tensors))
        pairs = [(where[j.tensor], where[t]) for j, t in zip(judged(self._model), outputs, strict=True)]
        return [[(row[scores], row[output]) for scores, output in pairs] for row in rows]

    def float_outputs(self, graph: Graph) -> list[list[AnyArray]]:
        """Return the outputs of a float graph for every sample."""
        with flatbuffer.scratch(graph) as path:
            runner = Runner(path, threads=self._threads)
        return [runner.run(sample) for sample in self._samples]

    def difference(self, graph: Graph) -> float:
        """Return how far the float outputs of `graph` are from the model's, to the largest value of each."""
        expected = [[output for _, output in row] for row in self.expected]
        largest, moved = [0.0] * len(self._model.main.outputs), [0.0] * len(self._model.main.outputs)
        for before, after in zip(expected, self.float_outputs(graph), strict=True):
            for k, (x, y) in enumerate(zip(before, after, strict=True)):
                if x.dtype == np.float32 and x.size:
                    largest[k] = max(largest[k], float(np.abs(x).max()))
                    moved[k] = float(np.maximum(moved[k], np.abs(x - y).max()))  # keeps NaN, as `max` does not
        shares = [away / max(top, 1e-30) for away, top in zip(moved, largest, strict=True)]
        return math.inf if any(math.isnan(share) for share in shares) else max(shares, default=0.0)

    @cached_property
    def outputs(self) -> "FloatOutputs":
        """The outputs, as they are compared, without the model."""
        return FloatOutputs.of(self._model, self.expected)


@dataclass(frozen=True)
class FloatOutputs:
    """The outputs of the float model on some samples; another process can compare with them without the model.

    Attributes:
        judges: what each output is judged by.
        tensors: the outputs' tensors in the main subgraph.
        expected: for every sample and output, the float values that it is judged by, and the output itself.
        energies: the mean energy over samples of both, for every output.
    """

    judges: tuple[Judged, ...]
    tensors: tuple[int, ...]
    expected: Sequence[Sequence[tuple[AnyArray, AnyArray]]]
    energies: Sequence[tuple[float, float]]

    @staticmethod
    def of(model: Graph, expected: Sequence[Sequence[tuple[AnyArray, AnyArray]]]) -> "FloatOutputs":
        """Return these outputs of a model."""

        def energy(values: AnyArray) -> float:
            finite = values.dtype == np.float32 and bool(np.isfinite(values).all())
            return float(np.square(values, dtype=np.float64).sum()) if finite else 0.0

        judges, count = tuple(judged(model)), max(len(expected), 1)
        energies = [
            (
                sum(energy(judge.seen(row[k][0])) for row in expected) / count,
                sum(energy(row[k][1]) for row in expected) / count,
            )
            for k, judge in enumerate(judges)
        ]
        return FloatOutputs(judges, model.main.outputs, expected, energies)

    def decibels(self, n: int, values: Mapping[int, AnyArray]) -> float:
        """Return the SQNR in dB of a file's values, by tensor, for sample `n`; `WORST` where one is not finite."""
        pairs, usual = [], []
        for k, (judge, t) in enumerate(zip(self.judges, self.tensors, strict=True)):
            scores, plain = self.expected[n][k]
            if judge.tensor in values:
                pairs.append((judge.seen(scores), judge.seen(values[judge.tensor])))
            else:
                pairs.append((plain, values.get(t, plain)))  # a constant is no tensor that the file computes
            usual.append(self.energies[k][0 if judge.tensor in values else 1])
        return decibels_of([x for x, _ in pairs], [y for _, y in pairs], usual)


def with_outputs(graph: Graph, tensors: Sequence[int]) -> Graph:
    """Return the graph with other outputs."""
    main = replace(graph.main, outputs=tuple(tensors))
    return replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())
