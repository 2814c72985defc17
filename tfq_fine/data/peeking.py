"""The first element of data that is going to be read in any case."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain, islice
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_fine.data.batch import InputSpec
from tfq_fine.data.chunk import shape_of
from tfq_fine.data.source import open_source
from tfq_fine.data.unpacking import unpack

Described = tuple[tuple[int | None, ...], str]  # shape and type of an input


class Peeked:
    """Data that can be looked at before it is read: what can be read only once is put back."""

    def __init__(self, data: Any):
        self.data = data

    def shapes(self, names: Sequence[str]) -> list[list[Described]]:
        """Return the shape and type of each of the inputs `names`, as the first element of the data has them.

        The first dimension is the batch, and None. An element of a dataset may be one sample or a batch, which the
        model alone can tell: then there are two lists, that of batches first.

        Raises:
            TfqError: no known form of data, or none that fits so many inputs.
        """
        source = open_source(self._looked(1), list(names))
        element = next(source.elements, None)
        if element is None:
            raise TfqError(source.empty)
        arrays, _ = unpack(element, [InputSpec(name, (), "") for name in names])
        each = [(shape_of(array), _type(array)) for array in arrays]
        result = [[((None, *shape[1:]), kind) for shape, kind in each]] if all(shape for shape, _ in each) else []
        return result + ([[((None, *shape), kind) for shape, kind in each]] if source.single else [])

    def _looked(self, count: int) -> Any:
        """Return the data, or of what can be read only once a copy of the first elements, which are put back."""
        if not hasattr(self.data, "__next__"):
            return self.data
        head = [deepcopy(element) for element in islice(self.data, count)]
        if not head:
            return self.data
        self.data = chain(head, self.data)
        return iter(head)


def _type(array: Any) -> str:
    """Return the name of the type that a model takes for `array`: float32 for all floats."""
    kind = np.asarray(array[:1] if len(array.shape) else array).dtype
    return "float32" if kind.kind == "f" else "string" if kind.kind in "OSU" else kind.name
