"""The first samples of data that is going to be read in any case."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain, islice
from typing import Any

import numpy as np

from tfq_fine.data.batch import InputSpec
from tfq_fine.data.cutting import batches
from tfq_fine.data.layout import batch_axis


class Peeked:
    """Data that can be looked at before it is read: what can be read only once is put back."""

    def __init__(self, data: Any):
        self.data = data

    def first(self, inputs: Sequence[InputSpec], count: int, finite: bool = True) -> list[tuple[np.ndarray, ...]]:
        """The inputs of the first samples, one by one where the model allows it; no more than `count` of them.

        A model that takes more than `count` samples at a time gets one batch.
        Samples with NaN or infinity are left out where `finite` is False, and errors where it is True.
        """
        looked: Any = self.data
        limit = max(count, batch_axis(inputs).size or 1)
        if hasattr(self.data, "__next__"):
            head = [deepcopy(element) for element in islice(self.data, limit)]
            if head:
                looked, self.data = iter(head), chain(head, self.data)
        found = islice(batches(looked, inputs, limit=limit, finite=finite, left_over=lambda count: None), count)
        return [tuple(array.copy() for array in batch.inputs) for batch in found if batch.is_finite]
