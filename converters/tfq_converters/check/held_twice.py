"""The part of the run check between operators: a tensor that a file holds in several forms has the same values in each.

Operators are judged on the values that they read in the file. A conversion with a wrong scale would hand its wrong
values on as the right ones, so what it makes is compared with what it was given.
"""

from collections.abc import Mapping

from tfq_converters.check.comparison import decoded
from tfq_converters.check.simulate import Value, values_written
from tfq_converters.check.tolerance import FLOAT_TOLERANCE, float_difference, integer_difference
from tfq_converters.graph import AnyArray, Float32Array
from tfq_converters.quantized import OpEncoding, QuantizedGraph
from tfq_converters.realize import FLOAT, ValueForm

ROUNDING = 0.5  # share of a step, to the other neighbour where a value lies halfway


def wrong_conversion(
    quantized: QuantizedGraph, places: Mapping[Value, int], run: Mapping[str, AnyArray], n: int
) -> str:
    """Return the first tensor of sample `n` that differs between two of its forms, and how; "" when none does.

    Args:
        quantized: the numbers.
        places: value -> tensor of the file.
        run: `tensor_SAMPLE_INDEX` -> what the file computed, of the shape of that tensor.
        n: the sample.
    """
    for value, others in _converted(quantized, places).items():
        t, form = value
        exact = decoded(run[f"tensor_{n}_{places[value]}"], form)
        for other in others:
            wrong = _difference(exact, run[f"tensor_{n}_{places[t, other]}"], other)
            if wrong:
                name = quantized.graph.main.tensors[t].name
                return f"{name} in {_name(other)} differs from the {_name(form)} that it is made of: {wrong}"
    return ""


def _converted(quantized: QuantizedGraph, places: Mapping[Value, int]) -> dict[Value, list[ValueForm]]:
    """Return the value that is computed or fed -> the other forms that the file holds it in."""
    main = quantized.graph.main
    sources = [(t, quantized.borders.get((0, t))) for t in main.inputs]
    for o, op in enumerate(main.ops):
        sources += values_written(op, quantized.ops.get((0, o), OpEncoding("float")))
    forms: dict[int, list[ValueForm]] = {}
    for t, form in places:
        if main.tensors[t].dtype == "float32":
            forms.setdefault(t, []).append(form)
    return {
        (t, form): [other for other in forms[t] if other != form]
        for t, form in sources
        if (t, form) in places and len(forms.get(t, ())) > 1
    }


def _difference(exact: Float32Array, found: AnyArray, form: ValueForm) -> str:
    exact = exact.reshape(found.shape)
    if form is FLOAT:
        return float_difference(found, exact, FLOAT_TOLERANCE)
    return integer_difference(found, exact, form, ROUNDING)


def _name(form: ValueForm) -> str:
    return "float32" if form is FLOAT else form.dtype
