"""A float model and its quantized file side by side, on the same samples: what the quantization cost."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.reading import Source, read_model
from tfq_converters.runtime import RESOLVERS, Kernels
from tfq_fine.data import Peeked, batches, require_data
from tfq_fine.report import FileSize, Report
from tfq_fine.sizes import constant_bytes
from tfq_fine.task_metrics import task_metric
from tfq_fine.verification.borders import match_borders
from tfq_fine.verification.comparison import Comparison
from tfq_fine.verification.keras_agreement import check_keras
from tfq_fine.verification.latency import compare_latency
from tfq_fine.verification.layer_errors import activation_errors, constant_errors
from tfq_fine.verification.side import Side, file_size

LAYER_SAMPLES = 8  # samples that the error per layer is measured on


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
) -> Report:
    """Run the float model and the quantized file on the same samples, and compare.

    The float model runs as the float graph that the file was quantized from; a Keras model is checked to predict the
    same on the first batch.

    Args:
        model: a Keras model, a SavedModel folder, a `.keras`, `.h5` or float `.tflite` path, bytes, or a `Source`.
        tflite: path or bytes of the quantized file, or what `quantize` returned.
        data: test inputs in any form that `tfq_fine.data` reads, with labels or without.
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

    Raises:
        TfqError: a file cannot be read or run, the two do not belong together, the data or the labels do not fit, or
            the float graph does not compute what the Keras model does.
    """
    require_data(data, "verification compares the two models on samples")
    if kernels not in RESOLVERS:
        raise TfqError(f"kernels: expected one of {', '.join(RESOLVERS)}, found {kernels!r}")
    wanted = None if metric is None else task_metric(metric)
    content = _content(tflite)
    quantized = flatbuffer.read(content)
    peeked = Peeked(data)
    source = model if isinstance(model, Source) else read_model(model, safe_mode=safe_mode, shapes=peeked.shapes)
    borders = match_borders(source.graph, quantized)
    ours = Side(source.graph, source.content, kernels, threads)
    theirs = Side(quantized, content, kernels, threads)
    seen, kept, samples, notes = Comparison(borders.output_names, wanted), _Kept(), 0, source.notes
    if labels is not None and wanted is None:
        notes += ("labels were given without a metric, and were not used",)
    read = batches(
        peeked.data, borders.inputs, labels=labels, batch_size=batch_size, limit=limit, keep_labels=wanted is not None
    )
    for batch in read:
        x, their_inputs = ours.run(batch.inputs), borders.to_quantized_inputs(batch.inputs)
        if not samples:
            notes += check_keras(source, batch.inputs, x)
        seen.add(x, borders.to_float_outputs(theirs.run(their_inputs)), batch.labels)
        kept.add(batch.inputs, their_inputs, batch.count)
        samples += batch.count
        if on_batch is not None:
            on_batch(samples)
    first = kept.inputs[0]
    return Report(
        samples=samples,
        outputs=seen.outputs(),
        float_size=FileSize(file_size(source.content), constant_bytes(source.graph)),
        quantized_size=FileSize(file_size(content), constant_bytes(quantized)),
        task=seen.task(),
        layers=activation_errors(source.graph, quantized, kept.inputs, kernels) if layers else (),
        weights=constant_errors(source.graph, quantized) if layers else (),
        layer_samples=kept.samples if layers else 0,
        latency=compare_latency((ours, first[0]), (theirs, first[1]), kept.batch_size) if latency else None,
        kernels=kernels,
        notes=notes,
    )


class _Kept:
    """Copies of the inputs of the first samples, at most one batch more than `LAYER_SAMPLES`."""

    def __init__(self) -> None:
        self.inputs: list[tuple[list[np.ndarray], list[np.ndarray]]] = []  # of the float and of the quantized file
        self.samples = self.batch_size = 0

    def add(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], count: int) -> None:
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
