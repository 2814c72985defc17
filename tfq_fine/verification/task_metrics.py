"""How well outputs fit labels: metrics by name, Keras metrics, or any function.

| metric | outputs | labels |
|---|---|---|
| top1, accuracy | scores [..., C] | classes [...] or [..., 1], or one-hot [..., C] |
| | a probability [n] or [..., 1], cut at 0.5 | 0 or 1 |
| top5 | scores [..., C] | classes, or one-hot |
| perplexity | logits [..., C] | classes [...], such as each following token |
| mae, mse | any | the same number of values |
| auc | a probability [n] or [n, 1], or scores of two classes [n, 2] | 0 or 1 |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError, extras_named
from tfq_converters.graph import AnyArray, Float64Array, Int64Array
from tfq_fine.numerics import in_top

PERPLEXITY_ROWS = 1024  # whose softmax is computed at once, in float64
Compute = Callable[[Any, AnyArray], Any]  # (outputs, labels) -> one number


@dataclass(frozen=True)
class TaskMetric:
    """A function of outputs and labels, and how to read its value."""

    name: str
    compute: Compute
    higher_is_better: bool = True
    each: Compute | None = (
        None  # the values [n] of n samples, whose mean the metric is, so that outputs need not be kept
    )

    def drop(self, before: float, after: float) -> float:
        """Return how much worse `after` is than `before`, in units of the metric; negative when it is better."""
        return before - after if self.higher_is_better else after - before


def top1(outputs: AnyArray, labels: AnyArray) -> float:
    """Return the share of samples whose highest score is the label's; binary for one probability per sample.

    Outputs are scores [..., C] or probabilities [n] or [..., 1]; labels are as the table of the module says.
    """
    return float(np.mean(each_top1(outputs, labels)))


def each_top1(outputs: AnyArray, labels: AnyArray) -> Float64Array:
    """Return `top1` of each of the n samples, [n]."""
    if _is_binary(outputs):
        scores = outputs.reshape(-1)
        right = (scores > 0.5) == (_binary_labels(outputs, labels) > 0.5)
        return _by_sample(right & ~np.isnan(scores), outputs)
    return _by_sample(in_top(outputs, _classes(outputs, labels), 1), outputs)


def top5(outputs: AnyArray, labels: AnyArray) -> float:
    """Return the share of samples whose label is among the five highest scores; ties go to the lowest class.

    Outputs are scores [..., C]; labels are classes [...] or [..., 1], or one-hot [..., C].
    """
    return float(np.mean(each_top5(outputs, labels)))


def each_top5(outputs: AnyArray, labels: AnyArray) -> Float64Array:
    """Return `top5` of each of the n samples, [n]."""
    if _is_binary(outputs):
        raise TfqError(f"metric 'top5' needs scores of several classes, found outputs of shape {outputs.shape}")
    return _by_sample(in_top(outputs, _classes(outputs, labels), 5), outputs)


def mae(outputs: AnyArray, labels: AnyArray) -> float:
    """Return the mean of |output - label|, over arrays of any shape with the same number of values."""
    return float(np.mean(each_mae(outputs, labels)))


def each_mae(outputs: AnyArray, labels: AnyArray) -> Float64Array:
    """Return `mae` of each of the n samples, [n]."""
    return _by_sample(np.abs(_difference(outputs, labels)), outputs)


def mse(outputs: AnyArray, labels: AnyArray) -> float:
    """Return the mean of (output - label)², over arrays of any shape with the same number of values."""
    return float(np.mean(each_mse(outputs, labels)))


def each_mse(outputs: AnyArray, labels: AnyArray) -> Float64Array:
    """Return `mse` of each of the n samples, [n]."""
    return _by_sample(np.square(_difference(outputs, labels)), outputs)


def auc(outputs: AnyArray, labels: AnyArray) -> float:
    """Return the area under the receiver operating characteristic, as scikit-learn computes it.

    Outputs are probabilities [n] or [n, 1], or scores [n, 2]; labels are 0 or 1 for each of the n samples.

    Raises:
        TfqError: labels of one class only, or scikit-learn is not installed.
    """
    with extras_named():
        from sklearn.metrics import roc_auc_score
    two = outputs.ndim == 2 and outputs.shape[1] == 2
    scores = np.asarray(outputs[:, 1] if two else outputs, np.float64).reshape(-1)
    positive = (_classes(outputs, labels) if two else _binary_labels(outputs, labels)) > 0.5
    if positive.all() or not positive.any():
        raise TfqError("metric 'auc' needs labels of both classes, found one only")
    if np.isnan(scores).any():
        return float("nan")
    return float(roc_auc_score(positive, scores))


def perplexity(outputs: AnyArray, labels: AnyArray) -> float:
    """Return exp of the mean of -log p(label), p the softmax of logits [..., C]; labels are classes [...].

    >>> round(perplexity(np.log([[0.25, 0.75], [0.5, 0.5]]), np.array([0, 1])), 6)  # (1/4 * 1/2) ** (-1/2)
    2.828427
    """
    if _is_binary(outputs):
        raise TfqError(f"metric 'perplexity' needs logits of several classes, found outputs of shape {outputs.shape}")
    rows, total = outputs.reshape(-1, outputs.shape[-1]), 0.0
    classes = np.asarray(_classes(outputs, labels)).reshape(-1)
    for start in range(0, len(rows), PERPLEXITY_ROWS):
        part = rows[start : start + PERPLEXITY_ROWS].astype(np.float64)
        part -= part.max(axis=1, keepdims=True)
        of_labels = part[np.arange(len(part)), classes[start : start + PERPLEXITY_ROWS]]
        total += float((np.log(np.exp(part).sum(axis=1)) - of_labels).sum())
    return float(np.exp(total / len(rows)))


METRICS: dict[str, TaskMetric] = {
    "top1": TaskMetric("top1", top1, each=each_top1),
    "top5": TaskMetric("top5", top5, each=each_top5),
    "accuracy": TaskMetric("accuracy", top1, each=each_top1),
    "mae": TaskMetric("mae", mae, higher_is_better=False, each=each_mae),
    "mse": TaskMetric("mse", mse, higher_is_better=False, each=each_mse),
    "auc": TaskMetric("auc", auc),
    "perplexity": TaskMetric("perplexity", perplexity, higher_is_better=False),
}

# Keras metrics that are better when lower; Keras 3 says so itself for some only
KERAS_ERRORS = {
    "MeanSquaredError",
    "MeanAbsoluteError",
    "RootMeanSquaredError",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "MeanRelativeError",
    "LogCoshError",
    "Poisson",
    "KLDivergence",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "SparseCategoricalCrossentropy",
    "Hinge",
    "SquaredHinge",
    "CategoricalHinge",
    "FalsePositives",
    "FalseNegatives",
}


def task_metric(metric: Any) -> TaskMetric:
    """Return the metric that a user means.

    Args:
        metric: a name in `METRICS`; a Keras 3 or tf_keras metric object; a `TaskMetric`; or a function
            `(outputs, labels) -> float`, better when higher, that is called once per model on everything. Outputs are
            an array, or a dict by output name when the model has several. A function of `sklearn.metrics`, which takes
            labels first, is called as it wants.

    Raises:
        TfqError: an unknown name, or none of these.
    """
    if isinstance(metric, TaskMetric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise TfqError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}, a function, a Keras metric")
        return METRICS[metric]
    if hasattr(metric, "update_state") and hasattr(metric, "result"):
        return TaskMetric(str(getattr(metric, "name", type(metric).__name__)), _of_keras(metric), _is_score(metric))
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        if str(getattr(metric, "__module__", "")).startswith("sklearn.metrics"):
            return TaskMetric(name, _of_sklearn(metric), not name.endswith(("_error", "_loss")))
        return TaskMetric(name, metric)
    raise TfqError(f"metric: expected a name, a Keras metric or a function, found {type(metric).__name__}")


def _is_score(metric: Any) -> bool:
    return not KERAS_ERRORS.intersection(kind.__name__ for kind in type(metric).__mro__)


def _of_sklearn(metric: Callable[..., Any]) -> Compute:
    """Give a function of `sklearn.metrics` labels and scores in its own order; one column of scores is flat."""

    def compute(outputs: Any, labels: AnyArray) -> Any:
        if isinstance(outputs, dict):
            raise TfqError(f"metric {metric.__name__!r}: {_one_output(outputs)}")
        flat = outputs.ndim == 2 and outputs.shape[1] == 1
        return metric(labels.reshape(-1) if flat else labels, outputs[:, 0] if flat else outputs)

    return compute


def _of_keras(metric: Any) -> Compute:
    """Return `metric` on everything at once, from a clean state, and left clean."""

    def compute(outputs: Any, labels: AnyArray) -> Any:
        if isinstance(outputs, dict):
            raise TfqError(f"metric {metric.name!r}: {_one_output(outputs)}")
        metric.reset_state()
        metric.update_state(labels, outputs)
        value = metric.result()
        metric.reset_state()
        return value

    return compute


class Score:
    """One model's value of one metric, batch by batch. Keeps outputs only for metrics that are no mean over samples."""

    def __init__(self, metric: TaskMetric):
        self._metric = metric
        self._each: list[Float64Array] = []
        self._kept: list[tuple[dict[str, AnyArray], AnyArray]] = []

    def add(self, outputs: dict[str, AnyArray], labels: AnyArray) -> None:
        """Take one batch in: outputs by name and labels, each [n, ...].

        Raises:
            TfqError: labels that do not fit the outputs.
        """
        if self._metric.each is not None:
            _require_one_output(self._metric, outputs)
            self._each.append(self._metric.each(next(iter(outputs.values())), labels))
        else:
            self._kept.append((outputs, np.array(labels)))

    def each(self) -> Float64Array | None:
        """Return the value of every sample, [n]; None for a metric that is no mean over samples."""
        return None if self._metric.each is None else np.concatenate(self._each)

    def result(self) -> float:
        """Return the value over all batches."""
        each = self.each()
        if each is not None:
            return float(np.mean(each))
        labels = np.concatenate([kept for _, kept in self._kept])
        names = self._kept[0][0]
        outputs = {name: np.concatenate([kept[name] for kept, _ in self._kept]) for name in names}
        return metric_value(self._metric, outputs, labels)


