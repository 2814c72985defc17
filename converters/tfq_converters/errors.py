"""The library's own error type, and the habit of reporting every problem at once."""

from collections.abc import Iterable


class TfqError(ValueError):
    """Something that the caller can mend: bad input, an impossible request, a file that must not be handed over.

    The message names the layer or tensor, says what was found, and what would work.
    """


def raise_all(problems: Iterable[str], heading: str = "") -> None:
    """Raise one `TfqError` that lists all `problems`; do nothing when there are none.

    Args:
        problems: one sentence each, already naming the layer or tensor.
        heading: a first line, used when there are several problems.

    Raises:
        TfqError: when `problems` is not empty.
    """
    listed = list(problems)
    if not listed:
        return
    if len(listed) == 1 and not heading:
        raise TfqError(listed[0])
    lines = [heading or f"{len(listed)} problems:"] + [f"  - {problem}" for problem in listed]
    raise TfqError("\n".join(lines))
