"""The one codec between frozen dataclasses and the plain values of JSON: dicts, lists, strings, numbers, None.

The annotations of the fields say what is read; whatever does not fit them is refused, with the path that leads there:

>>> @dataclass(frozen=True)
... class Point:
...     x: float
...     name: str | None = None
>>> from_plain({"x": 1}, Point, "the point")
Point(x=1.0, name=None)
>>> from_plain({"x": "left"}, Point, "the point")
Traceback (most recent call last):
tfq_converters.errors.TfqError: the point cannot be read: x: expected float, found 'left'

Infinities and NaN are written as the strings "inf", "-inf" and "nan". A field that may hold one of several dataclasses
says which by their names, and these have no field "name": `{"name": "blocks", "size": 32}` is a `Blocks(32)`. Pairs of
names and values that a field marks by `AS_OBJECT` are written as an object.
"""

import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tfq_converters.errors import TfqError

T = TypeVar("T")
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
AS_OBJECT = {"as_object": True}  # the metadata of a field that is written as a JSON object


class _MismatchError(Exception):
    """A plain value that does not fit, and the path to it."""

    path: tuple[object, ...] = ()


@dataclass(frozen=True)
class _Field:
    name: str
    kind: Any  # the type that is read
    as_object: bool
    optional: bool  # its default is None
    required: bool
    named: bool  # it may hold one of several dataclasses


def to_plain(value: Any, brief: bool = False) -> Any:
    """Return plain values that say the same as `value`; `brief` leaves out optional fields that are None.

    Raises:
        TfqError: a value says in its `unsaved` why it has no plain form.
    """
    if getattr(value, "unsaved", ""):
        raise TfqError(value.unsaved)
    if is_dataclass(value) and not isinstance(value, type):
        content = {}
        for field in _fields(type(value)).values():
            item = getattr(value, field.name)
            if brief and field.optional and item is None:
                continue
            plain = to_plain(dict(item) if field.as_object else item, brief)
            content[field.name] = {"name": _name(type(item)), **plain} if field.named and item is not None else plain
        return content
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, brief) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, brief) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def from_plain(plain: Any, target: type[T], what: str) -> T:
    """Return the value of type `target` that `to_plain` made `plain` of; fields with defaults may be missing.

    Args:
        plain: the plain values.
        target: a dataclass, or another annotation.
        what: the subject of the error message, "the report".

    Raises:
        TfqError: a field is unknown or missing, or a value is of another type.
    """
    try:
        value: T = _read(plain, target)
    except _MismatchError as error:
        path = ".".join(map(str, error.path))
        raise TfqError(f"{what} cannot be read: {path + ': ' if path else ''}{error}") from error
    return value


def parsed(text: str, what: str) -> Any:
    """Return the plain values of a JSON text; `what` is the subject of the error message.

    Raises:
        TfqError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TfqError(f"{what} is not JSON: {error}") from error


@cache
def _fields(target: type) -> dict[str, _Field]:
    hints = get_type_hints(target)
    return {
        field.name: _Field(
            field.name,
            kind=hints[field.name],
            as_object="as_object" in field.metadata,
            optional=field.default is None,
            required=field.default is MISSING and field.default_factory is MISSING,
            named=_is_union(hints[field.name]) and len(_named(get_args(hints[field.name]))) > 1,
        )
        for field in fields(target)
    }


def _read(plain: Any, target: Any) -> Any:
    if type(plain) is target or target is Any:
        return plain
    origin, arguments = _parts(target)
    if origin is Union:
        return _one_of(plain, arguments)
    if origin is dataclass:
        return _dataclass(plain, target)
    if origin is tuple:
        _expect(plain, list | tuple, "a list")
        kinds = [arguments[0]] * len(plain) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(plain):
            raise _MismatchError(f"expected {len(kinds)} items, found {plain!r}")
        return tuple(_at(n, item, kind) for n, (item, kind) in enumerate(zip(plain, kinds, strict=True)))
    if origin in (dict, Mapping):
        _expect(plain, Mapping, "an object")
        return {key: _at(key, item, arguments[1]) for key, item in plain.items()}
    if origin is Literal:
        if plain not in arguments:
            raise _MismatchError(f"expected one of {', '.join(map(str, arguments))}, found {plain!r}")
        return plain
    return _scalar(plain, target)


def _dataclass(plain: Any, target: type) -> Any:
    _expect(plain, Mapping, "an object")
    by_name = _fields(target)
    unknown = [str(name) for name in plain if name not in by_name]
    missing = [name for name, field in by_name.items() if field.required and name not in plain]
    for word, names in (("unknown", unknown), ("missing", missing)):
        if names:
            raise _MismatchError(f"{word} fields {', '.join(sorted(names))}; the fields are {', '.join(by_name)}")
    return target(**{name: _at(name, _pairs(item, by_name[name]), by_name[name].kind) for name, item in plain.items()})


def _pairs(plain: Any, field: _Field) -> Any:
    """Return the pairs of a field that is written as an object, sorted by name; anything else unchanged."""
    if not (field.as_object and isinstance(plain, Mapping)):
        return plain
    (pair, _) = get_args(field.kind)
    return sorted(_at(field.name, plain, Mapping[get_args(pair)]).items())  # type: ignore[misc]


def _one_of(plain: Any, arms: tuple[Any, ...]) -> Any:
    """Return the value of the first type that fits; of several dataclasses, the one that "name" names."""
    if plain is None and type(None) in arms:
        return None
    named = _named(arms)
    if len(named) > 1:
        _expect(plain, Mapping, "an object")
        name = plain.get("name")
        if name not in named:
            raise _MismatchError(f"unknown name {name!r}; known: {', '.join(named)}")
        return _read({key: item for key, item in plain.items() if key != "name"}, named[name])
    *others, last = (arm for arm in arms if arm is not type(None))
    for arm in others:
        try:
            return _read(plain, arm)
        except _MismatchError:
            continue
    return _read(plain, last)


def _at(place: object, plain: Any, target: Any) -> Any:
    """Read what stands at `place`, which the path of a mismatch begins with."""
    try:
        return _read(plain, target)
    except _MismatchError as mismatch:
        mismatch.path = (place, *mismatch.path)
        raise


def _scalar(plain: Any, target: type) -> Any:
    if target is float and isinstance(plain, str) and plain in NOT_FINITE:
        return NOT_FINITE[plain]
    if target is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if not isinstance(plain, target) or (isinstance(plain, bool) and target is not bool):
        raise _MismatchError(f"expected {target.__name__}, found {plain!r}")
    return plain


def _expect(plain: Any, kind: Any, words: str) -> None:
    if not isinstance(plain, kind):
        raise _MismatchError(f"expected {words}, found {plain!r}")


@cache
def _parts(target: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return (what an annotation is, its arguments): `Union`, `dataclass`, or the type that `get_origin` gives."""
    if _is_union(target):
        return Union, get_args(target)
    return (dataclass if is_dataclass(target) else get_origin(target)), get_args(target)


def _is_union(target: Any) -> bool:
    return get_origin(target) in (Union, types.UnionType)


def _named(arms: tuple[Any, ...]) -> dict[str, type]:
    return {_name(arm): arm for arm in arms if isinstance(arm, type) and is_dataclass(arm)}


def _name(target: type) -> str:
    """Return the name of a type in JSON: ChannelGroups -> channel_groups."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", target.__name__).lower()
