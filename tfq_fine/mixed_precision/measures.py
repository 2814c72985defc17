"""The measures that layers and files are compared by: how much is lost in a model's outputs.

Losses of layers are added up, so that each measure is one that adds up as long as it is small: squares of errors do
where they are independent, and so do divergences, which are squares of small errors (Kullback and Leibler 1951; Zhang
et al. 2024, arXiv 2310.04610, compare such measures for this purpose).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Float64Array, Graph
from tfq_fine.variants import CLASSES, WORST, FloatOutputs, log_softmax, uses

WORST_LOSS = 1e6  # stands for outputs that are not finite
LEAST_LOSS, MOST_DB = 1e-12, 120.0  # from which on files are alike
Values = Mapping[int, AnyArray]  # tensor of the main subgraph -> its value for one sample
Labels = Sequence[AnyArray]  # for every sample


class Measure(Protocol):
    """Says what is lost in the outputs; can be pickled."""

    def loss(self, n: int, values: Values) -> float:
        """Return what is lost in the outputs for sample `n`, given what a file computes; `WORST_LOSS` at most."""

    def figure(self, losses: Sequence[float]) -> float:
        """Return a figure in dB for the losses of samples, better when higher."""


def decibels_of_loss(loss: float) -> float:
    """Return a loss in dB.

    >>> decibels_of_loss(0.001), decibels_of_loss(0.0)
    (30.0, 120.0)
    """
    return MOST_DB if loss <= LEAST_LOSS else min(-10 * math.log10(loss), MOST_DB)


@dataclass(frozen=True)
class NoiseShare:
    """The share of noise in the outputs, 1 / SQNR, as `variants.judging` compares them."""

    expected: FloatOutputs

    def loss(self, n: int, values: Values) -> float:
        """Return the share of noise for sample `n`."""
        decibels = self.expected.decibels(n, values)
        return WORST_LOSS if decibels == WORST else 10 ** (-decibels / 10)

    def figure(self, losses: Sequence[float]) -> float:
        """Return the SQNR in dB, in the mean over samples; `WORST` where outputs are not finite."""
        return WORST if max(losses) >= WORST_LOSS else float(np.mean([decibels_of_loss(loss) for loss in losses]))


@dataclass(frozen=True)
class Probabilities:
    """The outputs of a model that are probabilities, as logarithms.

    Attributes:
        expected: the float model's outputs.
        is_class: for every output, whether it holds scores of classes, though no SOFTMAX follows.
    """

    expected: FloatOutputs
    is_class: tuple[bool, ...]

    @staticmethod
    def of(graph: Graph, expected: FloatOutputs) -> "Probabilities":
        """Return the probabilities of a model; scores of classes in its only output count as such, too."""
        return Probabilities(expected, tuple(use == CLASSES for use in uses(graph)))

    @property
    def outputs(self) -> list[int]:
        """The numbers of the outputs that are probabilities."""
        pairs = zip(self.expected.judges, self.expected.tensors, strict=True)
        return [k for k, (judge, t) in enumerate(pairs) if judge.tensor != t or self.is_class[k]]

    def is_single(self, k: int) -> bool:
        """Return whether each value of output `k` is a probability by itself, after LOGISTIC."""
        judge, t = self.expected.judges[k], self.expected.tensors[k]
        return judge.beta is None and judge.tensor != t

    def logs(self, k: int, n: int, values: Values) -> tuple[Float64Array, Float64Array]:
        """Return the logarithms (of the float model, of a file) of output `k` for sample `n`, float64 [rows, C] each.

        A probability by itself is that of the first of two classes.
        """
        judge, t = self.expected.judges[k], self.expected.tensors[k]
        scores, plain = self.expected.expected[n][k]
        before, after = (scores, values[judge.tensor]) if judge.tensor in values else (plain, values.get(t, plain))
        is_score = judge.tensor in values or judge.tensor == t
        if self.is_single(k):
            return tuple(_two_classes(x if is_score else _log_odds(x)) for x in (before, after))  # type: ignore[return-value]
        to_logs = judge.seen if judge.beta is not None else log_softmax
        flat = (to_logs(x) if is_score else np.log(np.maximum(x, 1e-30)) for x in (before, after))
        return tuple(np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in flat)  # type: ignore[return-value]


def _two_classes(log_odds: AnyArray) -> Float64Array:
    odds = np.asarray(log_odds, np.float64).reshape(-1)
    return np.stack([-np.logaddexp(0, -odds), -np.logaddexp(0, odds)], axis=-1)


def _log_odds(probability: AnyArray) -> Float64Array:
    inside = np.clip(np.asarray(probability, np.float64), 1e-30, 1 - 1e-16)
    return np.asarray(np.log(inside) - np.log1p(-inside))


@dataclass(frozen=True)
class Divergence:
    """The Kullback-Leibler divergence of the file's probabilities from the float model's, in nats."""

    probabilities: Probabilities

    def loss(self, n: int, values: Values) -> float:
        """Return sum p (log p - log q), in the mean over rows and outputs."""
        each = []
        for k in self.probabilities.outputs:
            p, q = self.probabilities.logs(k, n, values)
            each.append(float(np.sum(np.exp(p) * (p - q), axis=-1).mean()))
        return _bounded(float(np.mean(each)))

    def figure(self, losses: Sequence[float]) -> float:
        """Return the mean in dB."""
        return decibels_of_loss(float(np.mean(losses)))


@dataclass(frozen=True)
class TaskLoss:
    """The rise of the task's loss on labelled samples: of the cross-entropy in nats, or of the squared error of values.

    Attributes:
        probabilities: the model's one output, or none where it holds values.
        expected: the float model's outputs.
        labels: for every sample, class numbers [rows], a share for each class [rows, C], or values.
    """

    probabilities: Probabilities
    expected: FloatOutputs
    labels: Labels

    def loss(self, n: int, values: Values) -> float:
        """Return what the loss of one sample rises by; a fall is below 0."""
        label = np.asarray(self.labels[n])
        if not self.probabilities.outputs:
            plain = self.expected.expected[n][0][1]
            after = values.get(self.expected.tensors[0], plain)
            goal = label.reshape(plain.shape)
            return _bounded(float(np.mean((after - goal) ** 2) - np.mean((plain - goal) ** 2)))
        p, q = self.probabilities.logs(0, n, values)
        if self.probabilities.is_single(0):
            first = label.reshape(len(p)).astype(np.float64)
            shares = np.stack([first, 1 - first], axis=-1)
        elif label.size == p.size:
            shares = label.reshape(p.shape)
        else:
            shares = np.eye(p.shape[1])[label.reshape(len(p)).astype(np.int64)]
        return _bounded(float(np.sum(shares * (p - q), axis=-1).mean()))

    def figure(self, losses: Sequence[float]) -> float:
        """Return the mean rise in dB."""
        return decibels_of_loss(float(np.mean(losses)))


def _bounded(loss: float) -> float:
    return min(loss, WORST_LOSS) if math.isfinite(loss) else WORST_LOSS


def noise_share(graph: Graph, expected: FloatOutputs, labels: Labels | None) -> Measure:
    """Return the measure "sqnr"."""
    return NoiseShare(expected)


def divergence(graph: Graph, expected: FloatOutputs, labels: Labels | None) -> Measure:
    """Return the measure "kl".

    Raises:
        TfqError: no output holds probabilities.
    """
    probabilities = Probabilities.of(graph, expected)
    if not probabilities.outputs:
        raise TfqError("measure='kl' compares probabilities, and no output of the model holds any: use measure='sqnr'")
    return Divergence(probabilities)


def task_loss(graph: Graph, expected: FloatOutputs, labels: Labels | None) -> Measure:
    """Return the measure "loss".

    Raises:
        TfqError: the model has several outputs, or labels fit no output.
    """
    assert labels is not None, "who names it gives labels"
    if len(graph.main.outputs) != 1:
        raise TfqError(f"measure='loss' compares one output with labels; the model has {len(graph.main.outputs)}")
    made = TaskLoss(Probabilities.of(graph, expected), expected, labels)
    try:
        made.loss(0, {})
    except (ValueError, IndexError) as error:
        plain = expected.expected[0][0][1]
        raise TfqError(
            f"measure='loss': a label of shape {np.shape(labels[0])} does not fit an output of shape {plain.shape}"
        ) from error
    return made


@dataclass(frozen=True)
class MeasureRow:
    """One measure by name."""

    help: str
    make: Callable[[Graph, FloatOutputs, Labels | None], Measure]
    reads_labels: bool = False
    is_estimated: bool = False  # for layers, to second order, from gradients of the float model


MEASURES: Mapping[str, MeasureRow] = MappingProxyType(
    {
        "sqnr": MeasureRow("the share of noise in the outputs", noise_share),
        "kl": MeasureRow("the divergence of probabilities from the float model's", divergence),
        "loss": MeasureRow("the rise of the task's loss on labelled samples", task_loss, reads_labels=True),
        "second_order": MeasureRow(
            "the share of noise, estimated by gradients of the float model", noise_share, is_estimated=True
        ),
    }
)
