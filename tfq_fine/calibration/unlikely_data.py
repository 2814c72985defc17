"""Mistakes in representative data that calibration cannot refuse: each gets a warning with the figure that shows it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer import write
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.operators import data_of, facts_of, weight_axes
from tfq_converters.quantized import ActivationEncoding, QuantizedGraph
from tfq_converters.runtime import Runner, float_seconds, unrunnable_names
from tfq_fine.calibration.instrument import moved_from
from tfq_fine.calibration.kept_samples import Sample
from tfq_fine.calibration.statistics import Range, Statistics

FEW_SAMPLES = 8  # fewer say little of ranges
# A trained layer answers its inputs with values around 1: batch norm and usual initial weights see to that. Images of
# 0 to 255 before a layer for [-1, 1] or [-3, 3] give 100 or more.
# A network trained on raw pixels answers with 85 without a mistake; so large alone says nothing: without batch
# norm the scores of the classes grow with the input, too, and with it the answer grows to some hundred.
LARGE_ANSWER, CERTAIN_ANSWER, SMALL_ANSWER = 40.0, 150.0, 0.005  # root mean square
LARGE_SCORES = 300.0  # between the scores of one SOFTMAX: all but one of its probabilities are 0
FEW_CODES = 8  # codes of 8 bits that all values of one part of an output share
MOST_RUN = 8  # samples that outputs are compared on
MOST_SECONDS = 1.0  # that this may take


def data_warnings(
    graph: Graph, quantized: QuantizedGraph | None, statistics: Statistics | None, samples: Sequence[Sample]
) -> tuple[str, ...]:
    """Return all warnings; none where nothing is suspicious.

    Args:
        graph: the float graph.
        quantized: its numbers; None where there are none yet.
        statistics: the statistics of all the data; None where none were needed.
        samples: a few of the data, inputs of the main subgraph.
    """
    gathered = Statistics() if statistics is None else statistics
    ranges = {t: limits for (s, t), limits in gathered.ranges.items() if s == 0}
    count = gathered.samples or None
    return (
        *few_samples(count),
        *constant_inputs(graph, samples, count),
        *constant_outputs(graph, samples),
        *unlikely_scale(graph, samples),
        *wide_scores(graph, ranges),
        *(() if quantized is None else few_codes(quantized, ranges) or few_codes_of_outputs(graph, quantized, samples)),
    )


def few_samples(count: int | None) -> Iterator[str]:
    """Warn that ranges of a handful of samples hold for those alone; `count` is None if no ranges were needed."""
    if count is not None and count < FEW_SAMPLES:
        said = "1 sample" if count == 1 else f"{count} samples"
        yield f"the data has {said}: ranges and corrections hold for little else; give 100 or more that differ"


def constant_inputs(graph: Graph, samples: Sequence[Sample], count: int | None = None) -> Iterator[str]:
    """Warn of an input that holds one number everywhere, or is equal in all samples (equal ones are kept once)."""
    same = len(samples) == 1 and count is not None and count > 1
    for k, t in enumerate(graph.main.inputs):
        values = [sample[k] for sample in samples]
        name = graph.main.tensors[t].name
        if not values or values[0].dtype.kind not in "fiu" or not values[0].size:
            continue
        if values[0].size > 1 and values[0].dtype.kind == "f" and all(v.min() == v.max() for v in values):
            yield f"input {name!r} holds one number in each sample ({values[0].flat[0]:.4g}): is that real data?"
        elif same or _all_equal(values):
            yield f"input {name!r} is the same in all {count if same else len(values)} samples that were looked at"


def constant_outputs(graph: Graph, samples: Sequence[Sample]) -> Iterator[str]:
    """Warn of a float output that is equal for samples that differ; not for slow models, or where they cannot run."""
    some = [sample for sample in samples if sample][:MOST_RUN]
    if len(some) < 2 or any(_all_equal([sample[k] for sample in some]) for k in range(len(some[0]))):
        return  # `constant_inputs` says so
    for t, values in zip(graph.main.outputs, _run(graph, some), strict=False):
        if values[0].dtype.kind == "f" and values[0].size and _all_equal(values):
            yield (
                f"output {graph.main.tensors[t].name!r} of the float model is the same for {len(values)} samples that "
                f"differ (from {values[0].min():.4g} to {values[0].max():.4g}): is the data what it was trained on?"
            )


def _all_equal(values: Sequence[np.ndarray]) -> bool:
    return len(values) > 1 and all(np.array_equal(values[0], other) for other in values[1:])


# ------------------------------------------------------------------------------------ scale of inputs and scores


def unlikely_scale(graph: Graph, samples: Sequence[Sample]) -> Iterator[str]:
    """Warn that the first layer's outputs are far from 1: the data is scaled unlike the training data.

    What the graph itself does to the scale of its input (Rescaling, Normalization) is followed.
    """
    main = graph.main
    for k, t in enumerate(main.inputs):
        values = [sample[k] for sample in samples if sample]
        if main.tensors[t].dtype != "float32" or not values or not values[0].size:
            continue
        flat = np.concatenate([value.reshape(-1, value.shape[-1] if value.ndim else 1) for value in values])
        for reached, op, slot in _first_layers(main, t, flat.astype(np.float64)):
            weight = main.tensors[op.inputs[slot]].data
            (axes, *_) = weight_axes(op, main)
            if weight is None or not reached.size:
                continue
            channels = weight.shape[axes.channel]
            gain = float(np.sqrt(np.square(weight, dtype=np.float64).sum() / channels))
            answer = gain * float(np.sqrt(np.mean(np.square(reached))))
            large = answer > LARGE_ANSWER and _scores_span(graph, samples) > LARGE_SCORES
            if large or answer > CERTAIN_ANSWER or 0 < answer < SMALL_ANSWER:
                yield _scale_said(main.tensors[t].name, flat, main.op_name(main.ops.index(op)), answer)
            break


def _scores_span(graph: Graph, samples: Sequence[Sample]) -> float:
    """Return how far the scores of the classes lie apart, in the mean of samples; 0 where that is unknown.

    They are what an output's SOFTMAX reads, or outputs [n, classes] where there is none.
    """
    main = graph.main
    scores = tuple(op.inputs[0] for op in main.ops if op.code == "SOFTMAX" and op.outputs[0] in main.outputs)
    if not scores:
        tensors = [(t, main.tensors[t]) for t in main.outputs]
        scores = tuple(t for t, tensor in tensors if len(tensor.shape) == 2 and tensor.shape[1] > 1)
    changed = replace(graph, subgraphs=(replace(main, outputs=scores), *graph.subgraphs[1:]), signatures=())
    runs = _run(changed, samples[:MOST_RUN]) if scores else []
    return float(np.mean([np.ptp(values) for values in runs[0]])) if runs else 0.0


def _run(graph: Graph, samples: Sequence[Sample]) -> list[list[np.ndarray]]:
    """Return output -> its values for each sample; empty for models that take long, or do not run here."""
    if not samples or unrunnable_names(graph) or float_seconds(graph, len(samples)) > MOST_SECONDS:
        return []
    outputs = []
    try:
        runner = Runner(write(graph))
        for sample in samples:
            outputs.append(runner.run(sample))
            runner.reset_variables()
    except TfqError:
        return []
    return [list(values) for values in zip(*outputs, strict=True)]


def _scale_said(name: str, seen: np.ndarray, layer: str, answer: float) -> str:
    low, high = float(seen.min()), float(seen.max())
    pixels = low >= 0 and 16 < high <= 255 and bool((seen == np.rint(seen)).all())
    what = "whole numbers, as of pixels that were not rescaled" if pixels else f"from {low:.4g} to {high:.4g}"
    held = f"{what} ({low:.4g} to {high:.4g})" if pixels else what
    return (
        f"input {name!r} holds values {held}, to which {layer} answers with about {answer:.3g}, where a trained layer "
        "answers with about 1: is the data prepared as in training?"
    )


def _first_layers(main: Subgraph, tensor: int, values: np.ndarray) -> Iterator[tuple[np.ndarray, Op, int]]:
    """Yield linear operators that read an input, what they read of `values` [n, channels], and the weight's slot."""
    for op in main.ops:
        if tensor not in op.inputs:
            continue
        weights = [axes.slot for axes in weight_axes(op, main)]
        if weights and op.inputs[0] == tensor:
            yield values, op, weights[0]
        elif op.code in SCALES:
            other = next((t for t in op.inputs if t not in (tensor, ABSENT)), None)
            constant = None if other is None else main.tensors[other].data
            if constant is not None and constant.size in (1, values.shape[-1]):
                first = op.inputs[0] == tensor
                number = constant.reshape(-1).astype(np.float64)
                a, b = (values, number) if first else (number, values)
                with np.errstate(all="ignore"):
                    yield from _first_layers(main, op.outputs[0], SCALES[op.code](a, b))
        elif (facts_of(op.code).within_input or op.code == "PADV2") and op.outputs:
            yield from _first_layers(main, op.outputs[0], values.reshape(-1, 1))


