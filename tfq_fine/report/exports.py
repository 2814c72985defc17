"""Layers of a report for other programs: rows as plain values, CSV, and node data of Model Explorer.

Model Explorer (https://github.com/google-ai-edge/model-explorer) shows a .tflite as a graph, and node data as colours
and numbers on its operators; it finds an operator by the name of a tensor that it computes.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from tfq_converters.errors import TfqError
from tfq_fine.report.measurements import LayerError

MEASURES = ("sqnr", "own", "bits")
EXACT_DB, LOST_DB = (
    120.0,
    -20.0,
)  # stand for outputs that are equal, and for ones that are not finite: colours need numbers
GRADIENT = [{"stop": 0, "bgColor": "#c0392b"}, {"stop": 0.5, "bgColor": "#f7dc6f"}, {"stop": 1, "bgColor": "#7dcea0"}]


def layer_rows(errors: Sequence[LayerError], weights: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a dict for each layer: the fields of `LayerError`, its shares of noise, and how its weights are stored.

    Args:
        errors: one for each activation.
        weights: layer -> how its weights are stored.
    """
    return [
        asdict(error)
        | {
            "inherited": error.inherited,
            "of_weights": error.of_weights,
            "weights": weights.get(error.layer, "") if error.weights_db is not None else "",
        }
        for error in errors
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a line of headings; floats as Python writes them, nothing for None."""
    names = (
        list(rows[0]) if rows else [*(field.name for field in fields(LayerError)), "inherited", "of_weights", "weights"]
    )
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def node_data(rows: Sequence[Mapping[str, Any]], measure: str) -> str:
    """Return the node data of one graph as JSON (`GraphNodeData` of Model Explorer).

    Args:
        rows: those of `layer_rows`.
        measure: "sqnr" in dB, "own" for the layer's own SQNR, "bits" of its weights.

    Raises:
        TfqError: an unknown measure, or one that the report does not hold.
    """
    if measure not in MEASURES:
        raise TfqError(f"measure: expected one of {', '.join(MEASURES)}, found {measure!r}")
    values = {row["name"]: value for row in rows if (value := _value(row, measure)) is not None}
    if not values:
        raise TfqError(f"the report holds no {measure} of layers: quantize or verify with layers=True")
    results = {name: {"value": value} for name, value in values.items()}
    return json.dumps({"name": f"tfq_fine: {measure}", "results": results, "gradient": GRADIENT}, indent=1) + "\n"


def _value(row: Mapping[str, Any], measure: str) -> float | None:
    if measure == "bits":
        digits = re.match(r"u?int(\d+)|float(\d+)", row["weights"])
        return None if digits is None else float(digits[1] or digits[2])
    value = row["sqnr_db" if measure == "sqnr" else "own_db"]
    if value is None:
        return None
    return LOST_DB if math.isnan(value) else min(max(value, LOST_DB), EXACT_DB)
