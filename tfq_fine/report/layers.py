"""The layers of a model in a report: the error of each, where it comes from, and a rule to try."""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter

from tfq_converters.check import nan_as_worst
from tfq_fine.report.measurements import LayerError
from tfq_fine.report.sections import Grid, Paragraph, Section, brief_name, decibels

SQNR_EXPLAINED = (
    "SQNR is the power of a layer's float values divided by the power of the error, in decibels: 10 dB more is an "
    "error of a tenth of the power. Above 40 dB a layer is as good as float; 20 to 40 dB is usual for 8 bits; "
    "between 15 and 20 dB some decisions change, below 15 dB many do."
)
COLUMNS = ("layer", "#SQNR dB", "#own dB", ">weights alone dB", ">inherited %", "why", "operator", "type")
FIRST = ("layer", ">own dB", "why", "`rule to try")
ABOUT = (
    "SQNR: the layer's output in the quantized file. Own: the same, where its operator is given the float model's "
    "values. Weights alone: the float operator with the rounded weights and the float model's biases; it may be worse "
    "than own, where corrected biases make up for it. Inherited: the part of the noise that comes from earlier layers."
)
SPREAD = (
    "No layer stands out: the error adds up over many layers. What helps then is more bits or a finer granularity for "
    "all of them, another recipe, or more calibration samples."
)
MOST, LEAST = 0.75, 0.25  # shares of noise that are most of it, and little
ADVISED = 5  # layers that get a rule to try: those with the lowest own SQNR
ENOUGH_DB = 32.0  # own SQNR above which a rule brings little


def layer_sections(errors: Sequence[LayerError], weights: Mapping[str, str], samples: str) -> list[Section]:
    """Return the layers to look at first and the table of all; nothing where nothing was measured.

    Args:
        errors: one for each activation, in graph order.
        weights: layer -> how its weights are stored, such as "int4 per-channel".
        samples: what it was measured on, in words.
    """
    if not errors:
        return []
    improvable = [(nan_as_worst(e.own_db), e) for e in errors if e.own_db is not None and _can_improve(e)]
    advised = [e for _, e in sorted(improvable, key=itemgetter(0))[:ADVISED]]
    rows = [
        (
            e.layer or brief_name(e.name, 48),
            decibels(e.sqnr_db),
            decibels(e.own_db),
            decibels(e.weights_db),
            "-" if e.inherited is None else f"{100 * e.inherited:.0f}",
            why(e, weights.get(e.layer, "")),
            e.code,
            e.dtype,
        )
        for e in errors
    ]
    first = [
        (e.layer, decibels(e.own_db), why(e, weights.get(e.layer, "")), rule(e, weights.get(e.layer, "")))
        for e in advised
    ]
    measured = any(e.own_db is not None for e in errors)
    about = "The layers that add most themselves; a rule goes into recipe.with_rules(...)."
    head: list[Section] = [Grid("Look at these first", FIRST, first, about)] if first else []
    spread: list[Section] = [Paragraph(SPREAD)] if measured and not first else []
    return [Paragraph(SQNR_EXPLAINED), *head, *spread, Grid(f"Layers, in graph order{samples}", COLUMNS, rows, ABOUT)]


def why(error: LayerError, weights: str = "") -> str:
    """Return in a sentence where the error of a layer comes from; "" where that is not known."""
    if error.sqnr_db == math.inf:
        return "Equal to the float model."
    if math.isnan(error.sqnr_db):
        return "It holds values that are not finite."
    inherited, of_weights = error.inherited, error.of_weights
    if inherited is None:
        return ""
    if inherited >= MOST:
        return "Most of it comes from the layers before."
    held = f" ({weights})" if weights else ""
    if of_weights is None:
        own = "the rounding of its values"
    elif of_weights >= MOST:
        own = f"the rounding of its weights{held}"
    elif of_weights <= LEAST:
        own = "the rounding or clipping of its activations"
    else:
        own = f"its weights{held} and its activations alike"
    return f"Partly inherited; its own part is {own}." if inherited > LEAST else f"Its own: {own}."


def rule(error: LayerError, weights: str = "") -> str:
    """Return a rule that gives the layer what it lacks: finer weights, or activations that no range clips."""
    if (error.of_weights or 0.0) < MOST:
        spec = 'tfq.RECIPES["dynamic_int8"].default'
    elif weights.startswith("int8"):
        spec = "None"
    else:
        spec = f'tfq.RECIPES["{"full_int8" if error.dtype == "int8" else "dynamic_int8"}"].default'
    return f"tfq.Rule({spec}, layer={error.layer!r})"


def _can_improve(error: LayerError) -> bool:
    """Return whether a rule could help: one for layers without weights changes nothing, their values are only moved."""
    has_weights = error.weights_db is not None
    return bool(error.layer) and has_weights and error.own_db is not None and not error.own_db >= ENOUGH_DB