SCALES = {"MUL": np.multiply, "DIV": np.divide, "ADD": np.add, "SUB": np.subtract}


def wide_scores(graph: Graph, ranges: Mapping[int, Range]) -> Iterator[str]:
    """Warn that scores before an output's SOFTMAX are so far apart that its probabilities are 0 and 1."""
    main = graph.main
    for o, op in enumerate(main.ops):
        if op.code == "SOFTMAX" and op.outputs[0] in main.outputs and op.inputs[0] in ranges:
            low, high = ranges[op.inputs[0]]
            if (high - low) * (op.option("beta") or 1.0) > LARGE_SCORES:
                yield (
                    f"the scores that {main.op_name(o)} reads go from {low:.4g} to {high:.4g}, so that its "
                    "probabilities are 0 and 1: is the data prepared as in training?"
                )


# ------------------------------------------------------------------------------------------ codes of outputs


def few_codes(quantized: QuantizedGraph, ranges: Mapping[int, Range]) -> list[str]:
    """Warn that one scale for a concatenated output leaves a part few codes, as for scores next to boxes."""
    main, moved, told_of = quantized.graph.main, moved_from(quantized.graph), []
    for o, output in _concatenations(main):
        op = main.ops[o]
        encoding = quantized.ops.get((0, o))
        form = encoding.outputs.get(0) if encoding is not None else None
        form = form or quantized.borders.get((0, output))  # a float CONCATENATION before an integer output
        sources = {t: moved.get(t, t) for t in dict.fromkeys(op.inputs)}
        parts = {t: ranges[root] for t, root in sources.items() if root in ranges}
        if form is None or form.dtype == "int16" or len(parts) < 2:
            continue
        codes = {t: 1 + int(np.ptp(form.encode(np.array(values)).astype(int))) for t, values in parts.items()}
        poor = {t: count for t, count in codes.items() if count < FEW_CODES and parts[t].high > parts[t].low}
        if poor and max(codes.values()) >= 4 * FEW_CODES:
            told = ", ".join(f"{main.tensors[t].name!r} from {r.low:.4g} to {r.high:.4g}" for t, r in parts.items())
            fewest = min(poor, key=lambda t: poor[t])
            told_of.append(
                f"{main.op_name(o)} puts parts of different ranges into one {form.dtype} tensor of step "
                f"{form.scale:.3g} ({told}): {poor[fewest]} of 256 codes are left for "
                f"{main.tensors[fewest].name!r}; "
                "give the model an output for each part, scale the parts alike, or keep the output float"
            )
    return told_of


