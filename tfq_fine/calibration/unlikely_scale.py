"""Warnings of data that is scaled unlike the training data: by what the first layer answers, and by class scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, FloatArray, Graph, Op, Subgraph
from tfq_converters.operators import facts_of, weight_axes
from tfq_fine.calibration.kept_samples import Sample
from tfq_fine.calibration.sample_outputs import MOST_RUN, outputs_on
from tfq_fine.calibration.statistics import Range

# A trained layer answers its inputs with values around 1: batch norm and usual initial weights see to that. Images of
# 0 to 255 before a layer for [-1, 1] or [-3, 3] give 100 or more.
# A network trained on raw pixels answers with 85 without a mistake; so large alone says nothing: without batch
# norm the scores of the classes grow with the input, too, and with it the answer grows to some hundred.
LARGE_ANSWER, CERTAIN_ANSWER, SMALL_ANSWER = 40.0, 150.0, 0.005  # root mean square
LARGE_SCORES = 300.0  # between the scores of one SOFTMAX: all but one of its probabilities are 0
SCALES = {"MUL": np.multiply, "DIV": np.divide, "ADD": np.add, "SUB": np.subtract}


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
    runs = outputs_on(changed, samples[:MOST_RUN]) if scores else []
    return float(np.mean([np.ptp(values) for values in runs[0]])) if runs else 0.0


def _scale_said(name: str, seen: FloatArray, layer: str, answer: float) -> str:
    low, high = float(seen.min()), float(seen.max())
    pixels = low >= 0 and 16 < high <= 255 and bool((seen == np.rint(seen)).all())
    what = "whole numbers, as of pixels that were not rescaled" if pixels else f"from {low:.4g} to {high:.4g}"
    held = f"{what} ({low:.4g} to {high:.4g})" if pixels else what
    return (
        f"input {name!r} holds values {held}, to which {layer} answers with about {answer:.3g}, where a trained layer "
        "answers with about 1: is the data prepared as in training?"
    )


def _first_layers(main: Subgraph, tensor: int, values: FloatArray) -> Iterator[tuple[FloatArray, Op, int]]:
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
