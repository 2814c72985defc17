"""The inputs of one operator after the other, in float and as the quantized operators before it compute them.

Two copies of the model move through the graph side by side, a segment at a time: one in float, one over the encodings
that were chosen so far, written as a file and run on the kernels. Only the tensors that a later operator reads are
held, those of all samples at one cut of the graph, in memory.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import ABSENT, AnyArray, Graph
from tfq_converters.graph_edit import keeps_state, part
from tfq_converters.operators import data_of
from tfq_converters.quantized import OpEncoding, OpKey, QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner, RunnerPool, depends_on_unrunnable
from tfq_fine.algorithms import MomentInputs, Moments, OperatorInputs, has_state
from tfq_fine.calibration.kept_samples import Sample
from tfq_fine.calibration.loops import loop_moments, loop_operators
from tfq_fine.calibration.run import runs_side_by_side

MOST_BYTES = 2**30  # the values of all samples at one cut of the graph, in float and quantized
LEAST, APART = 16, 4  # samples that are used whatever their size; one of so many, at most, is kept apart
Values = dict[int, AnyArray]  # tensor of the main subgraph -> its value for one sample


@dataclass(frozen=True)
class Cut:
    """The values that operators from `position` on read, for each sample; the last `apart` ones are kept apart."""

    position: int
    exact: Sequence[Values]  # in the float model
    quantized: Sequence[Values]  # as the quantized operators before the cut compute them
    apart: int


class Layerwise:
    """Gives the inputs of the linear operators of the main subgraph, in graph order.

    Operators inside loops are computed in float, since their weights are chosen after those of the main subgraph; of
    their own inputs the moments over all steps are given, in float (`loops`).

    Args:
        graph: the float graph.
        samples: the inputs that algorithms fit weights to, in input order. As many of them are used as fit into
            `MOST_BYTES` at any cut of the graph.
        apart: other inputs, that they judge them on.
        threads: the number of threads of the interpreter.
    """

    def __init__(self, graph: Graph, samples: Sequence[Sample], apart: Sequence[Sample] = (), threads: int = 1):
        self._graph, self._threads = graph, threads
        self._unknown = depends_on_unrunnable(graph)
        self._whole = keeps_state(graph.main)  # values that cannot be handed on: every segment begins at the inputs
        self._last = {t: o for o, op in enumerate(graph.main.ops) for t in op.inputs if t != ABSENT}
        self._last |= dict.fromkeys(graph.main.outputs, len(graph.main.ops))
        most = max(LEAST, MOST_BYTES // (2 * self._bytes_of_a_sample()))
        apart = apart[: most // APART]
        samples = [*samples[: most - len(apart)], *apart]
        self._apart = len(apart)
        self._fed: list[Values] = [dict(zip(graph.main.inputs, sample, strict=True)) for sample in samples]
        self._exact, self._quantized = [dict(values) for values in self._fed], [dict(values) for values in self._fed]
        self._position = 0
        self._inputs: OperatorInputs | None = None  # those that were asked for last

    def inputs_of(self, key: OpKey, before: Mapping[OpKey, OpEncoding]) -> OperatorInputs:
        """Return the inputs of operator `key` on all samples.

        Args:
            key: an operator of the main subgraph, not before the one of the last call.
            before: the encodings of the operators before it; those that are missing compute in float.

        Raises:
            ValueError: the operators do not come in graph order.
        """
        subgraph, o = key
        if key in loop_operators(self._graph):
            return self._in_loop(key)
        if subgraph != 0:
            raise ValueError(f"operator {key} is in a subgraph that no samples reach")
        cut, op = self.at(o, before), self._graph.main.ops[o]
        exact, quantized = (tuple(values[data_of(op)] for values in kept) for kept in (cut.exact, cut.quantized))
        state = self._state(o, before) if has_state(op, self._graph.main) else None
        inputs = OperatorInputs(op, self._graph.main, exact, quantized, self._apart, state)
        if self._inputs is None or not _read_alike(self._inputs, inputs):
            self._inputs = inputs
        return self._inputs

    def _state(self, o: int, before: Mapping[OpKey, OpEncoding]) -> OperatorInputs:
        """Return what the recurrent weights of a fused LSTM read: its output a step before, 0 at first."""
        main = self._graph.main
        op, first = main.ops[o], 0 if self._whole else o
        ops = [k for k in range(first, o + 1) if self._unknown.isdisjoint(main.ops[k].outputs)]
        starts = (self._fed, self._fed) if self._whole else (self._exact, self._quantized)
        encodings: tuple[Mapping[OpKey, OpEncoding], ...] = ({}, before)
        time = 0 if op.option("timeMajor") else 1
        exact, quantized = (
            tuple(_a_step_before(values[op.outputs[0]], time) for values in self._computed(ops, {op.outputs[0]}, e, s))
            for e, s in zip(encodings, starts, strict=True)
        )
        return OperatorInputs(op, main, exact, quantized, self._apart)

    def _in_loop(self, key: OpKey) -> OperatorInputs:
        """Return the moments of what an operator inside a loop reads."""
        body = self._graph.subgraphs[key[0]]
        fitted, others = self._loops
        return MomentInputs(body.ops[key[1]], body, (), (), of_fitted=fitted[key], of_others=others.get(key))

    @cached_property
    def _loops(self) -> tuple[Mapping[OpKey, Moments], Mapping[OpKey, Moments]]:
        """The moments inside loops over the samples that algorithms fit weights to, and over the others."""
        samples = [tuple(values[t] for t in self._graph.main.inputs) for values in self._fed]
        first = len(samples) - self._apart
        fitted, others = (loop_moments(self._graph, each, self._threads) for each in (samples[:first], samples[first:]))
        return fitted, others

    def at(self, position: int, before: Mapping[OpKey, OpEncoding]) -> Cut:
        """Return what the operators from `position` on read.

        Args:
            position: the index of an operator of the main subgraph, or their number; not before that of the last call.
            before: the encodings of the operators before it; those that are missing compute in float.

        Raises:
            ValueError: the position is before that of the last call.
        """
        if position < self._position:
            raise ValueError(
                f"operator {position} was requested after {self._position}; request operators in graph order"
            )
        self._advance(position, before)
        return Cut(position, self._exact, self._quantized, self._apart)

    def back_to(self, cut: Cut) -> None:
        """Go on from an earlier cut, with other encodings of the operators from there on."""
        self._exact, self._quantized, self._position = list(cut.exact), list(cut.quantized), cut.position

    def _bytes_of_a_sample(self) -> int:
        """Return the bytes of one sample's values at the cut of the graph where they are most."""
        main = self._graph.main
        sizes = {t: 4 * math.prod(main.tensors[t].shape) for t in self._last}
        made = {t: o for o, op in enumerate(main.ops) for t in op.outputs if t in sizes}
        changes = [0] * (len(main.ops) + 2)
        for t, first in made.items():
            changes[first] += sizes[t]
            changes[self._last[t] + 1] -= sizes[t]
        return max(max(itertools.accumulate(changes)), 1)

    def _advance(self, stop: int, before: Mapping[OpKey, OpEncoding]) -> None:
        """Run the operators up to `stop`, and let go of what none from there on reads."""
        first = 0 if self._whole else self._position
        ops = [o for o in range(first, stop) if self._unknown.isdisjoint(self._graph.main.ops[o].outputs)]
        if ops:
            starts = (self._fed, self._fed) if self._whole else (self._exact, self._quantized)
            self._exact = self._after(stop, ops, {}, starts[0])
            self._quantized = self._after(stop, ops, before, starts[1])
        self._position = stop

    def _after(
        self, stop: int, ops: Sequence[int], encodings: Mapping[OpKey, OpEncoding], starts: Sequence[Values]
    ) -> list[Values]:
        """Return the values at the cut before operator `stop`."""
        main = self._graph.main
        made = {t for o in ops for t in main.ops[o].outputs}
        computed = self._computed(ops, {t for t in made if self._last.get(t, -1) >= stop}, encodings, starts)
        return [
            {t: value for t, value in values.items() if self._last.get(t, -1) >= stop or t in main.inputs} | results
            for values, results in zip(starts, computed, strict=True)
        ]

    def _computed(
        self,
        ops: Sequence[int],
        kept: AbstractSet[int],
        encodings: Mapping[OpKey, OpEncoding],
        starts: Sequence[Values],
    ) -> list[Values]:
        """Return what operators compute of the values before them: the tensors `kept`, for each sample."""
        segment = part(self._graph, ops, kept)
        own = {(0, n): encodings[0, o] for n, o in enumerate(ops) if (0, o) in encodings}
        realized = realize(QuantizedGraph(segment.graph, own)).graph
        workers = self._threads if not self._whole and runs_side_by_side(realized) else 1
        with flatbuffer.scratch(realized) as path:
            pool = RunnerPool(lambda: Runner(path, threads=self._threads if workers == 1 else 1), workers)
        rows = pool.run_all([values[t] for t in segment.inputs] for values in starts)
        return [dict(zip(segment.outputs, row, strict=True)) for row in rows]


def _a_step_before(values: AnyArray, time: int) -> AnyArray:
    """Return a sequence one step later along axis `time`, beginning with 0."""
    steps = values.shape[time]
    late = np.concatenate([np.zeros_like(values.take([0], time)), values.take(range(steps - 1), time)], axis=time)
    return np.ascontiguousarray(late)


def _read_alike(one: OperatorInputs, other: OperatorInputs) -> bool:
    """Return whether two dense layers read one tensor, as queries and keys do, so that they share its moments."""
    if one.op.code != "FULLY_CONNECTED" or other.op.code != "FULLY_CONNECTED" or data_of(one.op) != data_of(other.op):
        return False
    pairs = zip((*one.exact, *one.quantized), (*other.exact, *other.quantized), strict=True)
    return all(mine is its for mine, its in pairs)
