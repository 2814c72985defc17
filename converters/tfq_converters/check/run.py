"""Runs an emitted file and compares every operator with what the quantized numbers say, before anyone gets the file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.check.float_model import FloatRun, float_run
from tfq_converters.check.float_noise import float_noise
from tfq_converters.check.held_twice import wrong_conversion
from tfq_converters.check.noise import sqnr
from tfq_converters.check.recurrent import DIFFERS, recurrent_ops, wrong_recurrent
from tfq_converters.check.simulate import Segment, Value, segments, simulated_bodies, values_read, values_written
from tfq_converters.check.tolerance import (
    FLOAT_TOLERANCE,
    LOOP_TOLERANCE,
    agrees_with_emulation,
    allowed_steps,
    emulated_parts,
    float_difference,
    float_tolerance,
    integer_difference,
    repeats_steps,
)
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Subgraph
from tfq_converters.kernels.arithmetic import is_emulated, kernel_difference
from tfq_converters.operators import data_of, facts_of, weight_axes
from tfq_converters.quantized import ActivationEncoding, OpEncoding, QuantizedGraph
from tfq_converters.realize import FLOAT, Realized, ValueForm
from tfq_converters.runtime import (
    Arrays,
    Kernels,
    Runner,
    Runs,
    is_unrunnable,
    runnable_part,
    stand_ins,
    unrunnable_ops,
    waiting,
)

Sample = Sequence[np.ndarray]
TRIM_AFTER = 2  # segments, after which memory is given back; each time costs milliseconds


@dataclass(frozen=True)
class Checked:
    """The result of the check: per tensor of the float graph, how far the file is from the float model."""

    sqnr: Mapping[int, float]  # tensor of the main subgraph -> dB, on the default kernels
    kernels: tuple[str, ...]  # that the file ran on
    samples: int
    parts: int = 1  # in which it was run, one after the other


def run_check(
    quantized: QuantizedGraph,
    realized: Realized,
    content: bytes | None,
    samples: Sequence[Sample],
    others: Mapping[str, Sample] | None,
    runs: Runs,
) -> Checked:
    """Execute the file on the default and the reference kernels and compare it operator by operator.

    Operators that no runtime here executes (`unrunnable`) are cut out; everything around them is run. Those that only
    the default kernels execute are cut out of what the slow ones run.

    Args:
        quantized: the numbers.
        realized: the graph of the file, and where the values of the float graph live in it.
        content: the bytes of the file; made from `realized` when None.
        samples: float inputs of the model; a few are enough.
        others: key of a signature on another subgraph -> its inputs, in its order.
        runs: a process that waits for the file.

    Raises:
        TfqError: a kernel refuses the file, dies, yields NaN, or computes something else than the numbers say; the
            first operator that differs is named.
    """
    places = {
        (t, form): index
        for (s, t), forms in realized.places.items()
        for form, index in forms.items()
        if s == 0 and _readable(realized.graph, index)
    }
    fast, slow = kernels_to_run(quantized)
    wanted = sorted(set(places.values()))

    def give(to: Runs, kernels: Sequence[Kernels], content: bytes | None) -> int:
        emitted, extra = runnable_part(realized.graph, kernels[-1]), stand_ins(quantized.graph, kernels[-1])
        fed = [[*encoded(quantized, sample), *extra] for sample in samples]
        return to.give(emitted, content if emitted is realized.graph else None, wanted, fed, kernels)

    with ExitStack() as stack:
        if unrunnable_ops(realized.graph, fast) == unrunnable_ops(realized.graph, slow):
            slow_runs, parts = runs, give(runs, (fast, slow), content)
        else:
            slow_runs, parts = stack.enter_context(waiting(runs.timeout)), give(runs, (fast,), content)
            give(slow_runs, (slow,), content)
        known = float_run(quantized.graph, samples, runs, len(samples))
        runs.float_seconds = slow_runs.float_seconds = known.seconds * len(samples)
        flatbuffer.forget_pages(trim=True)
        simulated = _Simulated.of(quantized, places)
        results = _Results(quantized, runs, slow_runs, samples)
        for n in range(len(samples)):
            _compare(simulated, n, results)
            _same_outputs(realized, results.default, n)
        errors = _errors(runs, known, places, results.default)
        _check_signatures(quantized, realized, others or {})
        return Checked(errors, tuple(kernels for kernels, _ in results), len(samples), parts)


class _Results:
    """(kernels, what they computed), the default ones first; the others are waited for when they are asked for."""

    def __init__(self, quantized: QuantizedGraph, runs: Runs, slow_runs: Runs, samples: Sequence[Sample]):
        self._quantized, self._runs, self._slow_runs, self._samples = quantized, runs, slow_runs, samples

    @cached_property
    def default(self) -> Arrays:
        return self._runs.result("default")

    @cached_property
    def other(self) -> tuple[Kernels, Arrays]:
        _, kernels = kernels_to_run(self._quantized)
        return _on_slow_kernels(self._quantized.graph, self._slow_runs, self._samples, kernels)

    @property
    def other_is_there(self) -> bool:
        """Whether the slow kernels are done, so that nobody waits for `other`."""
        return self._slow_runs.is_done(kernels_to_run(self._quantized)[1])

    def __iter__(self) -> Iterator[tuple[Kernels, Arrays]]:
        yield "default", self.default
        yield self.other


def _errors(runs: Runs, known: FloatRun, places: Mapping[Value, int], emitted: Arrays) -> dict[int, float]:
    """Tensor -> SQNR in dB of the file against the float model."""
    first: dict[int, tuple[ValueForm, int]] = {}
    for (t, form), index in places.items():
        first.setdefault(t, (form, index))
    found = {}
    kept = runs.kept()
    for t in known.tensors:
        if t in first:
            form, index = first[t]
            found[t] = sqnr(
                (kept[known.name(n, t)], decoded(emitted[f"tensor_{n}_{index}"], form)) for n in range(known.samples)
            )
    return found


def _readable(graph: Graph, index: int) -> bool:
    tensor = graph.main.tensors[index]
    return not tensor.is_constant and not tensor.is_variable and tensor.dtype not in {"resource", "variant", "string"}


def encoded(quantized: QuantizedGraph, sample: Sample) -> list[np.ndarray]:
    """A sample in the types of the file's inputs."""
    borders = [quantized.borders.get((0, t)) for t in quantized.graph.main.inputs]
    return [array if form is None else form.encode(array) for array, form in zip(sample, borders, strict=True)]


