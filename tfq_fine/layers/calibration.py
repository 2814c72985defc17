"""Calibration of wrapped models: scales from the weights, ranges from representative data."""

from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.reading.call import keras_call
from tfq_fine.data import InputSpec, batches
from tfq_fine.layers.wrapped import require_wrappers


def calibrate_wrappers(model: Any, data: Any, *, samples: int | None = None, batch_size: int = 32) -> int:
    """Set the scales of all wrappers from their weights, and the ranges of activations from `data`.

    Args:
        model: a Keras model that holds `FineQuantize` layers.
        data: representative samples, in any form that `tfq_fine.data` documents.
        samples: read at most this many.
        batch_size: samples per call of the model.

    Returns:
        How many samples were read.

    Raises:
        TfqError: the model holds no wrappers, the data no samples, or a range is not finite.
    """
    found = require_wrappers(model)
    for wrapper in found:
        for known in wrapper.every_range:
            known.forget()
        wrapper.means.clear()
        wrapper.observing = True
    try:
        count = _run(model, data, samples, batch_size)
    finally:
        for wrapper in found:
            wrapper.observing = False
    for wrapper in found:
        wrapper.build_like_call()
        wrapper.fit_scales()
        for known in wrapper.every_range:
            if not all(np.isfinite(known.limits())):
                raise TfqError(f"layer {wrapper.layer.name!r} reads or computes NaN or infinity on this data")
            known.settle()
    return count


def _run(model: Any, data: Any, samples: int | None, batch_size: int) -> int:
    call = keras_call(model, "keras")
    names = [argument.name for argument in call.arguments]
    specs = tuple(
        InputSpec(argument.name, tuple(-1 if size is None else size for size in argument.shape), argument.dtype)
        for argument in call.arguments
    )
    count = 0
    for batch in batches(data, specs, batch_size=batch_size, limit=samples):
        call(list(batch.inputs))
        count += batch.count
    if not count:
        raise TfqError(f"no representative data for {', '.join(names)}: the data holds no samples")
    return count
