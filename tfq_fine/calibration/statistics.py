"""The statistics that calibration gathers: a value that merges, saves and loads.

Statistics add up over samples, so shards may be calibrated anywhere and merged; the order matters to moving averages
alone, which continue where the other statistics end.
"""

import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tfq_converters.brief import brief
from tfq_converters.errors import TfqError
from tfq_converters.files import Place, write_file
from tfq_converters.graph import AnyArray, Float32Array, Float64Array, Graph
from tfq_converters.quantized import OpKey, TensorKey
from tfq_fine.calibration.kept_samples import KeptSamples, Sample
from tfq_fine.numerics import Histogram

T = TypeVar("T")
INTERRUPTED = "calibration was interrupted"  # how the warning begins


class Range(NamedTuple):
    """The smallest and the largest value that a tensor took."""

    low: float
    high: float

    def union(self, other: "Range") -> "Range":
        """Return the smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))

    def intersection(self, other: "Range") -> "Range":
        """Return the intersection of both ranges; an empty one becomes the nearest end of this one."""
        low = min(max(self.low, other.low), self.high)
        return Range(low, max(min(self.high, other.high), low))

    def centred(self) -> "Range":
        """Return the smallest range around this one that gets zero point 0 in 8 bits: [-128/127 a, a]."""
        return Range(-self.absmax * 128 / 127, self.absmax)

    @property
    def absmax(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)

    @property
    def extent(self) -> float:
        """Length of the range once it is stretched to hold 0."""
        return max(self.high, 0.0) - min(self.low, 0.0)


@dataclass(frozen=True)
class MovingRange:
    """Exponential moving averages of the minima and maxima of runs, not yet divided by the sum of their weights.

    A run that came n runs before the last one weighs (1 - momentum) momentum^n, which starts at 0 and needs no first
    value: the average is the quotient (Kingma and Ba 2015, arXiv 1412.6980, section 3).
    """

    momentum: float
    low: float = 0.0
    high: float = 0.0
    weight: float = 0.0  # 1 - momentum^runs

    def then(self, other: "MovingRange") -> "MovingRange":
        """Return the averages when the runs of `other` follow."""
        kept = 1.0 - other.weight
        return MovingRange(
            self.momentum,
            self.low * kept + other.low,
            self.high * kept + other.high,
            self.weight * kept + other.weight,
        )

    @property
    def range(self) -> Range:
        """The averages."""
        return Range(self.low / self.weight, self.high / self.weight)


@dataclass(frozen=True)
class Extremes:
    """How often each minimum and each maximum of a run was seen."""

    low: Histogram
    high: Histogram

    def merge(self, other: "Extremes") -> "Extremes":
        """Return the counts of both sets of runs."""
        return Extremes(self.low.merge(other.low), self.high.merge(other.high))


@dataclass(frozen=True, eq=False)
class Statistics:
    """The statistics of the tensors of a float graph over `samples` samples."""

    __repr__ = brief

    ranges: Mapping[TensorKey, Range] = field(default_factory=dict)
    samples: int = 0
    means: Mapping[TensorKey, Float64Array] = field(default_factory=dict)  # per channel: float64 [shape[-1]]
    histograms: Mapping[TensorKey, Histogram] = field(default_factory=dict)  # counts of the same values of every sample
    extremes: Mapping[TensorKey, Extremes] = field(default_factory=dict)
    moving: Mapping[TensorKey, MovingRange] = field(default_factory=dict)
    absmax: Mapping[TensorKey, Float32Array] = field(default_factory=dict)  # per channel: float32 [shape[-1]]
    channels: Mapping[TensorKey, Float64Array] = field(default_factory=dict)  # float64 [3, C]: low, high, mean square
    second_moments: Mapping[OpKey, Float64Array] = field(default_factory=dict)  # float64 [groups, K, K], K of a patch
    strains: Mapping[OpKey, Float64Array] = field(default_factory=dict)  # float64 [2] of a fused LSTM: `lstm.strain`
    names: Mapping[TensorKey, str] = field(
        default_factory=dict
    )  # the names of the tensors, which tell one model from another
    skipped: int = 0  # samples with NaN or infinity, where they were to be skipped
    warnings: tuple[str, ...] = ()  # warnings of the one pass that these come from
    kept: tuple[Sample, ...] = field(default=(), repr=False)  # a few of the samples (`kept_samples`)
    fitted: bool = False  # as many are kept as algorithms fit weights to
    # where a model was calibrated by signature: the statistics of each, and nothing else but sums
    signatures: "Mapping[str, Statistics]" = field(default_factory=dict)

    @staticmethod
    def of_signatures(parts: "Mapping[str, Statistics]") -> "Statistics":
        """Return the statistics of a model by those of its signatures."""
        return Statistics(
            samples=sum(part.samples for part in parts.values()),
            skipped=sum(part.skipped for part in parts.values()),
            warnings=tuple(f"signature {key!r}: {said}" for key, part in parts.items() for said in part.warnings),
            signatures=dict(parts),
        )

    def merge(self, other: "Statistics") -> "Statistics":
        """Return the statistics of both sets of samples, `other`'s after these; by signature where they are so.

        Raises:
            TfqError: one of them alone is by signature.
        """
        if self.signatures or other.signatures:
            if not (self.signatures and other.signatures):
                raise TfqError("statistics by signature and statistics of one signature cannot be merged")
            return Statistics.of_signatures(_merged(self.signatures, other.signatures, Statistics.merge))
        samples = self.samples + other.samples

        def average(mine: Float64Array, theirs: Float64Array) -> Float64Array:
            return np.asarray((mine * self.samples + theirs * other.samples) / max(samples, 1))

        def limits(mine: Float64Array, theirs: Float64Array) -> Float64Array:
            return merged_limits(mine, self.samples, theirs, other.samples)

        return Statistics(
            _merged(self.ranges, other.ranges, Range.union),
            samples,
            _merged(self.means, other.means, average),
            _merged(self.histograms, other.histograms, Histogram.merge),
            _merged(self.extremes, other.extremes, Extremes.merge),
            _merged(self.moving, other.moving, MovingRange.then),
            _merged(self.absmax, other.absmax, np.maximum),
            _merged(self.channels, other.channels, limits),
            _merged(self.second_moments, other.second_moments, average),
            _merged(self.strains, other.strains, np.maximum),
            {**self.names, **other.names},
            self.skipped + other.skipped,
            tuple(dict.fromkeys((*self.warnings, *other.warnings))),
            KeptSamples.of((*self.kept, *other.kept), self.fitted or other.fitted),
            self.fitted or other.fitted,
        )

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same numbers, to the last bit; warnings and kept samples are not compared."""
        if not isinstance(other, Statistics):
            return NotImplemented
        mine, theirs = _arrays(self), _arrays(other)
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.table()

    def table(self, most: int | None = None) -> str:
        """Return one line per tensor: its range and, where values were counted, two percentiles, mean and deviation.

        Args:
            most: the number of tensors, those of the widest range first; None for all in graph order.
        """
        if self.signatures:
            return "\n\n".join(f"signature {key!r}: {part.table(most)}" for key, part in self.signatures.items())
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        shown = [*self.ranges.items()]
        few = "" if most is None or len(shown) <= most else f"; the {most} of the widest range"
        if few:
            shown = sorted(shown, key=lambda pair: pair[1].low - pair[1].high)[:most]
        lines = [f"{self.samples} samples{skipped}, {len(self.ranges)} tensors{few}"]
        lines.append(f"{'min':>10} {'0.01 %':>10} {'99.99 %':>10} {'max':>10} {'mean':>10} {'deviation':>10}  tensor")
        for key, limits in shown:
            cells = [f"{limits.low:.4g}", "", "", f"{limits.high:.4g}", "", ""]
            if key in self.histograms:
                histogram = self.histograms[key]
                cells[1:3] = (f"{histogram.quantile(share):.4g}" for share in (1e-4, 1 - 1e-4))
                cells[4:6] = (f"{moment:.4g}" for moment in histogram.moments())
            lines.append(" ".join(f"{cell:>10}" for cell in cells) + f"  {_brief(str(self.names.get(key, key)))}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])

    def with_ranges(self, ranges: Mapping[TensorKey, Range]) -> "Statistics":
        """Return these statistics with other ranges for some tensors."""
        return replace(self, ranges={**self.ranges, **ranges})

    @property
    def is_interrupted(self) -> bool:
        """Whether the pass over the data was ended before all of it was read."""
        parts = self.signatures.values()
        return any(warning.startswith(INTERRUPTED) for warning in self.warnings) or any(p.is_interrupted for p in parts)

    def require_of(self, graph: Graph) -> None:
        """Raise unless these are statistics of `graph`.

        Raises:
            TfqError: a tensor has another name; the first one is named.
        """
        tensors = graph.main.tensors
        for (_, t), name in self.names.items():
            other_name = tensors[t].name if t < len(tensors) else "none"
            if other_name != name:
                raise TfqError(
                    f"the statistics are of another model: tensor {t} is {name!r} there and {other_name!r} here; "
                    "calibrate this model"
                )

    def save(self, place: Place) -> None:
        """Write `.npz` content to a path or open descriptor (`tfq_converters.files`).

        Raises:
            TfqError: the place cannot be written.
        """
        content = io.BytesIO()
        np.savez(content, **(_arrays(self) | _kept_arrays(self)))  # type: ignore[arg-type]
        write_file(place, [content.getbuffer()])

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Statistics":
        """Read what `save` wrote.

        Raises:
            TfqError: the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                return _statistics(dict(content))
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise TfqError(f"{path} does not hold saved statistics: {error}") from error


def merged_limits(mine: Float64Array, mine_count: int, other: Float64Array, other_count: int) -> Float64Array:
    """Merge the limits of two sets of samples; float64 [3, C] each: low, high, mean square.

    >>> merged_limits(np.array([[-1.0], [1.0], [1.0]]), 1, np.array([[0.0], [3.0], [4.0]]), 2).tolist()
    [[-1.0], [3.0], [3.0]]
    """
    square = (mine[2] * mine_count + other[2] * other_count) / max(mine_count + other_count, 1)
    return np.stack([np.minimum(mine[0], other[0]), np.maximum(mine[1], other[1]), square])


def _merged(mine: Mapping[Any, T], theirs: Mapping[Any, T], both: Callable[[T, T], T]) -> dict[Any, T]:
    merged = {**mine, **theirs}
    return merged | {key: both(mine[key], theirs[key]) for key in mine.keys() & theirs.keys()}


ARRAYS = ("means", "absmax", "channels", "second_moments", "strains")


def _arrays(statistics: Statistics) -> dict[str, AnyArray]:
    """Return plain arrays by names such as `means/0/7`: the field, then the key."""
    arrays: dict[str, AnyArray] = {"samples": np.array(statistics.samples), "skipped": np.array(statistics.skipped)}
    arrays["keys"] = np.array(list(statistics.ranges), np.int64).reshape(-1, 2)
    arrays["ranges"] = np.array(list(statistics.ranges.values()), np.float64).reshape(-1, 2)
    arrays["name_keys"] = np.array(list(statistics.names), np.int64).reshape(-1, 2)
    arrays["names"] = np.array(list(statistics.names.values()), str)
    for kind in ARRAYS:
        arrays |= {f"{kind}/{s}/{t}": value for (s, t), value in getattr(statistics, kind).items()}
    for kind, histograms in _histograms(statistics).items():
        for (s, t), histogram in histograms.items():
            arrays[f"{kind}/values/{s}/{t}"], arrays[f"{kind}/counts/{s}/{t}"] = histogram.values, histogram.counts
    for (s, t), moving in statistics.moving.items():
        arrays[f"moving/{s}/{t}"] = np.array([moving.momentum, moving.low, moving.high, moving.weight])
    return arrays | _arrays_of_parts(statistics, _arrays)


def _arrays_of_parts(
    statistics: Statistics, arrays: Callable[[Statistics], dict[str, AnyArray]]
) -> dict[str, AnyArray]:
    """Return the arrays of each signature by names such as `signature/0/means/0/7`, and the keys of the signatures."""
    if not statistics.signatures:
        return {}
    parts = enumerate(statistics.signatures.values())
    result = {f"signature/{n}/{name}": array for n, part in parts for name, array in arrays(part).items()}
    return result | {"signatures": np.array(list(statistics.signatures), str)}


def _kept_arrays(statistics: Statistics) -> dict[str, AnyArray]:
    """Return the kept samples by names such as `kept/3/0`: the sample, then the input; no Python objects."""
    plain = [sample for sample in statistics.kept if all(array.dtype.kind != "O" for array in sample)]
    result = {f"kept/{n}/{k}": array for n, sample in enumerate(plain) for k, array in enumerate(sample)}
    result |= {"fitted": np.array(True)} if statistics.fitted else {}
    return result | _arrays_of_parts(statistics, _kept_arrays)


def _histograms(statistics: Statistics) -> dict[str, Mapping[TensorKey, Histogram]]:
    return {
        "histogram": statistics.histograms,
        "low": {key: extremes.low for key, extremes in statistics.extremes.items()},
        "high": {key: extremes.high for key, extremes in statistics.extremes.items()},
    }


def _statistics(found: Mapping[str, AnyArray]) -> Statistics:
    """Return the inverse of `_arrays`."""
    if "signatures" in found:
        starts = {key: f"signature/{n}/" for n, key in enumerate(found["signatures"].tolist())}
        return Statistics.of_signatures(
            {
                key: _statistics({name.removeprefix(start): found[name] for name in found if name.startswith(start)})
                for key, start in starts.items()
            }
        )

    def of(kind: str) -> dict[TensorKey, AnyArray]:
        named = (name.rsplit("/", 2) for name in found if name.startswith(f"{kind}/"))
        return {(int(s), int(t)): found[f"{kind}/{s}/{t}"] for _, s, t in named}

    def histograms(kind: str) -> dict[TensorKey, Histogram]:
        values, counts = of(f"{kind}/values"), of(f"{kind}/counts")
        return {key: Histogram(values[key], counts[key]) for key in values}

    def keyed(keys: str, values: str) -> Iterator[tuple[TensorKey, Any]]:
        return zip(map(tuple, found[keys].tolist()), found[values].tolist(), strict=True)

    samples: dict[int, dict[int, AnyArray]] = {}
    for (n, k), array in of("kept").items():
        samples.setdefault(n, {})[k] = array
    low, high = histograms("low"), histograms("high")
    return Statistics(
        {key: Range(*limits) for key, limits in keyed("keys", "ranges")},
        int(found["samples"]),
        histograms=histograms("histogram"),
        extremes={key: Extremes(low[key], high[key]) for key in low},
        moving={key: MovingRange(*numbers.tolist()) for key, numbers in of("moving").items()},
        skipped=int(found["skipped"]),
        names=dict(keyed("name_keys", "names")),
        kept=tuple(tuple(samples[n][k] for k in sorted(samples[n])) for n in sorted(samples)),
        fitted="fitted" in found,
        **{kind: of(kind) for kind in ARRAYS},  # type: ignore[arg-type]
    )


def _brief(name: str) -> str:
    """Return the last of fused names."""
    return name.rstrip(";").rsplit(";", 1)[-1]
