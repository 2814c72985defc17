"""Labelled samples that decide: the metric of the float model and of files, and how sure a drop is."""

from collections.abc import Mapping, Sequence
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
    return [{spec.name: np.array(a) for spec, a in zip(specs, batch.inputs, strict=True)} for batch in read]


def split(
    graph: Graph, data: Any, labels: Any, num_samples: int | None
) -> tuple[list[dict[str, AnyArray]], list[Sample], AnyArray]:
    """Read labelled data, and return (what calibrates, by input name; the samples that decide; their labels).

    Which ones calibrate is drawn at random, the same for the same number of samples.

    Raises:
        TfqError: bad data, no labels, or too few samples.
    """
    specs = input_specs(graph)
    read = singles(batches(data, specs, labels=labels, limit=num_samples), specs)
    samples: list[Sample] = []
    kept: list[AnyArray] = []
    for batch in read:
        if batch.labels is None:
            raise TfqError("max_drop compares metrics, which need labels: pass labels=..., or data that holds them")
        samples.append(tuple(np.array(array) for array in batch.inputs))
        kept.append(np.array(batch.labels))
    if len(samples) < 2 * LEAST:
        raise TfqError(
            f"max_drop: expected at least {2 * LEAST} labelled samples, half of which decide; found {len(samples)}"
        )
    order = np.random.default_rng(0).permutation(len(samples))
    count = min(MOST_CALIBRATING, len(samples) // 2)
    names = [spec.name for spec in specs]
    calibrating = [dict(zip(names, samples[n], strict=True)) for n in sorted(order[:count])]
    deciding = sorted(order[count:])
    return calibrating, [samples[n] for n in deciding], np.concatenate([kept[n] for n in deciding])
