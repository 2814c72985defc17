"""How many samples there are, where that can be told without reading them."""

from typing import Any

from tfq_fine.data.source import is_array


def known_count(data: Any, limit: int | None = None) -> int | None:
    """The number of samples that `data` holds, at most `limit`; None where only reading tells."""
    count = _count(data)
    return count if count is None or limit is None else min(count, limit)


def _count(data: Any) -> int | None:
    if is_array(data) and getattr(data, "shape", None):
        return int(data.shape[0])
    if isinstance(data, dict) and data:
        return _count(next(iter(data.values())))
    if isinstance(data, tuple) and data:
        return _count(data[0])
    return None