def decoded(values: np.ndarray, form: ValueForm) -> np.ndarray:
    """The real numbers that values of the file stand for."""
    return values if form is FLOAT else form.decode(values)


def kernels_to_run(quantized: QuantizedGraph) -> tuple[Kernels, Kernels]:
    """The kernels that the file is run on: the default ones, and slow ones.

    The reference kernels of FULLY_CONNECTED skip blockwise weights without a word; the optimized ones compute them.
    """
    blockwise = any(encoding.form == "blockwise" for encoding in quantized.ops.values())
    return "default", "optimized" if blockwise else "reference"


def _on_slow_kernels(graph: Graph, runs: Runs, samples: Sequence[Sample], kernels: Kernels) -> tuple[Kernels, Arrays]:
    """Results of these kernels; of the optimized ones where the reference ones refuse the float model too.

    The reference kernels lack some operators (ELU).
    """
    try:
        return kernels, runs.result(kernels)
    except TfqError:
        if kernels != "reference" or not runs.refused(kernels) or _runs(graph, kernels, samples[0]):
            raise
    runs.again("optimized")
    return "optimized", runs.result("optimized")


def _runs(graph: Graph, kernels: Kernels, sample: Sample) -> bool:
    try:
        Runner(flatbuffer.write(runnable_part(graph, kernels)), kernels).run([*sample, *stand_ins(graph, kernels)])
    except TfqError:
        return False
    return True


def _encoding(quantized: QuantizedGraph, o: int) -> OpEncoding:
    return quantized.ops.get((0, o), OpEncoding("float"))


