"""Runs an emitted file and compares every operator with what the quantized numbers say, before anyone gets the file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.check.comparison import Simulated, decoded, first_wrong
from tfq_converters.check.float_model import FloatRun, float_run
from tfq_converters.check.held_twice import wrong_conversion
from tfq_converters.check.noise import sqnr
from tfq_converters.check.recurrent import wrong_recurrent
from tfq_converters.check.simulate import Segment, Value, simulated_bodies
from tfq_converters.check.tolerance import (
    FLOAT_TOLERANCE,
    LOOP_TOLERANCE,
    float_difference,
)
from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.realize import Realized, ValueForm
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

Sample = Sequence[AnyArray]
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
    probes = sorted(set(places.values()))

    def give(to: Runs, kernels: Sequence[Kernels], content: bytes | None) -> int:
        emitted, extra = runnable_part(realized.graph, kernels[-1]), stand_ins(quantized.graph, kernels[-1])
        fed = [[*encoded(quantized, sample), *extra] for sample in samples]
        return to.give(emitted, content if emitted is realized.graph else None, probes, fed, kernels)

    with ExitStack() as stack:
        if unrunnable_ops(realized.graph, fast) == unrunnable_ops(realized.graph, slow):
            slow_runs, parts = runs, give(runs, (fast, slow), content)
        else:
            slow_runs, parts = stack.enter_context(waiting(runs.timeout)), give(runs, (fast,), content)
            give(slow_runs, (slow,), content)
        float_values = float_run(quantized.graph, samples, runs, len(samples))
        runs.float_seconds = slow_runs.float_seconds = float_values.seconds * len(samples)
        flatbuffer.forget_pages(trim=True)
        simulated = Simulated.of(quantized, places)
        results = _Results(quantized, runs, slow_runs, samples)
        for n in range(len(samples)):
            _compare(simulated, n, results)
            _same_outputs(realized, results.default, n)
        errors = _errors(runs, float_values, places, results.default)
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
    """Return tensor -> SQNR in dB of the file against the float model."""
    first: dict[int, tuple[ValueForm, int]] = {}
    for (t, form), index in places.items():
        first.setdefault(t, (form, index))
    errors = {}
    kept = runs.kept()
    for t in known.tensors:
        if t in first:
            form, index = first[t]
            errors[t] = sqnr(
                (kept[known.name(n, t)], decoded(emitted[f"tensor_{n}_{index}"], form)) for n in range(known.samples)
            )
    return errors


def _readable(graph: Graph, index: int) -> bool:
    tensor = graph.main.tensors[index]
    return not tensor.is_constant and not tensor.is_variable and tensor.dtype not in {"resource", "variant", "string"}


def encoded(quantized: QuantizedGraph, sample: Sample) -> list[AnyArray]:
    """Return a sample, one array for each input of the model, in the types of the file's inputs."""
    borders = [quantized.borders.get((0, t)) for t in quantized.graph.main.inputs]
    return [array if form is None else form.encode(array) for array, form in zip(sample, borders, strict=True)]


def kernels_to_run(quantized: QuantizedGraph) -> tuple[Kernels, Kernels]:
    """Return the kernels that the file is run on: the default ones, and slow ones.

    The reference kernels of FULLY_CONNECTED skip blockwise weights without a word; the optimized ones compute them.
    """
    blockwise = any(encoding.form == "blockwise" for encoding in quantized.ops.values())
    return "default", "optimized" if blockwise else "reference"


def _on_slow_kernels(graph: Graph, runs: Runs, samples: Sequence[Sample], kernels: Kernels) -> tuple[Kernels, Arrays]:
    """Return results on these kernels; on optimized ones where the reference ones refuse the float model too.

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


def _compare(simulated: Simulated, n: int, results: "_Results") -> None:
    """Raise an error that names the first operator whose result differs from the simulated one.

    The slow kernels may take longer than all else: as long as they are not done, the default ones are judged alone.
    """
    late = []
    for values in _trimmed(simulated.known()):
        segment = simulated.segment(values)
        _judge(simulated, n, "default", results.default, values, segment)
        if results.other_is_there:
            _judge(simulated, n, *results.other, values, segment)
        else:
            late.append(values)
    for values in _trimmed(late):
        _judge(simulated, n, *results.other, values, simulated.segment(values))
    for kernels, run in results:
        for wrong in (wrong_conversion, wrong_recurrent):  # what no operator shows that is run alone
            _refuse(kernels, wrong(simulated.quantized, simulated.places, run, n))


def _trimmed(every: Iterable[list[int]]) -> Iterator[list[int]]:
    """Yield `every` unchanged; between runs, memory is given back now and then."""
    for number, values in enumerate(every, 1):
        yield values
        if number % TRIM_AFTER == 0:
            flatbuffer.forget_pages(trim=True)


def _judge(simulated: Simulated, n: int, kernels: Kernels, run: Arrays, known: Sequence[int], segment: Segment) -> None:
    main = simulated.quantized.graph.main
    run_here = [o for o in known if not is_unrunnable(main.ops[o], main, kernels)]
    _refuse(kernels, first_wrong(simulated, n, run, run_here, segment))


def _refuse(kernels: str, wrong: str) -> None:
    if wrong:
        raise TfqError(f"the file is not handed over: on the {kernels} kernels, {wrong}")


def _same_outputs(realized: Realized, run: Mapping[str, AnyArray], n: int) -> None:
    """Raise unless the file's own outputs are those of the probe: exposing intermediates changes nothing."""
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
            raise TfqError(
                f"the file is not handed over: its output {name} changes when intermediate tensors are read too"
            )


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
        for name, result in emitted.run_signature(signature.key, inputs).items():
            wrong = float_difference(result, expected[name], LOOP_TOLERANCE)
            if wrong:
                raise TfqError(f"the file is not handed over: output {name!r} of signature {signature.key!r}: {wrong}")