def metric_value(metric: TaskMetric, outputs: dict[str, AnyArray], labels: AnyArray) -> float:
    """Return the value of a metric for outputs by name and labels, each [n, ...].

    Raises:
        TfqError: the metric gives no number, or reads one output and there are several.
    """
    _require_one_output(metric, outputs)
    value = np.asarray(metric.compute(next(iter(outputs.values())) if len(outputs) == 1 else outputs, labels))
    if value.size != 1 or value.dtype.kind not in "biuf":
        raise TfqError(f"metric {metric.name!r}: expected one number, found {value}")
    return float(value.reshape(()))


def _require_one_output(metric: TaskMetric, outputs: dict[str, AnyArray]) -> None:
    if len(outputs) > 1 and metric in METRICS.values():
        raise TfqError(f"metric {metric.name!r}: {_one_output(outputs)}")


def _by_sample(values: AnyArray, outputs: AnyArray) -> Float64Array:
    """Return the mean of the values that belong to each of the n samples of `outputs` [n, ...]."""
    return np.asarray(values.reshape(len(outputs), -1).mean(axis=1), np.float64)


def _one_output(outputs: dict[str, AnyArray]) -> str:
    return (
        f"the model has the outputs {', '.join(outputs)}, and this metric reads one; pass a function "
        "(outputs by name, labels) -> float"
    )