@dataclass(frozen=True)
class _Simulated:
    """The operators of the main subgraph as the numbers say: what the file is compared with."""

    quantized: QuantizedGraph
    places: Mapping[Value, int]
    bodies: tuple[Subgraph, ...]
    dynamic_bodies: bool

    @staticmethod
    def of(quantized: QuantizedGraph, places: Mapping[Value, int]) -> "_Simulated":
        dynamic = any(encoding.mode == "dynamic" for (s, _), encoding in quantized.ops.items() if s > 0)
        return _Simulated(quantized, places, simulated_bodies(quantized), dynamic)

    def known(self) -> list[list[int]]:
        """The operators whose values can be read from the file, few enough at a time to bound the memory."""
        every = (
            [o for o in indices if _can_be_read(self.quantized, self.places, o)]
            for indices in segments(self.quantized.graph.main, without=unrunnable_ops(self.quantized.graph))
        )
        return [known for known in every if known]

    def segment(self, known: Sequence[int]) -> Segment:
        return Segment(self.quantized, self.bodies, known)


def _compare(simulated: _Simulated, n: int, results: "_Results") -> None:
    """Raise an error that names the first operator whose result differs from the simulated one.

    The slow kernels may take longer than all else: as long as they are not done, the default ones are judged alone.
    """
    late = []
    for known in _trimmed(simulated.known()):
        segment = simulated.segment(known)
        _judge(simulated, n, "default", results.default, known, segment)
        if results.other_is_there:
            _judge(simulated, n, *results.other, known, segment)
        else:
            late.append(known)
    for known in _trimmed(late):
        _judge(simulated, n, *results.other, known, simulated.segment(known))
    for kernels, run in results:
        _refuse(kernels, wrong_conversion(simulated.quantized, simulated.places, run, n))
        if recurrent_ops(simulated.quantized):
            _refuse(kernels, wrong_recurrent(simulated.quantized, simulated.places, run, n))


def _trimmed(every: Iterable[list[int]]) -> Iterator[list[int]]:
    """Yield `every` unchanged; between runs, memory is given back now and then."""
    for number, known in enumerate(every, 1):
        yield known
        if number % TRIM_AFTER == 0:
            flatbuffer.forget_pages(trim=True)


def _judge(
    simulated: _Simulated, n: int, kernels: Kernels, run: Arrays, known: Sequence[int], segment: Segment
) -> None:
    main = simulated.quantized.graph.main
    run_here = [o for o in known if not is_unrunnable(main.ops[o], main, kernels)]
    _refuse(kernels, _first_wrong(simulated, n, run, run_here, segment))


def _refuse(kernels: str, wrong: str) -> None:
    if wrong:
        raise TfqError(f"the file is not handed over: on the {kernels} kernels, {wrong}")


def _first_wrong(simulated: _Simulated, n: int, run: Arrays, known: Sequence[int], segment: Segment) -> str:
    """The first of the operators `known` that differs from the simulated one, and how; "" when none does."""
    quantized, places = simulated.quantized, simulated.places
    main = quantized.graph.main
    read = {value: decoded(run[f"tensor_{n}_{places[value]}"], value[1]) for value in segment.inputs}
    expected = segment.run(read)
    for o in known:
        written = values_written(main.ops[o], _encoding(quantized, o))
        found = {value: run[f"tensor_{n}_{places[value]}"] for value in written}
        wrong = _difference(quantized, o, found, read, expected, simulated.dynamic_bodies)
        if wrong:  # the delegate's float kernels approximate some functions, the others are closer (GELU near 0)
            again = Segment(quantized, simulated.bodies, [o], "optimized").run(read)
            wrong = _difference(quantized, o, found, read, again, simulated.dynamic_bodies)
        if wrong:
            return f"{main.op_name(o)} {DIFFERS}: {wrong}"
    return ""


def _can_be_read(quantized: QuantizedGraph, places: Mapping[Value, int], o: int) -> bool:
    """Whether the inputs and outputs of operator `o` can be read from the file."""
    main = quantized.graph.main
    op, encoding = main.ops[o], _encoding(quantized, o)
    return all(v in places for v in (*values_read(main, op, encoding).values(), *values_written(op, encoding)))


