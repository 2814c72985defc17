"""A conversion that was compared with its model; repaired where the stock converter has a setting that repairs it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Signature
from tfq_converters.reading.comparison.conversion_check import Check, Difference, Reference, check_signature
from tfq_converters.reading.conversion.convert import Conversion

# Settings of the stock converter that keep it from a faulty rewrite, with what they avoid.
REPAIRS: tuple[Mapping[str, Any], ...] = (
    {"unfold_batchmatmul": True},  # TFLiteConverter 2.21: matmul of two computed matrices loses the RELU after it
)


def checked(
    name: str,
    conversion: Conversion,
    convert: Callable[[Mapping[str, Any]], Conversion],
    reference: Callable[[Signature], Reference],
    locate: Callable[[Graph, bytes, Difference], str],
) -> Conversion:
    """Return `conversion` if it computes what the model does, else the first repaired one that does.

    Args:
        name: how the model is called in messages.
        conversion: the stock one.
        convert: converts again, with settings.
        reference: the model itself, per signature of the file.
        locate: where a difference begins, in words; "" when it cannot be placed.

    Raises:
        TfqError: neither computes what the model does.
    """
    check, problem = _check(conversion, reference)
    if not problem:
        return replace(conversion, notes=(*conversion.notes, *check.notes))
    if check.difference is not None:
        where = locate(conversion.graph, conversion.content, check.difference)
        problem += f"; it begins at {where}" if where else ""
    for settings in REPAIRS:
        repaired = convert(settings)
        again, still = _check(repaired, reference)
        if not still:
            note = (
                f"the TFLite converter's own file was wrong ({problem}); "
                f"converted with {', '.join(settings)}, which computes what the model does"
            )
            return replace(repaired, notes=(*repaired.notes, *again.notes, note))
    raise TfqError(
        f"model {name!r}: the float file of the TFLite converter computes other values than the model: {problem}. "
        "Write the layer in other operations; check=False skips this check"
    )


def _check(conversion: Conversion, reference: Callable[[Signature], Reference]) -> tuple[Check, str]:
    """Return all signatures of a file: what the worst of them showed, with all notes, and the problem in words."""
    graph = conversion.graph
    try:
        checks = [check_signature(graph, conversion.content, s, reference(s)) for s in graph.signatures]
    except TfqError as error:  # the runtime refuses what the converter made
        return Check(), str(error)
    differences = [check.difference for check in checks if check.difference is not None]
    worst = max(differences, key=lambda difference: difference.largest / difference.limit, default=None)
    notes = tuple(dict.fromkeys(note for check in checks for note in check.notes))
    return Check(worst, notes), "" if worst is None else str(worst)
