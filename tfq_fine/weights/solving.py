"""The codes of constants, each solved once."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import (
    AnyArray,
    Float16Array,
    Float32Array,
    Float64Array,
    FloatArray,
    IdentityCache,
    Op,
    Subgraph,
)
from tfq_converters.operators import WeightAxes, bias_slot, data_of, float_constants, lstm, weight_axes
from tfq_converters.quantized import OpEncoding, OpKey, WeightCodes
from tfq_fine.algorithms import (
    InputStatistics,
    OperatorInputs,
    Solution,
    WeightProblem,
    algorithm_named,
    algorithm_problems,
    solution,
)
from tfq_fine.calibration import Layerwise, Statistics
from tfq_fine.numerics import threads_for
from tfq_fine.planning import HALF_MINIMUM, Decision
from tfq_fine.progress import Begin, Step
from tfq_fine.request import WeightSpec
from tfq_fine.weights.bias import corrected_biases, keeps_mean
from tfq_fine.weights.codes_on_disk import CodesOnDisk, FittedCodes, arrays_of, entry_name, entry_of
from tfq_fine.weights.layouts import codes_format, layout, one_scale_each, with_scale_floor
from tfq_fine.weights.reconstruction.fitting import Learned
from tfq_fine.weights.stand_ins import reads_inputs, without_inputs

LARGEST_HALF = 65504.0
LARGE_WEIGHT = 2**25  # bytes, beyond which a weight's pages in a mapped file are let go once it is encoded

Stored = WeightCodes | FloatArray  # codes; float16 values, or float32 values that replace a constant
LayerInputs = Callable[[], Layerwise]  # the inputs of operators, set up when they are first asked for


class GivesInputs(Protocol):
    """Gives the inputs of one operator after the other."""

    def inputs_of(self, key: OpKey, before: Mapping[OpKey, OpEncoding]) -> OperatorInputs:
        """Return the inputs of operator `key`, in float and as those `before` compute them."""


class Solver:
    """Solves the weights of one graph, each constant once for all operators that share it and agree on its spec.

    An algorithm that reads inputs sees those of the first of these operators.

    Args:
        known: the statistics of the inputs.
        given: (operator, slot) -> codes that were chosen already.
        cache: the codes that were solved for other variants of the model; those of this one are added.
        layers: gives the inputs of an operator to algorithms of scope "operator"; None where there are no samples.
        on_disk: fitted codes of earlier jobs, which those of this one are added to; None where they are kept nowhere.
        steps: the operators whose weights are fitted.
        begin: is told when one of these begins.
        resumes: Ctrl-C ends the job, which goes on another time from the codes on disk; else it ends the fitting alone.
    """

    def __init__(
        self,
        known: Statistics,
        given: Mapping[tuple[OpKey, int], WeightCodes] | None = None,
        cache: IdentityCache | None = None,
        layers: Callable[[], GivesInputs] | None = None,
        on_disk: CodesOnDisk | None = None,
        steps: Mapping[OpKey, Step] | None = None,
        begin: Begin | None = None,
        resumes: bool = False,
    ) -> None:
        self._resumes = resumes
        self._on_disk, self._steps, self._begin = on_disk, steps or {}, begin
        self._means: dict[OpKey, tuple[Float64Array, Float64Array]] = {}  # operator -> mean patches of its inputs
        self._known, self._given, self._layers = known, {**(given or {})}, layers
        self._biases: Mapping[OpKey, Float32Array] = {}  # that were learned together with codes
        self.problems: dict[tuple[OpKey, int], WeightProblem] = {}  # that were solved, without their inputs
        self._shared = IdentityCache() if cache is None else cache
        self._own = IdentityCache()  # the codes of algorithms that read inputs, which differ by variant
        self._how: dict[OpKey, str] = {}
        self._interrupted = False  # by Ctrl-C: no more weights are fitted
        self._read: tuple[OpKey, OperatorInputs] | None = None  # the operator whose inputs were read last

    def codes(
        self,
        key: OpKey,
        op: Op,
        subgraph: Subgraph,
        decision: Decision,
        before: Mapping[OpKey, OpEncoding],
        floors: Mapping[int, FloatArray] | None = None,
        keeps_mean: bool = False,
    ) -> dict[int, Stored]:
        """Return the codes of every weight of an operator, by slot.

        Args:
            key: the operator.
            op: the operator itself.
            subgraph: the one that holds it.
            decision: the plan's.
            before: the encodings of the operators before it.
            floors: slot -> the smallest scales, [channels], or [1] for all channels.
            keeps_mean: the bias of the operator takes back what the weights do to the mean of its outputs.

        Raises:
            TfqError: the algorithm cannot solve a weight; the operator is named.
        """
        assert decision.spec is not None and decision.spec.weights is not None
        solved: dict[int, Stored] = {}
        for axes in weight_axes(op, subgraph):
            data = subgraph.tensors[op.inputs[axes.slot]].data
            assert data is not None
            floor = (floors or {}).get(axes.slot)
            if (key, axes.slot) in self._given:
                codes = self._given[key, axes.slot]
                if floor is not None:
                    form = codes_format(codes.codes.shape, decision.spec.weights, codes.block, decision.form)
                    codes = with_scale_floor(data, codes, floor, axes.channel, form)
                solved[axes.slot] = one_scale_each(codes, axes.channel) if decision.repeated else codes
                continue
            try:
                inputs = self._inputs(key, op, axes.slot, decision.spec.weights, before)
                block, form = layout(data.shape, axes, decision.spec.weights, decision.form)
                problem = WeightProblem(data, block, form, axes, floor=floor, keeps_mean=keeps_mean)
                self.problems[key, axes.slot] = problem
                weight = self._solved(key, problem, axes, decision, inputs)
                solved[axes.slot], self._how[key] = weight.codes, weight.how
            except TfqError as error:
                raise TfqError(f"{subgraph.op_name(key[1])}: {error}") from error
        return solved

    def _inputs(
        self, key: OpKey, op: Op, slot: int, spec: WeightSpec, before: Mapping[OpKey, OpEncoding]
    ) -> Callable[[], InputStatistics]:
        """Return a function that gives the statistics that the algorithm of `spec` reads for the weight in a slot."""

        def taken() -> InputStatistics:
            row = algorithm_named(spec.algorithm)
            reads = row.reads if row is not None else frozenset()
            tensor = key[0], data_of(op)
            values = self._inputs_of(key, before) if "inputs" in reads else None
            if values is not None and op.code == lstm.CODE and slot in lstm.STATE_WEIGHTS:
                values = values.state
            return InputStatistics(
                self._known.means.get(tensor) if "channel_mean" in reads else None,
                self._known.absmax.get(tensor) if "channel_absmax" in reads else None,
                self._known.second_moments.get(key) if "second_moment" in reads else None,
                values,
            )

        return taken

    def means_of(self, key: OpKey, before: Mapping[OpKey, OpEncoding]) -> tuple[Float64Array, Float64Array] | None:
        """Return the mean patches of an operator's inputs on the samples: (exact, quantized), float64 [groups, K] each.

        None where there are no samples, or Ctrl-C ended the fitting.
        """
        if key in self._means and not self._interrupted:
            return self._means[key]
        inputs = self._inputs_of(key, before)
        return None if inputs is None else inputs.means

    def _inputs_of(self, key: OpKey, before: Mapping[OpKey, OpEncoding]) -> OperatorInputs | None:
        """Return what an operator reads on the samples; None where there are none, or Ctrl-C ended the fitting."""
        if self._layers is None or self._interrupted:
            return None
        if self._read is None or self._read[0] != key:
            self._read = key, self._layers().inputs_of(key, before)
        return self._read[1]

    def _solved(
        self,
        key: OpKey,
        problem: WeightProblem,
        axes: WeightAxes,
        decision: Decision,
        inputs: Callable[[], InputStatistics],
    ) -> Solution:
        spec, data, floor = decision.weighted.weights, problem.weight, problem.floor
        if self._interrupted:
            spec = without_inputs(spec)
        row = algorithm_named(spec.algorithm)
        cache = self._own if row is not None and row.reads else self._shared

        def solved() -> Solution:
            unbounded = self._found(key, spec, problem, inputs)
            codes = unbounded.codes
            if floor is not None:
                codes = with_scale_floor(data, codes, floor, axes.channel, problem.codes)
            if decision.repeated:
                codes = one_scale_each(codes, axes.channel)
            _forget(data)
            return Solution(codes, unbounded.how)

        same = replace(spec, bias_correction=False)  # which changes no code
        scales = None if floor is None else floor.tobytes()
        settings = axes, same, decision.form, decision.repeated, scales, problem.keeps_mean
        return cache.once(solved, data, key=settings)

    def _found(
        self, key: OpKey, spec: WeightSpec, problem: WeightProblem, inputs: Callable[[], InputStatistics]
    ) -> Solution:
        """Solve one weight; on Ctrl-C, this one and all that follow without inputs, so that what is done stays."""
        try:
            whole = replace(problem, inputs=inputs())
            if whole.inputs.values is None:
                return solution(spec, whole)
            assert problem.axes is not None, "an operator has axes"
            with threads_for(problem.weight.size // problem.weight.shape[problem.axes.channel]):
                return self._fitted(key, spec, whole)
        except KeyboardInterrupt:
            if self._resumes or not reads_inputs(spec):
                raise
            self._interrupted = True
            instead = without_inputs(spec)
            return Solution(solution(instead, problem).codes, f"{instead.algorithm}: interrupted")

    def with_learned(self, learned: Learned) -> "Solver":
        """Return a solver that gives some operators the codes and biases that were learned for them."""
        other = copy.copy(self)
        other._read, other._means = None, {}
        other._given = {**self._given, **learned.codes}
        other._biases, other._how = learned.biases, {**self._how, **learned.how}
        return other

    def bias(
        self,
        key: OpKey,
        op: Op,
        subgraph: Subgraph,
        spec: WeightSpec,
        constants: Mapping[int, Stored],
        before: Mapping[OpKey, OpEncoding],
    ) -> dict[int, Stored]:
        """Return {bias slot: its learned or corrected values, float32}; empty where it stays what it is.

        Args:
            key: the operator.
            op: the operator itself.
            subgraph: the one that holds it.
            spec: the spec of its weights.
            constants: its codes.
            before: the encodings of the operators before it.
        """
        if key in self._biases:
            return {bias_slot(op.code): self._biases[key]}
        means = self.means_of(key, before) if keeps_mean(op, subgraph, spec) else None
        return corrected_biases(key, op, subgraph, spec, constants, self._known, means)

    @property
    def on_disk(self) -> CodesOnDisk | None:
        """The codes on disk; None where they are kept nowhere."""
        return self._on_disk

    @property
    def is_interrupted(self) -> bool:
        """Whether Ctrl-C ended the fitting."""
        return self._interrupted

    def interrupt(self) -> None:
        """Fit no more weights."""
        self._interrupted = True

    def _fitted(self, key: OpKey, spec: WeightSpec, problem: WeightProblem) -> Solution:
        """Fit one weight to its inputs, unless its codes are on disk."""
        name = entry_name(spec, problem) if self._on_disk and not algorithm_problems(spec) else ""
        entry = self._on_disk.find(name, partial(entry_of, problem=problem)) if self._on_disk and name else None
        if entry is None:
            if self._begin is not None and key in self._steps:
                self._begin(self._steps[key])
            fitted = solution(spec, problem)
            assert problem.inputs.values is not None
            means = problem.inputs.values.means if problem.keeps_mean else None
            entry = FittedCodes(fitted.codes, fitted.how, means)
            if self._on_disk:
                self._on_disk.keep(name, arrays_of(entry))
        if entry.means is not None:
            self._means[key] = entry.means
        return Solution(entry.codes, entry.how)

    def how(self, key: OpKey) -> str:
        """Return how the codes of an operator's weights were found; "" where it has none that were solved."""
        return self._how.get(key, "")

    def half(self, op: Op, subgraph: Subgraph) -> OpEncoding:
        """Encode an operator whose large constants are float16 values; it stays float where it has none."""
        halves: dict[int, Stored] = {}
        for slot in float_constants(op, subgraph):
            data = subgraph.tensors[op.inputs[slot]].data
            assert data is not None
            if data.size >= HALF_MINIMUM and np.abs(data).max() <= LARGEST_HALF:
                halves[slot] = self._shared.once(partial(_half, data), data, key="half")
        return OpEncoding("float16" if halves else "float", halves, form="dequantize")


def _half(data: Float32Array) -> Float16Array:
    values = data.astype(np.float16)
    _forget(data)
    return values


def _forget(data: AnyArray) -> None:
    """Let the pages of a large weight in a mapped file go."""
    if data.nbytes > LARGE_WEIGHT:
        flatbuffer.forget_pages()
