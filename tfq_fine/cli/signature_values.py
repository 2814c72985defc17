"""Options that may be given by signature: `--data calib.npz`, or `--data encode=a.npz --data decode=b.npz`."""

import os
from collections.abc import Mapping, Sequence

from tfq_converters.errors import raise_all


def by_signature(option: str, values: Sequence[str] | None) -> str | dict[str, str] | None:
    """Return the one value of an option, or its values by signature; None where it was not given.

    Raises:
        TfqError: several values, of which some name no signature, or two name the same one.

    >>> by_signature("data", ["a.npz"]), by_signature("data", ["encode=a.npz", "decode=b.npz"])
    ('a.npz', {'encode': 'a.npz', 'decode': 'b.npz'})
    """
    if not values:
        return None
    if len(values) == 1 and ("=" not in values[0] or os.path.exists(values[0])):  # a path may hold that character
        return values[0]
    pairs = [value.partition("=") for value in values]
    keys = [key for key, _, _ in pairs]
    raise_all(
        [f"--{option}: several are given by signature, as KEY=VALUE; found {v!r}" for v in values if "=" not in v]
        + [f"--{option}: signature {key!r} is given twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    )
    return {key: value for key, _, value in pairs}


def each(value: str | Mapping[str, str] | None) -> list[str]:
    """Return all values of such an option."""
    return [] if value is None else [value] if isinstance(value, str) else list(value.values())
