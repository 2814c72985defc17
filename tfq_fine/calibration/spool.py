"""Data that can be read only once, put aside on disk while it is read, so that it can be read again."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tfq_converters.errors import TfqError
from tfq_converters.files import ArrayFile, ArrayWriter
from tfq_converters.graph import AnyArray
from tfq_fine.data import Batch


class Spool:
    """Batches on disk.

    Args:
        folder: a temporary one, which lasts as long as the spool.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "samples"
        self._writer = ArrayWriter(self._path)
        self._written: list[tuple[int, int, int]] = []  # first sample, count, inputs of each batch
        self.left_over = 0  # samples that fill no batch, and are not here
        self._objects: dict[str, AnyArray] = {}  # arrays of Python objects (strings), which stay in memory

    def recorded(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches, each put aside before it is given on."""
        try:
            for batch in batches:
                self._record(batch)
                yield batch
        finally:
            with suppress(OSError):
                self._writer.close()

    def _record(self, batch: Batch) -> None:
        n = len(self._written)
        try:
            for k, array in enumerate(batch.inputs):
                if array.dtype.kind == "O":
                    self._objects[f"{n}_{k}"] = array.copy()
                else:
                    self._writer.add(f"{n}_{k}", array)
        except OSError as error:
            raise TfqError(
                f"the data cannot be copied to a temporary file ({error.strerror}), which transforms "
                "read again: give arrays or files, or transforms=None"
            ) from error
        self._written.append((batch.first, batch.count, len(batch.inputs)))

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that were recorded, once they were read."""
        recorded = ArrayFile(self._path)
        for n, (first, count, inputs) in enumerate(self._written):
            names = [f"{n}_{k}" for k in range(inputs)]
            arrays = tuple(self._objects[name] if name in self._objects else recorded[name] for name in names)
            yield Batch(arrays, None, first, count)
