"""Frozen dataclasses <-> JSON, without loss: infinities and NaN are written as the strings "inf", "-inf", "nan"."""

import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tfq_converters.errors import TfqError

T = TypeVar("T")
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def dumps(value: Any, kind: str) -> str:
    """Return the JSON text of a dataclass; `kind` is written along and asked for by `loads`."""
    return json.dumps({"kind": kind} | to_plain(value), indent=1, allow_nan=False) + "\n"


def loads(text: str, target: type[T], kind: str) -> T:
    """Return the inverse of `dumps`.

    Raises:
        TfqError: the text is not JSON, or does not hold a `target`.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise TfqError(f"not JSON: {error}") from error
    if not isinstance(content, dict) or content.pop("kind", None) != kind:
        raise TfqError(f'expected a report with "kind": "{kind}"')
    try:
        value: T = from_plain(content, target)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise TfqError(f"the report cannot be read: {error}") from error
    return value


def to_plain(value: Any) -> Any:
    """Return dicts, lists, strings, numbers and None that say the same as `value`."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def from_plain(plain: Any, target: Any) -> Any:
    """Return the value of type `target` that `to_plain` made `plain` of.

    Raises:
        TypeError, KeyError, ValueError: `plain` does not fit.
    """
    origin, arguments = get_origin(target), get_args(target)
    if origin in (Union, types.UnionType):
        if plain is None and type(None) in arguments:
            return None
        (target,) = (argument for argument in arguments if argument is not type(None))
        return from_plain(plain, target)
    if is_dataclass(target):
        hints = get_type_hints(target)
        unknown = set(plain) - set(hints)
        if unknown:
            raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
        return target(**{name: from_plain(value, hints[name]) for name, value in plain.items()})  # type: ignore[operator]
    if origin is tuple:
        kinds = [arguments[0]] * len(plain) if arguments[-1] is Ellipsis else arguments
        return tuple(from_plain(item, kind) for item, kind in zip(plain, kinds, strict=True))
    if origin in (dict, Mapping):
        return {key: from_plain(item, arguments[1]) for key, item in plain.items()}
    if origin is Literal:
        if plain not in arguments:
            raise ValueError(f"expected one of {', '.join(map(str, arguments))}, found {plain!r}")
        return plain
    return _scalar(plain, target)


def _scalar(plain: Any, target: type) -> Any:
    if target is float and isinstance(plain, str):
        return NOT_FINITE[plain]
    if target is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if not isinstance(plain, target) or (isinstance(plain, bool) and target is not bool):
        raise TypeError(f"expected {target.__name__}, found {plain!r}")
    return plain
