"""Whether the data is like the training data, by the moments that a Keras model has kept.

A BatchNormalization or Normalization layer keeps the mean and the variance of its inputs in training. The file does not
have them any more (they are folded into the layer before), so that this looks at the Keras model: at the first such
layer, which nothing but the preparation of the data and a layer or two come before.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_converters.graph import AnyArray
from tfq_converters.reading import Source
from tfq_fine.calibration.kept_samples import LEAST, Sample

KINDS = ("BatchNormalization", "Normalization")
# In units of the deviation in training, the median over channels: inputs in training are 1 from their mean (root mean
# square) and spread by 1. Of seven trained models of the zoo, on their own data, both are 0.87 to 1.20; pixels of 0 to
# 255 where 0 to 1 were meant give 220 or more, and the other way round spread by 0.006 or less.
FAR, NARROW = 4.0, 0.1


@dataclass(frozen=True)
class Moments:
    """The inputs of a layer on the samples, in units of what it kept in training."""

    layer: str
    distance: float  # root mean square distance from the mean in training
    spread: float  # deviation


def unlike_training(source: Source, samples: Sequence[Sample]) -> Iterator[str]:
    """Yield a warning that the inputs of the first normalizing layer are unlike those that it was trained on."""
    moments = first_moments(source, samples)
    if moments is None or (moments.distance <= FAR and moments.spread >= NARROW):
        return
    far = (
        f"{moments.distance:.3g} deviations away from their mean"
        if moments.distance > FAR
        else f"spread by {moments.spread:.2g} of their deviation"
    )
    yield (
        f"{moments.layer} has kept the mean and the deviation of its inputs in training, and on the samples these are "
        f"{far} (1 is usual): is the data prepared as in training?"
    )


def first_moments(source: Source, samples: Sequence[Sample]) -> Moments | None:
    """Return the moments at the first normalizing layer of a Keras model; None without an accessible one."""
    if source.keras_model is None or source.call is None or not samples:
        return None
    order = source.call.order(names := source.graph.input_names())
    moments = None
    with suppress(Exception):  # a model may be built in ways that its layers cannot be called by themselves
        each = [[dict(zip(names, sample, strict=True))[name] for name in order] for sample in samples[:LEAST]]
        moments = _at_first(source.keras_model, each)
    return moments


def _at_first(model: Any, each: list[Any]) -> Moments | None:
    """Return the moments at the first normalizing layer of a Sequential or Functional model, or of one inside it.

    Args:
        model: the model.
        each: its inputs for each sample.
    """
    for layer in model.layers:
        is_model = bool(getattr(layer, "layers", None)) and bool(getattr(layer, "inputs", None))
        if type(layer).__name__ not in KINDS and not (is_model and _normalizes(layer)):
            continue
        # `layer.input` of a model inside is its own Input, and not what it is called with
        read = _listed(layer._inbound_nodes[-1].input_tensors) if is_model else layer.input
        part = _model_class(model)(model.inputs, read)
        inputs = [part(values, training=False) for values in each]
        if not is_model:
            return _moments(layer, [np.asarray(values) for values in inputs])
        return _at_first(layer, [_listed(values) for values in inputs])
    return None


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _model_class(model: Any) -> Any:
    """Return the class `Model` of the framework that a model comes from, tf_keras or keras."""
    return next(kind for kind in reversed(type(model).__mro__) if kind.__name__ == "Model")


def _normalizes(model: Any) -> bool:
    return any(type(layer).__name__ in KINDS or _normalizes(layer) for layer in getattr(model, "layers", ()))


def _moments(layer: Any, inputs: Sequence[AnyArray]) -> Moments | None:
    if type(layer).__name__ == "Normalization":
        mean, variance = (np.asarray(v, np.float64) for v in (layer.mean, layer.variance))
        floor = 1e-14
    else:
        shape = np.ones(inputs[0].ndim, int)
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        shape[list(axes)] = -1
        mean, variance = (np.asarray(v, np.float64).reshape(shape) for v in (layer.moving_mean, layer.moving_variance))
        floor = layer.epsilon
    if not mean.any() and (variance == 1).all():
        return None  # never trained
    every = [(values.astype(np.float64) - mean) / np.sqrt(variance + floor) for values in inputs]
    own = tuple(axis for axis in range(every[0].ndim) if mean.ndim < every[0].ndim or mean.shape[axis] == 1)
    count = sum(values.size for values in every) / max(mean.size, 1)
    first, second = (sum(np.sum(values**power, axis=own) for values in every) / count for power in (1, 2))
    deviation = np.sqrt(np.maximum(second - np.square(first), 0))
    return Moments(layer.name, float(np.median(np.sqrt(second))), float(np.median(deviation)))
