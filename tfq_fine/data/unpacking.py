"""From one element of the data to the arrays of the inputs, in input order, and the labels, by the package's table."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError, raise_all
from tfq_fine.data.batch import InputSpec
from tfq_fine.data.source import is_array

Arrays = tuple[Any, ...]


def unpack(element: Any, specs: Sequence[InputSpec]) -> tuple[Arrays, Any]:
    """Return arrays in input order, and the labels (None when the element has none).

    Raises:
        TfqError: wrong, missing or extra names; a wrong number of arrays; something that is no array.
    """
    inputs, labels = _labelled(element, len(specs))
    if isinstance(inputs, Mapping):
        inputs = _by_name(inputs, specs)
    elif not isinstance(inputs, list | tuple):
        inputs = [inputs]
    if len(inputs) != len(specs):
        raise TfqError(_wrong_number(inputs, specs))
    arrays = tuple(_array(value, spec.dtype in ("string", "")) for spec, value in zip(specs, inputs, strict=True))
    wrong = [
        f"input {spec.name!r}: expected an array, found {type(value).__name__}"
        for spec, value, array in zip(specs, inputs, arrays, strict=True)
        if array is None
    ]
    raise_all(wrong)
    return arrays, labels


def label_array(labels: Any) -> Any:
    """Return `labels` as something that can be sliced.

    Raises:
        TfqError: labels of several outputs, or no array.
    """
    if isinstance(labels, Mapping):
        raise TfqError(f"labels: expected one array, found a dict of {', '.join(map(str, labels))}; pass one of them")
    if isinstance(labels, list | tuple):
        if any(is_array(label) and len(label.shape) for label in labels):
            raise TfqError(f"labels: expected one array, found a {type(labels).__name__} of {len(labels)}; pass one")
        return np.asarray(labels)
    array = np.asarray(labels) if isinstance(labels, str | bytes) else _array(labels)
    if array is None:
        raise TfqError(f"labels: expected an array, found {type(labels).__name__}")
    return array


def _labelled(element: Any, inputs: int) -> tuple[Any, Any]:
    if isinstance(element, tuple) and len(element) in (2, 3):
        nested = isinstance(element[0], dict | list | tuple)
        if nested or inputs == 1:
            return element[0], element[1]
    return element, None


def _array(value: Any, text: bool = False) -> Any:
    """Return `value` if it has a shape and can be sliced, an array if it converts (strings where `text`), else None."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value
    if (
        hasattr(value, "__array__")
        or isinstance(value, bool | int | float)
        or (text and isinstance(value, str | bytes))
    ):
        return np.asarray(value)
    return None


def _by_name(given: Mapping[str, Any], specs: Sequence[InputSpec]) -> list[Any]:
    names = [spec.name for spec in specs]
    extra = [name for name in given if name not in names]
    problems = [f"input {name!r} is missing" for name in names if name not in given]
    for name in extra:
        near = difflib.get_close_matches(str(name), names, n=3)
        meant = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the inputs are {', '.join(names)}"
        problems.append(f"{name!r} is not an input of the model; {meant}")
    raise_all(problems)
    return [given[name] for name in names]


def _wrong_number(inputs: Sequence[Any], specs: Sequence[InputSpec]) -> str:
    names = ", ".join(spec.name for spec in specs)
    text = f"expected {_arrays(len(specs))} ({names}), found {_arrays(len(inputs))}"
    if isinstance(inputs, list) and len(specs) == 1 and len(inputs) > 1:
        return f"{text}; if they are samples, stack them: np.stack(x)"
    if isinstance(inputs, tuple) and len(inputs) == len(specs) + 1:
        return f"{text}; labelled data of several inputs is nested: (({names}), labels)"
    return text


def _arrays(count: int) -> str:
    return "1 array" if count == 1 else f"{count} arrays"