def _is_binary(outputs: AnyArray) -> bool:
    return outputs.ndim == 1 or outputs.shape[-1] == 1


def _binary_labels(outputs: AnyArray, labels: AnyArray) -> AnyArray:
    if labels.size != outputs.size:
        raise TfqError(f"labels: expected one 0 or 1 per output {outputs.shape}, found shape {labels.shape}")
    flat = labels.reshape(-1)
    wrong = ~np.isin(flat, (0, 1))
    if wrong.any():
        raise TfqError(f"labels: expected 0 or 1 for outputs of shape {outputs.shape}, found {flat[wrong][0]}")
    return flat


def _classes(outputs: AnyArray, labels: AnyArray) -> Int64Array:
    """Return labels as class indices of shape `outputs.shape[:-1]`."""
    shape, classes = outputs.shape[:-1], outputs.shape[-1]
    if labels.shape == outputs.shape:
        return np.asarray(labels.argmax(axis=-1))
    if labels.shape not in (shape, (*shape, 1)):
        raise TfqError(
            f"labels: expected classes of shape {shape} or one-hot of shape {outputs.shape}, found {labels.shape}"
        )
    indices = labels.reshape(shape)
    wrong = (indices < 0) | (indices >= classes) | (indices != np.rint(indices))
    if wrong.any():
        raise TfqError(f"labels: expected classes 0 to {classes - 1}, found {indices[wrong][0]}")
    return indices.astype(np.int64)


def _difference(outputs: AnyArray, labels: AnyArray) -> Float64Array:
    if labels.size != outputs.size:
        raise TfqError(f"labels: expected as many values as outputs of shape {outputs.shape}, found {labels.shape}")
    return np.asarray(outputs.astype(np.float64) - labels.reshape(outputs.shape))
