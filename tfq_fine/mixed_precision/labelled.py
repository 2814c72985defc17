"""Labelled samples that decide: the metric of the float model and of files, and how sure a drop is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Graph
from tfq_fine.calibration import Sample
from tfq_fine.data import batches, input_specs, singles
from tfq_fine.request import SHARES, MaxDrop
from tfq_fine.verification import Side, TaskMetric, metric_value

MOST_CALIBRATING = 512  # samples; at most half of all
RESAMPLES, CONFIDENCE = 400, 0.95
LEAST = 20  # samples that are fewer decide nothing


@dataclass(frozen=True)
class Drop:
    """How much worse a file is than the float model in a metric, with its confidence interval."""

    value: float
    low: float
    high: float
    float_metric: float
    metric: float

    def __str__(self) -> str:
        return (
            f"{self.metric:.4g} (float {self.float_metric:.4g}), a drop of {self.value:.4g}, "
            f"95 % between {self.low:.4g} and {self.high:.4g}"
        )


@dataclass(frozen=True)
class Labelled:
    """Samples with labels that no weight is fitted to.

    Attributes:
        graph: the float graph.
        samples: inputs in input order.
        labels: labels [n, ...].
        metric: what is measured.
        threads: the number of threads of the interpreter.
    """

    graph: Graph
    samples: Sequence[Sample]
    labels: AnyArray
    metric: TaskMetric
    threads: int

    @cached_property
    def _expected(self) -> Mapping[str, AnyArray]:
        return self._outputs(self.graph, flatbuffer.write(self.graph))

    @cached_property
    def float_value(self) -> float:
        """The metric of the float model."""
        return metric_value(self.metric, dict(self._expected), self.labels)

    def limit(self, max_drop: MaxDrop) -> float:
        """Return the largest drop in units of the metric.

        Raises:
            TfqError: a fraction of a share above one half, which a percent sign was forgotten of.
        """
        return max_drop.limit(self.metric.name in SHARES, self.float_value)

    def dropped(self, graph: Graph, content: bytes) -> float:
        """Return how much worse a file is than the float model, in units of the metric."""
        value = metric_value(self.metric, self._outputs(graph, content), self.labels)
        return self.metric.drop(self.float_value, value)

    def drop(self, graph: Graph, content: bytes) -> Drop:
        """Return how much worse a file is, and between which limits by resampling the samples in pairs.

        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13: percentile intervals.
        """
        outputs = self._outputs(graph, content)
        value = metric_value(self.metric, outputs, self.labels)
        rng, drops = np.random.default_rng(0), []
        for _ in range(RESAMPLES):
            rows = rng.integers(0, len(self.labels), len(self.labels))
            pair = [
                metric_value(self.metric, _rows(each, rows), self.labels[rows]) for each in (self._expected, outputs)
            ]
            drops.append(self.metric.drop(*pair))
        low, high = np.nanquantile(drops, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Drop(self.metric.drop(self.float_value, value), float(low), float(high), self.float_value, value)

    def _outputs(self, graph: Graph, content: bytes) -> dict[str, AnyArray]:
        side = Side(graph, content, threads=self.threads)
        rows = [side.run(sample) for sample in self.samples]
        names = [self.graph.main.tensors[t].name for t in self.graph.main.outputs]
        return {name: np.concatenate([row[k] for row in rows]) for k, name in enumerate(names)}


def _rows(outputs: Mapping[str, AnyArray], rows: AnyArray) -> dict[str, AnyArray]:
    return {name: values[rows] for name, values in outputs.items()}


def read_once(graph: Graph, data: Any, num_samples: int | None) -> list[dict[str, AnyArray]]:
    """Return the samples of an iterator, by input name, so that they can be read again.

    Raises:
        TfqError: bad data.
    """
    specs = input_specs(graph)
    read = singles(batches(data, specs, limit=num_samples, keep_labels=False), specs)
    return by_name(graph, [tuple(np.array(array) for array in batch.inputs) for batch in read])


def by_name(graph: Graph, samples: Sequence[Sample]) -> list[dict[str, AnyArray]]:
    """Return samples by input name, as they can be read."""
    names = [spec.name for spec in input_specs(graph)]
    return [dict(zip(names, sample, strict=True)) for sample in samples]


def read_labelled(
    graph: Graph, data: Any, labels: Any, num_samples: int | None, reader: str
) -> tuple[list[Sample], list[AnyArray]]:
    """Return (samples, their labels).

    Args:
        graph: the float graph.
        data: the samples, with labels or without.
        labels: the labels, unless `data` holds them.
        num_samples: read at most this many.
        reader: what reads labels, for the message.

    Raises:
        TfqError: bad data, or no labels.
    """
    specs = input_specs(graph)
    samples: list[Sample] = []
    kept: list[AnyArray] = []
    for batch in singles(batches(data, specs, labels=labels, limit=num_samples), specs):
        if batch.labels is None:
            raise TfqError(f"{reader} needs labels: pass labels=..., or data that holds them")
        samples.append(tuple(np.array(array) for array in batch.inputs))
        kept.append(np.array(batch.labels))
    return samples, kept


def drawn(count: int) -> tuple[list[int], list[int]]:
    """Return (which of `count` samples calibrate, which decide), drawn at random, the same for the same number.

    Raises:
        TfqError: there are too few samples.
    """
    if count < 2 * LEAST:
        raise TfqError(f"max_drop: expected at least {2 * LEAST} labelled samples, half of which decide; found {count}")
    order = np.random.default_rng(0).permutation(count).tolist()
    calibrating = min(MOST_CALIBRATING, count // 2)
    return sorted(order[:calibrating]), sorted(order[calibrating:])


def labels_by_content(samples: Sequence[Sample], labels: Sequence[AnyArray]) -> Callable[[Sample], AnyArray]:
    """Return a function that gives the label of a sample; of equal samples, that of the first."""
    label_of: dict[bytes, AnyArray] = {}
    for sample, label in zip(samples, labels, strict=True):
        label_of.setdefault(_content(sample), label)
    return lambda sample: label_of[_content(sample)]


def _content(sample: Sample) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in sample)
