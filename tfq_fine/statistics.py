"""What calibration learned: a value that merges, saves and loads.

Statistics add up over samples in any order, so shards may be calibrated anywhere and merged.
"""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.quantized import TensorKey


class Range(NamedTuple):
    """The smallest and the largest value that a tensor took."""

    low: float
    high: float

    def union(self, other: "Range") -> "Range":
        return Range(min(self.low, other.low), max(self.high, other.high))

    def centred(self) -> "Range":
        """The smallest range around this one that gets zero point 0 in 8 bits: [-128/127 a, a]."""
        return Range(-self.absmax * 128 / 127, self.absmax)

    @property
    def absmax(self) -> float:
        return max(-self.low, self.high)

    @property
    def extent(self) -> float:
        """Length of the range once it is stretched to hold 0."""
        return max(self.high, 0.0) - min(self.low, 0.0)


@dataclass(frozen=True)
class Statistics:
    """Per tensor of the float graph, what `samples` samples showed."""

    ranges: Mapping[TensorKey, Range] = field(default_factory=dict)
    samples: int = 0
    means: Mapping[TensorKey, np.ndarray] = field(default_factory=dict)  # per channel: float64 [shape[-1]]

    def merge(self, other: "Statistics") -> "Statistics":
        """The statistics of both sets of samples."""
        ranges = dict(self.ranges)
        for key, found in other.ranges.items():
            ranges[key] = ranges[key].union(found) if key in ranges else found
        samples = self.samples + other.samples
        means = {**self.means, **other.means}
        for key in self.means.keys() & other.means.keys():
            means[key] = (self.means[key] * self.samples + other.means[key] * other.samples) / samples
        return Statistics(ranges, samples, means)

    def save(self, path: str | os.PathLike) -> None:
        """Write to `path` as `.npz`, beside and renamed.

        Raises:
            TfqError: the path cannot be written.
        """
        content = io.BytesIO()
        np.savez(
            content,
            keys=np.array(list(self.ranges), np.int64).reshape(-1, 2),
            ranges=np.array(list(self.ranges.values()), np.float64).reshape(-1, 2),
            samples=np.int64(self.samples),
            **{f"mean_{s}_{t}": mean for (s, t), mean in self.means.items()},  # type: ignore[arg-type]
        )
        target = Path(path)
        beside = target.with_name(f".{target.name}.part")
        try:
            beside.write_bytes(content.getvalue())
            os.replace(beside, target)
        except OSError as error:
            raise TfqError(f"{target} cannot be written: {error.strerror}") from error

    @staticmethod
    def load(path: str | os.PathLike) -> "Statistics":
        """Read what `save` wrote.

        Raises:
            TfqError: the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                keys, ranges, samples = content["keys"], content["ranges"], int(content["samples"])
                means = {_key(name): content[name] for name in content.files if name.startswith("mean_")}
        except (OSError, KeyError, ValueError) as error:
            raise TfqError(f"{path} does not hold saved statistics: {error}") from error
        pairs = zip(keys.tolist(), ranges.tolist(), strict=True)
        return Statistics({(s, t): Range(low, high) for (s, t), (low, high) in pairs}, samples, means)


def _key(name: str) -> TensorKey:
    """`mean_0_7` -> (0, 7)."""
    subgraph, tensor = map(int, name.split("_")[1:])
    return subgraph, tensor
