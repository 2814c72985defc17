"""Models of several signatures: each is quantized as a model of its own, on its own data, and all go into one file."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.graph_edit import together
from tfq_converters.runtime import Runner, unrunnable_ops
from tfq_fine.calibration import entries, generated_inputs
from tfq_fine.report import QuantizationReport, Verdict
from tfq_fine.request import Layers, Recipe, Rule


def own_recipe(recipe: Recipe, graph: Graph, layers: Layers) -> Recipe:
    """Return the recipe for the file of one signature, without rules on other signatures or layer classes.

    Args:
        recipe: the recipe for the whole model.
        graph: the graph of the signature.
        layers: the layers of the whole model.

    Returns:
        The recipe with one rule for each operator of each layer, those of inner layers last, since of rules that name a
        layer the last one holds.
    """
    if not recipe.rules:
        return recipe
    ops = sorted((op for _, op in graph.ops()), key=lambda op: op.layer.count("/"))
    rules = (Rule(recipe.spec_of(op, layers), layer=op.layer or None, op=op.code) for op in ops)
    return replace(recipe, rules=tuple(dict.fromkeys(rules)))


def joined(graphs: Mapping[str, Graph]) -> Graph:
    """Return one graph of the quantized signatures, which compute together what they do alone.

    Raises:
        TfqError: they do not.
    """
    whole = together(list(graphs.values()))
    content = flatbuffer.write(whole)
    for n, (key, graph) in enumerate(graphs.items()):
        if unrunnable_ops(graph):
            continue
        inputs = generated_inputs(graph)
        alone = Runner(flatbuffer.write(graph)).run(inputs)
        signature = next(s for s in whole.signatures if s.subgraph == n)
        values = dict(zip(graph.main.inputs, inputs, strict=True))
        results = Runner(content).run_signature(signature.key, {name: values[t] for name, t in signature.inputs})
        expected = dict(zip(graph.main.outputs, alone, strict=True))
        for name, t in signature.outputs:
            if not np.array_equal(results[name], expected[t], equal_nan=expected[t].dtype.kind in "fc"):
                raise TfqError(
                    f"the file is not handed over: signature {key!r} gives another output {name!r} in the joined file "
                    "than in a file of its own"
                )
    return whole


def one_report(reports: Mapping[str, QuantizationReport], file_bytes: int, float_bytes: int) -> QuantizationReport:
    """Return the report of the whole file: rows of all signatures, and their notes with the signature's key."""
    every = list(reports.values())
    return replace(
        every[0],
        rows=tuple(row for report in every for row in report.rows),
        file_bytes=file_bytes,
        float_bytes=float_bytes,
        notes=tuple(f"signature {key!r}: {note}" for key, report in reports.items() for note in report.notes),
        layer_error=tuple(pair for report in every for pair in report.layer_error),
        activations=tuple(row for report in every for row in report.activations),
        transforms=tuple(
            replace(row, text=f"signature {key!r}: {row.text}")
            for key, report in reports.items()
            for row in report.transforms
        ),
        verdict=_one_verdict(reports),
        warnings=tuple(f"signature {key!r}: {said}" for key, report in reports.items() for said in report.warnings),
    )


def _one_verdict(reports: Mapping[str, QuantizationReport]) -> Verdict | None:
    """Return the outputs of all signatures, each with its key; None where one could not be run as a whole."""
    verdicts = {key: report.verdict for key, report in reports.items()}
    rows = [
        replace(row, name=f"{key}: {row.name}")
        for key, verdict in verdicts.items()
        if verdict is not None
        for row in verdict.outputs
    ]
    judged = [verdict for verdict in verdicts.values() if verdict is not None]
    if len(judged) < len(verdicts):
        return None
    return Verdict(tuple(rows), min(v.samples for v in judged), any(v.generated for v in judged))


def not_quantized(graph: Graph, is_static: bool) -> list[str]:
    """Return a sentence on signatures that stay float because the data is that of the first alone."""
    first, *others = entries(graph).values() or ("",)
    if not is_static or not others:
        return []
    keys = ", ".join(f"{key!r}: ..." for key in (first, *others))
    return [
        f"signatures {', '.join(map(repr, others))} compute in float: the data is that of {first!r} alone. "
        f"Data by signature quantizes each: data={{{keys}}}"
    ]
