"""Runs an emitted file and compares every operator with what the quantized numbers say, before anyone gets the file."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.quantized import OpEncoding, QuantizedGraph
from tfq_converters.realize import Realized
from tfq_converters.realize.builder import FLOAT, Form
from tfq_converters.run_child import REFUSED
from tfq_converters.runtime import Kernels, Runner
from tfq_converters.simulate import Segment, Value, segments, simulated_bodies, values_read, values_written
from tfq_converters.tolerance import (
    FLOAT_TOLERANCE,
    LOOPS,
    agrees_with_emulation,
    emulated_inputs,
    float_difference,
    float_tolerance,
    integer_difference,
)
from tfq_converters.weights import data_of

KERNELS = ("default", "reference")
Sample = Sequence[np.ndarray]


@dataclass(frozen=True)
class Checked:
    """What the run showed: per tensor of the float graph, how far the file is from the float model."""

    sqnr: Mapping[int, float]  # tensor of the main subgraph -> dB, on the default kernels
    kernels: tuple[str, ...]  # that the file ran on
    samples: int


def run_check(
    quantized: QuantizedGraph, realized: Realized, content: bytes | None, samples: Sequence[Sample]
) -> Checked:
    """Execute the file on the default and the reference kernels and compare it operator by operator.

    Args:
        quantized: the numbers.
        realized: the graph of the file, and where the values of the float graph live in it.
        content: the bytes of the file.
        samples: float inputs of the model; a few are enough.

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
    wanted = sorted(set(places.values()))
    fed = [_encoded(quantized, sample) for sample in samples]
    with tempfile.TemporaryDirectory(prefix="tfq_fine_") as folder:
        here = Path(folder)
        _prepare(here, realized, content, wanted, fed)
        children = {kernels: _start(here, kernels) for kernels in KERNELS}
        try:
            float_values = _float_values(quantized.graph, samples)
            judged = _segments(quantized, places)
            runs = {"default": _finished(children["default"], here, "default")}
            runs |= _slow_kernels(quantized.graph, children["reference"], here, samples)
        finally:
            for child in children.values():
                _end(child)
    for n in range(len(samples)):
        values = {k: {value: run[f"tensor_{n}_{i}"] for value, i in places.items()} for k, run in runs.items()}
        _compare(quantized, judged, values)
        _same_outputs(realized, runs["default"], n)
    sqnr: dict[int, float] = {}
    for (t, form), index in places.items():
        if t in float_values[0] and t not in sqnr:
            runs_of_t = [_decoded(runs["default"][f"tensor_{n}_{index}"], form) for n in range(len(samples))]
            sqnr[t] = _sqnr([(values[t], found) for values, found in zip(float_values, runs_of_t, strict=True)])
    ordered = {t: sqnr[t] for op in quantized.graph.main.ops for t in op.outputs if t in sqnr}
    return Checked(ordered, tuple(runs), len(samples))


def _readable(graph: Graph, index: int) -> bool:
    tensor = graph.main.tensors[index]
    return not tensor.is_constant and not tensor.is_variable and tensor.dtype not in {"resource", "variant", "string"}


def _encoded(quantized: QuantizedGraph, sample: Sample) -> list[np.ndarray]:
    borders = [quantized.borders.get((0, t)) for t in quantized.graph.main.inputs]
    return [array if form is None else form.encode(array) for array, form in zip(sample, borders, strict=True)]


def _decoded(values: np.ndarray, form: Form) -> np.ndarray:
    return values if form is FLOAT else form.decode(values)


def _prepare(
    here: Path, realized: Realized, content: bytes | None, wanted: list[int], fed: list[list[np.ndarray]]
) -> None:
    graph = realized.graph
    if content is None:
        flatbuffer.save(graph, here / "file.tflite")
    else:
        (here / "file.tflite").write_bytes(content)
    probe = replace(graph, subgraphs=(replace(graph.main, outputs=tuple(wanted)), *graph.subgraphs[1:]), signatures=())
    flatbuffer.save(probe, here / "probe.tflite")
    np.save(here / "wanted.npy", np.array(wanted, np.int64))
    np.savez(
        here / "inputs.npz", **{f"{n}_{k}": array for n, sample in enumerate(fed) for k, array in enumerate(sample)}
    )


def _start(here: Path, kernels: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "tfq_converters.run_child", str(here), kernels]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _finished(child: subprocess.Popen, here: Path, kernels: str) -> dict[str, np.ndarray]:
    _, errors = child.communicate()
    if child.returncode == REFUSED:
        raise TfqError(f"the file is not handed over: {errors.strip().splitlines()[-1]}")
    if child.returncode:
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        raise TfqError(
            f"the file is not handed over: running it on the {kernels} kernels ended the process ({how})\n{errors[-800:]}"
        )
    with np.load(here / f"{kernels}.npz", allow_pickle=False) as content:
        return dict(content)


