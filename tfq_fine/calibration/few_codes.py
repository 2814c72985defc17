"""Warnings of 8-bit outputs whose values are left few codes."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfq_converters.graph import Graph, Subgraph
from tfq_converters.operators import data_of, facts_of
from tfq_converters.quantized import ActivationEncoding, QuantizedGraph
from tfq_converters.runtime import float_seconds
from tfq_fine.calibration.instrument import moved_from
from tfq_fine.calibration.kept_samples import Sample
from tfq_fine.calibration.sample_outputs import MOST_RUN, MOST_SECONDS, outputs_on
from tfq_fine.calibration.statistics import Range

FEW_SAMPLES = 8  # fewer say little of ranges
FEW_CODES = 8  # codes of 8 bits that all values of one part of an output share


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
    for t, form, values in zip(graph.main.outputs, forms, outputs_on(graph, some), strict=False):
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
