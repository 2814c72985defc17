"""A few samples of the data, which later stages run the model on: the same ones in whatever order the data comes.

Each sample has a digest of its values, and those with the smallest digests are kept (bottom-k sampling). So the choice
is as good as random, does not depend on the order of the data, nor on how samples of one size were cut into shards, and
holds no sample twice: a hundred blank images before the others count as one.
"""

import bisect
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from tfq_converters.graph import AnyArray

Sample = tuple[AnyArray, ...]  # inputs of one run, in input order

LEAST, MOST = 16, 128  # samples
BUDGET = 16 * 2**20  # bytes of all samples, where there are more than `LEAST`
LIMIT = 256 * 2**20  # bytes of all samples, where there is more than one
MOST_FITTED, BUDGET_FITTED = 512, 192 * 2**20  # samples and bytes, where algorithms fit weights to them
DIGESTED = 2**14  # values of each input that the digest is made of, at equal distances


def digest(sample: Sample) -> bytes:
    """Return a hash of the values of a sample."""
    hashed = blake2b(digest_size=8)
    for array in sample:
        values = array.reshape(-1)
        values = values[:: max(1, -(-values.size // DIGESTED))]
        hashed.update(repr(values.tolist()).encode() if values.dtype.kind == "O" else values.tobytes())
    return hashed.digest()


def bytes_of(sample: Sample) -> int:
    """Return the memory that the values of a sample take, strings included."""
    texts = (value for array in sample if array.dtype.kind == "O" for value in array.reshape(-1))
    return sum(array.nbytes for array in sample) + sum(len(text) for text in texts if isinstance(text, str | bytes))


def fitting(sizes: Sequence[int], fitted: bool = False) -> int:
    """Return how many samples of these sizes are kept, beginning with the first.

    Args:
        sizes: bytes of each sample.
        fitted: whether algorithms fit weights to the samples, which takes more of them.

    >>> fitting([LIMIT + 1]), fitting([LIMIT // 2] * 9), fitting([BUDGET // 20] * 40), fitting([1] * 500)
    (1, 2, 20, 128)
    """
    most, budget = (MOST_FITTED, BUDGET_FITTED) if fitted else (MOST, BUDGET)
    total = 0
    for n, size in enumerate(sizes[:most]):
        total += size
        if n >= 1 and total > (LIMIT if n < LEAST else budget):
            return n
    return min(len(sizes), most)


class KeptSamples:
    """The samples with the smallest digests among those that were offered.

    Args:
        fitted: whether algorithms fit weights to them, which takes more of them.
    """

    def __init__(self, fitted: bool = False) -> None:
        self._fitted = fitted
        self._kept: list[tuple[bytes, int, Sample]] = []  # digest, bytes, sample
        self._end: bytes | None = None  # the smallest digest for which there was no room

    @staticmethod
    def of(samples: Iterable[Sample], fitted: bool = False) -> tuple[Sample, ...]:
        """Return the samples that would be kept of `samples`."""
        kept = KeptSamples(fitted)
        for sample in samples:
            kept.keep(sample)
        return kept.samples

    def keep(self, sample: Sample) -> None:
        """Remember a sample, whose arrays must not change later, if it is one of those to keep.

        What is a part of a larger array is copied, so that it does not hold the rest of it in memory.
        """
        mark = digest(sample)
        at = bisect.bisect_left(self._kept, mark, key=lambda entry: entry[0])
        if (at < len(self._kept) and self._kept[at][0] == mark) or (self._end is not None and mark >= self._end):
            return
        size = bytes_of(sample)
        sizes = [kept_size for _, kept_size, _ in self._kept]
        count = fitting([*sizes[:at], size, *sizes[at:]], self._fitted)
        if count <= len(self._kept):  # one too many, or more where sizes differ
            self._end = mark if at == count else self._kept[count - 1][0]
        if at < count:
            own = tuple(array if array.base is None else array.copy() for array in sample)
            self._kept.insert(at, (mark, size, own))
        del self._kept[count:]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples that were kept, in the order of the digests."""
        return tuple(sample for _, _, sample in self._kept)
