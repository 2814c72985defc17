"""One user batch with validated shapes, which `cutting` slices into batches of the size that the model takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.graph import AnyArray
from tfq_fine.data.batch import Batch, InputSpec
from tfq_fine.data.dtypes import Misfit, converted
from tfq_fine.data.layout import BatchAxis, Layout, Shape, layout, misfit


@dataclass(frozen=True)
class Wanted:
    """The shapes and types that a chunk must fit, and how it is to be cut."""

    specs: tuple[InputSpec, ...]
    axis: BatchAxis
    batch_size: int  # where the model leaves it free
    single: bool  # whether an element may be one sample without a batch axis
    finite: bool = True  # whether NaN and infinities are errors


@dataclass(frozen=True)
class Chunk:
    """Samples as the user gave them, not yet converted."""

    specs: tuple[InputSpec, ...]
    arrays: tuple[Any, ...]
    layouts: tuple[Layout, ...]
    labels: Any  # [count, ...] or None
    first: int  # index of the first sample
    count: int
    size: int  # samples per run
    exact: bool  # whether a run takes exactly `size` samples
    finite: bool = True  # whether NaN and infinities are errors

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two chunks whose samples can share a run."""
        shapes = tuple(shape_of(array)[1:] for array in self.arrays)
        label_shape = None if self.labels is None else shape_of(self.labels)[1:]
        shared = self.first if "shared" in self.layouts else None
        return self.layouts, self.size, self.exact, shapes, label_shape, shared

    @property
    def unit(self) -> int:
        """The number that the number of samples must be a multiple of."""
        return self.size if self.exact else 1

    def limited(self, count: int) -> "Chunk":
        """Return the first `count` samples."""
        return replace(self, count=min(count, self.count))

    def batch(self, start: int, stop: int) -> Batch:
        """Return samples `start` to `stop` of this chunk, in the model's types; views where the types agree.

        Raises:
            TfqError: values that the model's types cannot hold, NaN or infinities.
        """
        arrays, problems = [], []
        for spec, array, kind in zip(self.specs, self.arrays, self.layouts, strict=True):
            result = converted(_slice(array, kind, start, stop), spec.dtype, self.finite)
            if isinstance(result, Misfit):
                problems.append(_described(spec, result, kind, self.first + start))
            else:
                arrays.append(result)
        raise_all(problems)
        labels = None if self.labels is None else np.asarray(self.labels[start:stop])
        return Batch(tuple(arrays), labels, self.first + start, stop - start)


def checked(arrays: Sequence[Any], labels: Any, first: int, wanted: Wanted) -> Chunk:
    """Return a chunk whose shapes fit the model.

    Raises:
        TfqError: shapes that do not fit, different numbers of samples.
    """
    layouts = _layouts(arrays, wanted)
    arrays = tuple(array[None] if kind == "single" else array for array, kind in zip(arrays, layouts, strict=True))
    named = zip(wanted.specs, arrays, layouts, strict=True)
    counts = {spec.name: shape_of(array)[0] for spec, array, kind in named if kind != "shared"}
    count = next(iter(counts.values()), 1)
    if labels is not None:
        if "single" in layouts or not shape_of(labels):
            labels = labels[None]
        counts["labels"] = shape_of(labels)[0]
    same_count(counts)
    stacked = "stacked" in layouts
    if stacked and "rows" in layouts and wanted.axis.size not in (None, 1):
        raise TfqError(
            f"the model takes {wanted.axis.size} samples at a time: stack the values of all inputs or of none"
        )
    return Chunk(
        specs=wanted.specs,
        arrays=arrays,
        layouts=tuple("rows" if kind == "single" else kind for kind in layouts),
        labels=labels,
        first=first,
        count=count,
        size=1 if stacked else wanted.axis.size or wanted.batch_size,
        exact=stacked or wanted.axis.size is not None,
        finite=wanted.finite,
    )


def same_count(counts: dict[str, int]) -> None:
    """Raise a TfqError unless all `counts` of samples are equal."""
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{name}: {number}" for name, number in counts.items())
        raise TfqError(f"the numbers of samples differ; found {numbers}")


def shape_of(array: Any) -> Shape:
    """Return the shape as plain numbers.

    Raises:
        TfqError: rows of different lengths.
    """
    if any(size is None for size in array.shape):
        raise TfqError(f"expected a dense array, found {type(array).__name__} with rows of different lengths")
    return tuple(int(size) for size in array.shape)


def _layouts(arrays: Sequence[Any], wanted: Wanted) -> tuple[Layout, ...]:
    layouts: list[Layout] = []
    problems = []
    for spec, array, has_axis in zip(wanted.specs, arrays, wanted.axis.inputs, strict=True):
        shape = shape_of(array)
        kind = layout(spec, shape, has_axis, wanted.single)
        if kind is None:
            problems.append(misfit(spec, shape, has_axis))
        else:
            layouts.append(kind)
    raise_all(problems)
    return tuple(layouts)


def _slice(array: Any, kind: Layout, start: int, stop: int) -> AnyArray:
    if kind == "shared":
        return np.asarray(array)
    return np.asarray(array[start] if kind == "stacked" else array[start:stop])


def _described(spec: InputSpec, misfit: Misfit, kind: Layout, first: int) -> str:
    if misfit.at is None:
        return f"input {spec.name!r}: {misfit.reason}"
    if kind == "shared":
        return f"input {spec.name!r}: {misfit.reason}, at {list(misfit.at)}"
    sample, at = (first, misfit.at) if kind == "stacked" else (first + misfit.at[0], misfit.at[1:])
    return f"input {spec.name!r}, sample {sample}: {misfit.reason}" + (f", at {list(at)}" if at else "")
