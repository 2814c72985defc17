"""A few samples of the data, which later stages run the model on: the same ones in whatever order the data comes.

Each sample has a digest of its values, and those with the smallest digests are kept (bottom-k sampling). So the choice
is as good as random, does not depend on the order of the data or on how it was cut into shards, and holds no sample
twice: a hundred blank images before the others count as one.
"""

import bisect
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

Sample = tuple[np.ndarray, ...]  # inputs of one run, in input order

LEAST, MOST = 16, 128  # samples
BUDGET = 16 * 2**20  # bytes of samples beyond the first `LEAST`
DIGESTED = 2**14  # values of each input that the digest is made of, at equal distances


def digest(sample: Sample) -> bytes:
    """A hash of the values of a sample."""
    found = blake2b(digest_size=8)
    for array in sample:
        values = array.reshape(-1)
        values = values[:: max(1, -(-values.size // DIGESTED))]
        found.update(repr(values.tolist()).encode() if values.dtype.kind == "O" else values.tobytes())
    return found.digest()


def capacity(sample: Sample) -> int:
    """Return how many samples of this size are kept."""
    size = sum(array.nbytes for array in sample)
    return min(max(BUDGET // max(size, 1), LEAST), MOST)


class KeptSamples:
    """The samples with the smallest digests among those that were offered."""

    def __init__(self) -> None:
        self._kept: list[tuple[bytes, Sample]] = []

    @staticmethod
    def of(samples: Iterable[Sample]) -> tuple[Sample, ...]:
        """The samples that would be kept of `samples`."""
        kept = KeptSamples()
        for sample in samples:
            kept.keep(sample)
        return kept.samples

    def _fits(self, mark: bytes, sample: Sample) -> bool:
        if any(mark == known for known, _ in self._kept):
            return False
        return len(self._kept) < capacity(sample) or mark < self._kept[-1][0]

    def keep(self, sample: Sample) -> None:
        """Remember a sample, whose arrays must not change later, if it is one of those to keep."""
        mark = digest(sample)
        if self._fits(mark, sample):
            bisect.insort(self._kept, (mark, sample), key=lambda pair: pair[0])
            del self._kept[capacity(sample) :]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples that were kept, in the order of the digests."""
        return tuple(sample for _, sample in self._kept)