def _slow_kernels(
    graph: Graph, child: subprocess.Popen, here: Path, samples: Sequence[Sample]
) -> dict[str, dict[str, np.ndarray]]:
    """What the reference kernels computed; the optimized ones where the reference refuses the float model too.

    The reference kernels lack some operators (ELU).
    """
    try:
        return {"reference": _finished(child, here, "reference")}
    except TfqError:
        if child.returncode != REFUSED or _runs(graph, "reference", samples):
            raise
    other = _start(here, "optimized")
    try:
        return {"optimized": _finished(other, here, "optimized")}
    finally:
        _end(other)


def _runs(graph: Graph, kernels: Kernels, samples: Sequence[Sample]) -> bool:
    try:
        Runner(flatbuffer.write(graph), kernels).run(samples[0])
    except TfqError:
        return False
    return True


def _end(child: subprocess.Popen) -> None:
    child.kill()
    child.wait()
    if child.stderr is not None:
        child.stderr.close()


def _float_values(graph: Graph, samples: Sequence[Sample]) -> list[dict[int, np.ndarray]]:
    """Per sample, every float tensor that the float graph computes."""
    main = graph.main
    computed = [t for op in main.ops for t in op.outputs if main.tensors[t].dtype == "float32"]
    if any(op.code == "CUSTOM" for op in main.ops) or not computed:
        return [{} for _ in samples]
    probe = replace(graph, subgraphs=(replace(main, outputs=tuple(computed)), *graph.subgraphs[1:]), signatures=())
    runner = Runner(flatbuffer.write(probe))
    found = []
    for sample in samples:
        runner.reset_variables()
        found.append(dict(zip(computed, runner.run(sample), strict=True)))
    return found


def _segments(quantized: QuantizedGraph, places: Mapping[Value, int]) -> list[tuple[list[int], Segment]]:
    """The simulated operators whose inputs and outputs can be read from the file."""
    main, bodies = quantized.graph.main, simulated_bodies(quantized)
    found = []
    for indices in segments(main):
        known = []
        for o in indices:
            op, encoding = main.ops[o], _encoding(quantized, o)
            if all(v in places for v in (*values_read(main, op, encoding).values(), *values_written(op, encoding))):
                known.append(o)
        if known:
            found.append((known, Segment(quantized, bodies, known)))
    return found


def _encoding(quantized: QuantizedGraph, o: int) -> OpEncoding:
    return quantized.ops.get((0, o), OpEncoding("float"))


def _compare(
    quantized: QuantizedGraph,
    judged: Sequence[tuple[list[int], Segment]],
    values: Mapping[str, Mapping[Value, np.ndarray]],
) -> None:
    """Raise an error that names the first operator whose result differs from the simulated one."""
    dynamic_bodies = any(encoding.mode == "dynamic" for (s, _), encoding in quantized.ops.items() if s > 0)
    decoded = {k: {v: _decoded(array, v[1]) for v, array in found.items()} for k, found in values.items()}
    for indices, segment in judged:
        for kernels, found in values.items():
            expected = segment.run(decoded[kernels])
            for o in indices:
                wrong = _difference(quantized, o, found, decoded[kernels], expected, dynamic_bodies)
                if wrong:
                    raise TfqError(
                        f"the file is not handed over: {quantized.graph.main.op_name(o)} computes something else than "
                        f"its numbers say on the {kernels} kernels: {wrong}"
                    )


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
            wrong = integer_difference(found[t, form], expected[t], form, op)
        else:
            wrong = float_difference(found[t, form], expected[t], float_tolerance(op, encoding, dynamic_bodies))
            if wrong and encoding.mode == "dynamic" and op.code not in LOOPS:
                wrong = wrong if _unexplained(quantized, o, decoded, found[t, form]) else ""
        if wrong:
            return wrong
    return ""


def _unexplained(quantized: QuantizedGraph, o: int, decoded: Mapping[Value, np.ndarray], found: np.ndarray) -> bool:
    """Whether no emulation of the on-the-fly quantization explains the result of operator `o`."""
    op = quantized.graph.main.ops[o]
    segment = Segment(quantized, simulated_bodies(quantized), [o])
    source = (data_of(op), FLOAT)
    return not any(
        agrees_with_emulation(found, segment.run({**decoded, source: seen})[op.outputs[0]])
        for seen in emulated_inputs(decoded[source])
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


def _sqnr(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """10 log10(sum x^2 / sum (x - y)^2) in dB over all samples; inf without error."""
    signal = sum(float(np.sum(np.square(x, dtype=np.float64))) for x, _ in pairs)
    noise = sum(float(np.sum(np.square(x.astype(np.float64) - y))) for x, y in pairs)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float("inf") if noise == 0 else float(10 * np.log10(np.float64(signal) / noise))
