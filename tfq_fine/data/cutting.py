"""User data in, batches of the size that the model takes out. At most one batch and one of the user's are held."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_fine.data.batch import Batch, InputSpec
from tfq_fine.data.chunk import Chunk, Wanted, checked, same_count, shape_of
from tfq_fine.data.layout import batch_axis
from tfq_fine.data.source import Source, is_endless, open_source, require_data
from tfq_fine.data.unpacking import label_array, unpack


def batches(
    data: Any,
    inputs: Sequence[InputSpec],
    *,
    labels: Any = None,
    batch_size: int = 1,
    limit: int | None = None,
    keep_labels: bool = True,
    finite: bool = True,
    left_over: Callable[[int], None] | None = None,
) -> Iterator[Batch]:
    """Read `data` once, as batches for the model; problems are raised where they are met.

    Args:
        data: one of the forms in the package's docstring.
        inputs: the inputs of the model, in its order.
        labels: [samples, ...], when they are not part of `data`.
        batch_size: samples per batch, where the model leaves that free. The last batch may be smaller, and so may one
            before samples of another shape.
        limit: read no more samples than this; where the model takes n samples at a time, the largest multiple of n.
        keep_labels: False where labels are of no use: they are then neither checked nor returned.
        finite: False lets NaN and infinities pass to float inputs; else they are errors.
        left_over: where the model takes n samples at a time, called with the number of samples that do not fill a
            batch; they are dropped. Without it they are an error.

    Raises:
        TfqError: no data; samples that do not fit the model's names, shapes or types; NaN or infinities; different
            numbers of samples; a number of samples that the model's fixed batch size does not divide.
    """
    require_data(data, "samples are to be read")
    if batch_size < 1 or (limit is not None and limit < 1):
        raise TfqError(f"batch_size and limit must be at least 1, found {batch_size} and {limit}")
    if limit is None and is_endless(data):
        raise TfqError("the dataset repeats forever; leave out .repeat(), or limit the number of samples")
    specs = tuple(inputs)
    source = open_source(data, [spec.name for spec in specs])
    chunks = _chunks(source, Wanted(specs, batch_axis(specs), batch_size, source.single, finite), keep_labels)
    if keep_labels and labels is not None:
        chunks = _labelled(chunks, label_array(labels), source.whole)
    return _some(_recut(_divisible(_limited(chunks, limit), source.whole, left_over), left_over), specs)


def singles(batches: Iterable[Batch], inputs: Sequence[InputSpec]) -> Iterator[Batch]:
    """Yield the samples in the smallest batches that the model takes, mostly one; arrays are parts of the batches'.

    Args:
        batches: as `batches` cuts them.
        inputs: the inputs of the model, in its order.
    """
    axis = batch_axis(inputs)
    unit = axis.size or 1
    for batch in batches:
        if batch.count <= unit:
            yield batch
            continue
        for start in range(0, batch.count, unit):
            rows = slice(start, start + unit)
            arrays = (array[rows] if has else array for array, has in zip(batch.inputs, axis.inputs, strict=True))
            labels = None if batch.labels is None else batch.labels[rows]
            yield Batch(tuple(arrays), labels, batch.first + start, min(unit, batch.count - start))


# Each stage lets go of a chunk before it asks for the next, or two of the user's batches would be alive at once.


def _chunks(source: Source, wanted: Wanted, keep_labels: bool) -> Iterator[Chunk]:
    """Yield the elements of the source, their shapes checked."""
    first = 0
    has_labels: bool | None = None
    for element in source.elements:
        with _located(first, source.whole):
            arrays, labels = unpack(element, wanted.specs)
            labels = labels if source.labels is None else source.labels
            labels = label_array(labels) if keep_labels and labels is not None else None
            if has_labels not in (None, labels is not None):
                raise TfqError(
                    "some batches have labels and others have none; give labels for all of the data or for none"
                )
            has_labels = labels is not None
            chunk = checked(arrays, labels, first, wanted)
        del element, arrays, labels
        first += chunk.count
        yield chunk
        del chunk
    if first == 0:
        raise TfqError(source.empty)


def _labelled(chunks: Iterator[Chunk], labels: Any, whole: bool) -> Iterator[Chunk]:
    """Yield chunks with the labels that came next to the data."""
    total = shape_of(labels)[0] if shape_of(labels) else 0
    stop = 0
    for chunk in chunks:
        stop = chunk.first + chunk.count
        if chunk.labels is not None:
            raise TfqError("labels were given separately and are in the data too; pass them once")
        if whole or stop > total:
            same_count({"samples": stop, "labels": total})
        yield replace(chunk, labels=labels[chunk.first : stop])
        del chunk
    same_count({"samples": stop, "labels": total})


def _limited(chunks: Iterator[Chunk], limit: int | None) -> Iterator[Chunk]:
    """Yield no more than `limit` samples; nothing is read beyond them."""
    for chunk in chunks:
        room = chunk.count if limit is None else limit - limit % chunk.unit - chunk.first
        if room <= 0 and chunk.first == 0 and chunk.count:
            raise TfqError(
                f"the model takes {chunk.unit} samples at a time, and limit={limit} is fewer; raise the limit"
            )
        yield chunk.limited(room)
        if limit is not None and room <= chunk.count:
            return
        del chunk


def _divisible(chunks: Iterator[Chunk], whole: bool, left_over: Callable[[int], None] | None) -> Iterator[Chunk]:
    """Yield the chunks; all the data at once is refused before any of it is cut, if samples would be left over."""
    for chunk in chunks:
        rest = chunk.count % chunk.unit
        if whole and rest and left_over is None:
            raise TfqError(_left_over(chunk.unit, chunk.count - rest, chunk.count))
        yield chunk
        del chunk


def _some(batches: Iterator[Batch], specs: Sequence[InputSpec]) -> Iterator[Batch]:
    """Yield the batches, at least one."""
    empty = True
    for batch in batches:
        empty = False
        yield batch
        del batch
    if empty:
        size = batch_axis(specs).size
        raise TfqError(f"the model takes exactly {size} samples at a time, and the data holds fewer")


def _recut(chunks: Iterator[Chunk], left_over: Callable[[int], None] | None) -> Iterator[Batch]:
    """Yield batches of the size that each chunk asks for; the rest of a chunk is copied and completed by the next."""
    pending: list[Batch] = []
    key, unit = None, 1
    for chunk in chunks:
        if pending and chunk.key != key:
            yield from _last(pending, unit, left_over)
        key, unit = chunk.key, chunk.unit
        start, held = 0, sum(batch.count for batch in pending)
        while (stop := start + chunk.size - held) <= chunk.count:
            pending.append(chunk.batch(start, stop))
            start, held = stop, 0
            yield _taken(pending)
        if start < chunk.count:
            pending.append(_copied(chunk.batch(start, chunk.count)))
        del chunk
    if pending:
        yield from _last(pending, unit, left_over)


def _last(pending: list[Batch], unit: int, left_over: Callable[[int], None] | None) -> Iterator[Batch]:
    """Yield all that is pending, where the model takes so few samples; else they are left over."""
    batch = _taken(pending)
    if not batch.count % unit:
        yield batch
    elif left_over is None:
        raise TfqError(_left_over(unit, batch.first, batch.first + batch.count))
    else:
        left_over(batch.count)


def _taken(pending: list[Batch]) -> Batch:
    """Return all that is pending as one batch; nothing is pending then."""
    first, *others = pending
    pending.clear()
    if not others:
        return first
    inputs = zip(first.inputs, *(batch.inputs for batch in others), strict=True)
    labels = [batch.labels for batch in (first, *others) if batch.labels is not None]
    return Batch(
        tuple(np.concatenate(arrays) for arrays in inputs),
        np.concatenate(labels) if labels else None,
        first.first,
        first.count + sum(batch.count for batch in others),
    )


def _copied(batch: Batch) -> Batch:
    """Return the user may write the next batch into the same arrays."""
    labels = None if batch.labels is None else batch.labels.copy()
    return replace(batch, inputs=tuple(array.copy() for array in batch.inputs), labels=labels)


def _left_over(unit: int, first: int, stop: int) -> str:
    return (
        f"the model takes exactly {unit} samples of one shape at a time; {stop} samples leave {stop - first} over: "
        f"give a multiple of {unit}" + (f", or limit={first}" if first else "")
    )


@contextmanager
def _located(first: int, whole: bool) -> Iterator[None]:
    """Say in errors which of the user's batches is meant."""
    try:
        yield
    except TfqError as error:
        raise error if whole else TfqError(f"data from sample {first} on: {error}") from error
