"""The part of the run check between operators: a tensor that a file holds in several forms has the same values in each.

Operators are judged on the values that they read in the file. A conversion with a wrong scale would hand its wrong
values on as the right ones, so what it makes is compared with what it was given.
"""

from collections.abc import Mapping

import numpy as np

from tfq_converters.check.simulate import Value, values_written
from tfq_converters.check.tolerance import FLOAT_TOLERANCE
from tfq_converters.quantized import OpEncoding, QuantizedGraph
from tfq_converters.realize import FLOAT, ValueForm

STEPS = 1.01  # a rounding to the other neighbour where a value lies halfway


def wrong_conversion(
    quantized: QuantizedGraph, places: Mapping[Value, int], run: Mapping[str, np.ndarray], n: int
) -> str:
    """Return the first tensor of sample `n` that differs between two of its forms, and how; "" when none does.

    Args:
        quantized: the numbers.
        places: value -> tensor of the file.
        run: `tensor_SAMPLE_INDEX` -> what the file computed.
        n: the sample.
    """
    for value, others in _converted(quantized, places).items():
        t, form = value
        source_value = run[f"tensor_{n}_{places[value]}"]
        exact = source_value if form is FLOAT else form.decode(source_value)
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


def _difference(exact: np.ndarray, found: np.ndarray, form: ValueForm) -> str:
    exact = exact.reshape(found.shape)
    if form is FLOAT:
        largest = float(np.abs(exact).max(initial=0.0))
        away = float(np.fmax.reduce(np.abs(found - exact), axis=None, initial=0.0))
        return f"{away:.3g} off, where the largest value is {largest:.3g}" if away > FLOAT_TOLERANCE * largest else ""
    limits = np.iinfo(form.dtype)
    codes = np.clip(exact / np.float64(form.scale) + form.zero_point, limits.min, limits.max)
    away = float(np.fmax.reduce(np.abs(found - codes), axis=None, initial=0.0))
    return f"{away:.1f} steps of its scale off" if away > STEPS else ""


def _name(form: ValueForm) -> str:
    return "float32" if form is FLOAT else form.dtype
