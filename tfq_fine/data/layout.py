"""The layout of a user's array next to that of an input: which axis holds samples, and how many there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tfq_fine.data.batch import InputSpec, shape_text

Shape = tuple[int, ...]
Layout = Literal["rows", "single", "stacked", "shared"]
# rows: axis 0 counts samples; single: one sample, no batch axis; stacked: a new axis 0 counts samples, each of the
# input's own shape; shared: the input's own shape without a batch axis, the same for every sample


@dataclass(frozen=True)
class BatchAxis:
    """Which inputs have a batch axis, and of what size."""

    size: int | None  # samples per run; None when free
    inputs: tuple[bool, ...]


def batch_axis(specs: Sequence[InputSpec]) -> BatchAxis:
    """Return axis 0 where its size is unknown; if known everywhere, axis 0 of the size that all share, else of 1."""
    if any(spec.shape and spec.shape[0] == -1 for spec in specs):
        return BatchAxis(None, tuple(bool(spec.shape) and spec.shape[0] == -1 for spec in specs))
    sizes = {spec.shape[0] for spec in specs if spec.shape}
    size = sizes.pop() if len(sizes) == 1 else 1
    return BatchAxis(size, tuple(bool(spec.shape) and spec.shape[0] == size for spec in specs))


def layout(spec: InputSpec, found: Shape, has_batch_axis: bool, single: bool) -> Layout | None:
    """Return how an array of shape `found` is to be read; None when it does not fit.

    Args:
        spec: the input.
        found: shape of the array.
        has_batch_axis: whether axis 0 of the input is its batch axis.
        single: whether one sample without a batch axis may be given.
    """
    if has_batch_axis and len(found) == len(spec.shape) and _fits(found[1:], spec.shape[1:]):
        return "rows"
    if has_batch_axis and single and _fits(found, spec.shape[1:]):
        return "single"
    if not has_batch_axis and _fits(found, spec.shape):
        return "shared"
    if spec.shape[:1] != (-1,) and found and _fits(found[1:], spec.shape):
        return "stacked"
    return None


def misfit(spec: InputSpec, found: Shape, has_batch_axis: bool) -> str:
    """Return the sentence about an array of shape `found` that does not fit, with a hint where the cause shows."""
    text = f"input {spec.name!r}: expected shape {shape_text(spec.shape)}, found {list(found)}"
    if not has_batch_axis:
        return text
    rest = spec.shape[1:]
    if _fits(found, rest):
        return f"{text}; that is one sample: add a batch axis: x[None]"
    if rest and rest[-1] == 1 and _fits(found[1:], rest[:-1]):
        return f"{text}; the last axis is missing: x[..., None]"
    if len(found) == len(spec.shape) > 2 and _fits((*found[2:], found[1]), rest):
        return f"{text}; the channels go last: np.moveaxis(x, 1, -1)"
    return text


def _fits(found: Shape, expected: Shape) -> bool:
    return len(found) == len(expected) and all(e in (-1, f) for f, e in zip(found, expected, strict=True))