def _difference(
    quantized: QuantizedGraph,
    o: int,
    found: Mapping[Value, np.ndarray],
    decoded: Mapping[Value, np.ndarray],
    expected: Mapping[int, np.ndarray],
    dynamic_bodies: bool,
) -> str:
    op, encoding = quantized.graph.main.ops[o], _encoding(quantized, o)
    for t, form in values_written(op, encoding):
        if form is not FLOAT:
            wrong = integer_difference(found[t, form], expected[t], form, allowed_steps(encoding, form))
            if wrong:
                wrong = _unlike_kernels(quantized.graph.main, o, encoding, form, decoded, found[t, form], expected[t])
        else:
            wrong = float_difference(found[t, form], expected[t], float_tolerance(op, encoding, dynamic_bodies))
            if wrong and encoding.mode == "dynamic" and not (repeats_steps(op) or facts_of(op.code).table):
                wrong = wrong if _unexplained(quantized, o, decoded, found[t, form]) else ""
        if wrong:
            return wrong
    return ""


def _unlike_kernels(
    main: Subgraph,
    o: int,
    encoding: OpEncoding,
    form: ActivationEncoding,
    decoded: Mapping[Value, np.ndarray],
    found: np.ndarray,
    expected: np.ndarray,
) -> str:
    """Say what is wrong with codes more than a step from the float operator; "" where its kernels explain them."""
    op = main.ops[o]
    values = {slot: decoded[value] for slot, value in values_read(main, op, encoding).items() if value in decoded}
    if is_emulated(op, form):
        return kernel_difference(op, encoding, values[0], found)
    steps = allowed_steps(encoding, form) + float_noise(op, encoding, values, found.size) / form.scale
    return integer_difference(found, expected, form, steps)


def _unexplained(quantized: QuantizedGraph, o: int, decoded: Mapping[Value, np.ndarray], found: np.ndarray) -> bool:
    """Whether no emulation of the on-the-fly quantization explains the result of operator `o`."""
    op = quantized.graph.main.ops[o]
    segment = Segment(quantized, simulated_bodies(quantized), [o])
    source = (data_of(op), FLOAT)
    (axes, *_) = weight_axes(op, quantized.graph.main)
    weight = quantized.graph.main.tensors[op.inputs[axes.slot]].shape
    inputs = weight[axes.inputs] if axes.inputs is not None else 1
    return not any(
        agrees_with_emulation(found, segment.run({**decoded, source: seen})[op.outputs[0]])
        for seen in emulated_parts(decoded[source], _encoding(quantized, o), inputs)
    )


def _same_outputs(realized: Realized, run: Mapping[str, np.ndarray], n: int) -> None:
    """The file's own outputs are those that the probe showed: exposing intermediates changed nothing."""
    for k, index in enumerate(realized.graph.main.outputs):
        inside = run.get(f"tensor_{n}_{index}")
        if inside is None:
            continue
        outside = run[f"output_{n}_{k}"]
        if outside.dtype.kind in "iu" and outside.size:
            wrong = np.abs(outside.astype(np.int64) - inside).max() > 1
        else:
            wrong = bool(float_difference(outside, inside, FLOAT_TOLERANCE))
        if wrong:
            name = realized.graph.main.tensors[index].name
            raise TfqError(f"the file is not handed over: its output {name} changes when its intermediates are read")


def _check_signatures(quantized: QuantizedGraph, realized: Realized, others: Mapping[str, Sample]) -> None:
    """Run the entry points other than the main one, and compare their outputs with those over the simulated weights."""
    if not others:
        return
    emitted = Runner(flatbuffer.write(realized.graph))
    graph = quantized.graph
    simulated = Runner(flatbuffer.write(replace(graph, subgraphs=(graph.main, *simulated_bodies(quantized)))))
    for signature in graph.signatures:
        if signature.key not in others or unrunnable_ops(graph, s=signature.subgraph):
            continue
        inputs = {name: array for (name, _), array in zip(signature.inputs, others[signature.key], strict=True)}
        expected = simulated.run_signature(signature.key, inputs)
        for name, found in emitted.run_signature(signature.key, inputs).items():
            wrong = float_difference(found, expected[name], LOOP_TOLERANCE)
            if wrong:
                raise TfqError(f"the file is not handed over: output {name!r} of signature {signature.key!r}: {wrong}")