def few_codes_of_outputs(graph: Graph, quantized: QuantizedGraph, samples: Sequence[Sample]) -> list[str]:
    """Warn that the values of an 8-bit output lie so close together that few codes tell them apart.

    Args:
        graph: the float graph.
        quantized: its numbers.
        samples: a few of the data; with fewer than `FEW_SAMPLES` nothing is said.
    """
    some = samples if float_seconds(graph, len(samples)) <= MOST_SECONDS else samples[:MOST_RUN]
    forms = [_form(quantized, t) for t in quantized.graph.main.outputs]
    if len(some) < FEW_SAMPLES or not any(forms):
        return []
    warnings = []
    for t, form, values in zip(graph.main.outputs, forms, _run(graph, some), strict=False):
        if form is None or form.dtype == "int16" or values[0].dtype.kind != "f" or not values[0].size:
            continue
        low, high = (float(limit) for limit in (min(v.min() for v in values), max(v.max() for v in values)))
        count = 1 + int(np.ptp(form.encode(np.array([low, high])).astype(int)))
        if low < high and count < FEW_CODES:
            warnings.append(
                f"output {graph.main.tensors[t].name!r} goes from {low:.4g} to {high:.4g} on {len(some)} samples, for "
                f"which {count} of 256 codes are left at its step of {form.scale:.3g}: keep what computes it float "
                "with Rule(None, layer=...), or let the model give what changes, without a constant part"
            )
    return warnings


def _form(quantized: QuantizedGraph, output: int) -> ActivationEncoding | None:
    """Return the encoding that the values of an output are rounded to; None where they are float."""
    border = quantized.borders.get((0, output))
    for o, op in enumerate(quantized.graph.main.ops):
        if output in op.outputs and border is None:
            encoding = quantized.ops.get((0, o))
            return None if encoding is None else encoding.outputs.get(op.outputs.index(output))
    return border


def _concatenations(main: Subgraph) -> list[tuple[int, int]]:
    """Return the CONCATENATION operators whose values are in an output, moved at most; and that output."""
    tensors = {t: t for t in main.outputs}
    result = []
    for o in reversed(range(len(main.ops))):
        op = main.ops[o]
        output = next((tensors[t] for t in op.outputs if t in tensors), None)
        if output is None:
            continue
        if op.code == "CONCATENATION":
            result.append((o, output))
            tensors |= dict.fromkeys(op.inputs, output)
        elif facts_of(op.code).within_input:
            tensors[data_of(op)] = output
    return sorted(result)
