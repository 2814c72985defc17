"""A float model and its quantized file side by side, on the same samples: what the quantization cost."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError, extras_named
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.graph_edit import with_main
from tfq_converters.reading import Source, read_model
from tfq_converters.runtime import RESOLVERS, Apart, Kernels, apart, check_timeout, float_seconds
from tfq_fine.calibration import by_signature, entries, located, matched
from tfq_fine.data import Batch, Peeked, batches, require_data
from tfq_fine.numerics import constant_bytes
from tfq_fine.report import FileSize, Provenance, Report
from tfq_fine.verification.borders import match_borders
from tfq_fine.verification.comparison import Comparison
from tfq_fine.verification.keras_agreement import check_keras
from tfq_fine.verification.latency import compare_latency
from tfq_fine.verification.layer_errors import LAYER_SAMPLES, activation_errors, constant_errors
from tfq_fine.verification.side import FLOAT_FILE, QUANTIZED_FILE, Side, file_size
from tfq_fine.verification.task_metrics import TaskMetric, task_metric

MOST, GROUP_BYTES = 32, 2**22  # batches, and bytes of what goes in and comes out, that are handed over at a time


@extras_named()
def verify(
    model: Any,
    tflite: Any,
    data: Any,
    labels: Any = None,
    *,
    metric: Any = None,
    batch_size: int = 1,
    limit: int | None = None,
    kernels: Kernels = "default",
    threads: int = 1,
    latency: bool = True,
    layers: bool = True,
    safe_mode: bool = True,
    on_batch: Callable[[int], object] | None = None,
    timeout: float | None = None,
) -> Report:
    """Run the float model and the quantized file on the same samples, and compare.

    The float model runs as the float graph that the file was quantized from; a Keras model is checked to predict the
    same on the first batch.

    Args:
        model: a Keras model, a SavedModel folder, a `.keras`, `.h5` or float `.tflite` path, bytes, or a `Source`.
        tflite: path or bytes of the quantized file, or what `quantize` returned.
        data: test inputs in any form that `tfq_fine.data` reads, with labels or without.
            Of a model of several signatures: a dict of such data by signature, each of which is then compared, or
            that of the first. Labels and metrics may be by signature too.
        labels: labels of the samples, unless `data` holds them; classes or one-hot.
        metric: a name in `METRICS`, a Keras metric, a `TaskMetric`, or a function `(outputs, labels) -> float` that is
            better when higher and is called once per model, on everything.
        batch_size: samples that are run at a time, where the files leave it open.
        limit: the first samples to use; None for all.
        kernels: which implementation of the operators runs.
        threads: threads of the interpreters.
        latency: whether to measure the time of both, for about 2 seconds.
        layers: whether to measure the error of each activation (on 8 samples) and weight.
        safe_mode: whether loading a Keras file may not run code that it holds.
        on_batch: called with the number of samples done so far.
        timeout: seconds that one run of a file on one batch may take, in the process that runs both; None: 60 seconds
            and 1000 times what the float model takes.

    Raises:
        TfqError: a file cannot be read or run, the two do not belong together, the data or the labels do not fit, or
            the float graph does not compute what the Keras model does.
    """
    require_data(data, "verification compares the two models on samples")
    if kernels not in RESOLVERS:
        raise TfqError(f"kernels: expected one of {', '.join(RESOLVERS)}, found {kernels!r}")
    check_timeout(timeout)
    content = _content(tflite)
    for each in metric.values() if isinstance(metric, Mapping) else () if metric is None else (metric,):
        task_metric(each)  # a name that is none is found before anything is run
    origin = Provenance.of(model, data, tflite)
    with apart(timeout) as elsewhere:  # it starts while the model is read
        peeked = Peeked(data)
        source = model if isinstance(model, Source) else read_model(model, safe_mode=safe_mode, shapes=peeked.shapes)
        every = by_signature(source.graph, peeked.data)
        how = _How(batch_size, limit, kernels, threads, latency, layers, on_batch)
        if every is not None:
            whole = _each_verified(source, content, every, labels, metric, how, elsewhere)
            return replace(whole, provenance=origin)
        task = None if metric is None else task_metric(metric)
        report = replace(_verified(source, content, peeked.data, labels, task, how, elsewhere), provenance=origin)
        others = [repr(key) for key in entries(source.graph).values()][1:]
        said = (f"signatures {', '.join(others)} were not compared: the data is that of the first alone",)
        return replace(report, notes=report.notes + said) if others else report


@dataclass(frozen=True)
class _How:
    """How both files are run, and what is measured."""

    batch_size: int
    limit: int | None
    kernels: Kernels
    threads: int
    latency: bool
    layers: bool
    on_batch: Callable[[int], object] | None


def _each_verified(
    source: Source, content: bytes | str, data: Mapping[str, Any], labels: Any, metric: Any, how: _How, elsewhere: Apart
) -> Report:
    """Compare every signature, run as the first of both files."""
    quantized = flatbuffer.read(content)
    metrics = metric if isinstance(metric, Mapping) else None if metric is None else dict.fromkeys(data, metric)
    if labels is not None and not isinstance(labels, Mapping):
        raise TfqError("the data is by signature and the labels are not: give labels by signature, or with the data")
    own_labels = matched(source.graph, labels or {}, "labels", whole=False)
    own_metrics = matched(source.graph, metrics or {}, "metric", whole=False)
    starts = _starts(source.graph, quantized)
    reports: dict[str, Report] = {}
    done = 0

    def advanced(samples: int) -> None:
        if how.on_batch is not None:
            how.on_batch(done + samples)

    for subgraph, key in entries(source.graph).items():
        ours, theirs = with_main(source.graph, subgraph), with_main(quantized, starts[subgraph])
        one = replace(source, graph=ours, content=flatbuffer.write(ours))
        with located(key):
            task = task_metric(own_metrics[key]) if key in own_metrics else None
            own = replace(how, on_batch=advanced)
            arguments = (data[key], own_labels.get(key), task)
            reports[key] = _verified(one, flatbuffer.write(theirs), *arguments, own, elsewhere)
        done += reports[key].samples
    return Report.of_signatures(reports, file_size(source.content), file_size(content))


def _starts(floating: Graph, quantized: Graph) -> dict[int, int]:
    """Return subgraph of the float model where a signature starts -> that of the quantized file.

    Raises:
        TfqError: signatures that the quantized file does not have.
    """
    theirs = {s.key: s.subgraph for s in quantized.signatures}
    starts = {s.subgraph: theirs[s.key] for s in floating.signatures if s.key in theirs}
    missing = [repr(key) for subgraph, key in entries(floating).items() if subgraph not in starts]
    if missing:
        has = ", ".join(theirs) or "none"
        raise TfqError(f"the quantized file lacks signatures {', '.join(missing)} of the float model; it has {has}")
    return starts


def _verified(
    source: Source,
    content: bytes | str,
    data: Any,
    labels: Any,
    wanted: TaskMetric | None,
    how: _How,
    elsewhere: Apart,
) -> Report:
    quantized = flatbuffer.read(content)
    borders = match_borders(source.graph, quantized)
    ours = Side(source.graph, source.content, how.kernels, how.threads, elsewhere, FLOAT_FILE)
    theirs = Side(quantized, content, how.kernels, how.threads, elsewhere, QUANTIZED_FILE)
    took = 0.0  # seconds, of the slowest float run
    comparison, kept, samples, notes = Comparison(borders.output_names, wanted), _Kept(), 0, source.notes
    if labels is not None and wanted is None:
        notes += ("labels were given without a metric, and were not used",)
    read = batches(
        data,
        borders.inputs,
        labels=labels,
        batch_size=how.batch_size,
        limit=how.limit,
        keep_labels=wanted is not None,
    )
    group = 1  # batches that are handed over at a time: the first shows how large they are
    while several := [_copied(batch) for batch in islice(read, group)]:
        ours.allow(elsewhere.limit(float_seconds(source.graph, several[0].count)))
        start = time.perf_counter()
        every_x = ours.run_all([batch.inputs for batch in several])
        took = max(took, (time.perf_counter() - start) / len(several))
        theirs.allow(elsewhere.limit(took))
        their_inputs = [borders.to_quantized_inputs(batch.inputs) for batch in several]
        every_y = theirs.run_all(their_inputs)
        if not samples:
            notes += check_keras(source, several[0].inputs, every_x[0])
            size = sum(array.nbytes for array in (*several[0].inputs, *every_x[0]))
            group = max(1, min(MOST, GROUP_BYTES // max(1, size)))
        for batch, x, y, fed in zip(several, every_x, every_y, their_inputs, strict=True):
            comparison.add(x, borders.to_float_outputs(y), batch.labels)
            kept.add(batch.inputs, fed, batch.count)
            samples += batch.count
            if how.on_batch is not None:
                how.on_batch(samples)
    first = kept.inputs[0]
    limits = elsewhere.limit(float_seconds(source.graph, kept.batch_size)), elsewhere.limit(took)
    report = Report(
        samples=samples,
        outputs=comparison.outputs(),
        float_size=FileSize(file_size(source.content), constant_bytes(source.graph)),
        quantized_size=FileSize(file_size(content), constant_bytes(quantized)),
        task=comparison.task(),
        layers=activation_errors(source.graph, quantized, kept.inputs, how.kernels, elsewhere, limits)
        if how.layers
        else (),
        weights=constant_errors(source.graph, quantized) if how.layers else (),
        layer_samples=kept.samples if how.layers else 0,
        latency=compare_latency((ours, first[0]), (theirs, first[1]), kept.batch_size) if how.latency else None,
        kernels=how.kernels,
        notes=notes,
    )
    ours.close()
    theirs.close()
    return report


def _copied(batch: Batch) -> Batch:
    """Return a batch that stays when the user's generator writes the next one to the same place."""
    return replace(batch, inputs=tuple(array.copy() for array in batch.inputs))


class _Kept:
    """Copies of the inputs of the first samples, at most one batch more than `LAYER_SAMPLES`."""

    def __init__(self) -> None:
        self.inputs: list[tuple[list[AnyArray], list[AnyArray]]] = []  # (for the float file, for the quantized one)
        self.samples = self.batch_size = 0

    def add(self, ours: Sequence[AnyArray], theirs: Sequence[AnyArray], count: int) -> None:
        if self.samples < LAYER_SAMPLES:
            self.inputs.append(([array.copy() for array in ours], [array.copy() for array in theirs]))
            self.samples += count
            self.batch_size = self.batch_size or count


def _content(tflite: Any) -> bytes | str:
    content = getattr(tflite, "content", tflite)
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    if isinstance(content, str | os.PathLike):
        return os.fspath(content)
    raise TfqError(f"tflite: expected the path or the bytes of a .tflite file, found {type(tflite).__name__}")
