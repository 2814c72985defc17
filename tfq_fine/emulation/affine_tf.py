"""The arithmetic of `affine` in TensorFlow, with straight-through gradients: the same float32 values to the last bit.

Weights are in the axes of the file's operator. Rounding passes gradients as if it were not there (Bengio et al. 2013,
arXiv 1308.3432); clipping passes none beyond the range. Scales that are learned get the gradient of LSQ (Esser et al.
2020, arXiv 1902.08153, equations 3 to 5), scaled by 1 / sqrt(values that share the scale * largest code).
"""

import math
from typing import TYPE_CHECKING, Any

from tfq_fine.numerics import (
    HALF_SCALES,
    LARGEST_HALF,
    LEAST_STEP,
    SMALLEST_HALF,
    SYMMETRIC,
    TINY,
    CodeFormat,
)

if TYPE_CHECKING:
    import tensorflow as tf


def block_extent(values: Any, block: tuple[int, ...]) -> tuple[Any, Any]:
    """Do `affine.block_extent`: (minimum, maximum) of each block and 0, each of shape ceil(shape / block)."""
    import tensorflow as tf

    return (
        tf.minimum(_reduced(values, block, tf.reduce_min), 0.0),
        tf.maximum(_reduced(values, block, tf.reduce_max), 0.0),
    )


def _reduced(values: Any, block: tuple[int, ...], reduce: Any) -> Any:
    import tensorflow as tf

    for axis, size in enumerate(block):
        length = values.shape[axis]
        if size == 1:
            continue
        padding = [[0, -length % size if other == axis else 0] for other in range(len(block))]
        padded = tf.pad(values, padding) if length % size else values
        shape = [*values.shape[:axis], -(-length // size), size, *values.shape[axis + 1 :]]
        values = reduce(tf.reshape(padded, shape), axis=axis + 1)
    return values


def expanded(scale: Any, block: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Return one value per block as an array that broadcasts against a weight of `shape`."""
    import tensorflow as tf

    for axis, size in enumerate(block):
        if size > 1 and scale.shape[axis] > 1:
            part = tuple(slice(shape[axis]) if other == axis else slice(None) for other in range(len(shape)))
            scale = tf.repeat(scale, size, axis)[part]
    return scale


def weight_scale(low: Any, high: Any, form: CodeFormat) -> tuple[Any, Any]:
    """Do `affine.weight_scale`: scales and zero points, both float32, of blocks of values in [low, high]."""
    import tensorflow as tf

    if form.symmetric:
        scale = rounded_scale(symmetric_scale(tf.maximum(tf.abs(low), tf.abs(high)), form.bits), form)
        return tf.where(low > high, -scale, scale), tf.zeros_like(scale)
    return asymmetric_scale(low, high, form.bits)


def symmetric_scale(absmax: Any, bits: int) -> Any:
    """Do `affine.symmetric_scale` in float32."""
    import tensorflow as tf

    return _at_least_tiny(tf.cast(absmax, tf.float64) / (2 ** (bits - 1) - 1))


def asymmetric_scale(low: Any, high: Any, bits: int) -> tuple[Any, Any]:
    """Do `affine.asymmetric_scale`: float32 scales and zero points of codes that cover [low, high] and 0."""
    import tensorflow as tf

    least, most = tf.minimum(tf.cast(low, tf.float64), 0.0), tf.maximum(tf.cast(high, tf.float64), 0.0)
    scale = _at_least_tiny((most - least) / (2**bits - 1))
    minimum = -(2 ** (bits - 1))
    zero = tf.clip_by_value(tf.round(minimum - least / tf.cast(scale, tf.float64)), minimum, minimum + 2**bits - 1)
    return scale, tf.cast(zero, tf.float32)


def activation_scale(low: Any, high: Any, bits: int) -> tuple[Any, Any]:
    """Do `affine.activation_scale`: scale and zero point, both float32."""
    import tensorflow as tf

    scale, zero = asymmetric_scale(low, high, bits)
    least, most = tf.cast(low, tf.float64), tf.cast(high, tf.float64)
    absmax = tf.maximum(-least, most)
    symmetric = tf.abs(least + most) < SYMMETRIC * absmax
    steps = tf.maximum(tf.where(symmetric, symmetric_scale(absmax, bits), scale), LEAST_STEP)
    return steps, tf.where(symmetric, tf.zeros_like(zero), zero)


def _at_least_tiny(scale: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.where(scale < TINY, tf.ones_like(scale), scale), tf.float32)


def rounded_scale(scale: Any, form: CodeFormat) -> Any:
    """Return the scales as the file holds them; the rounding passes gradients."""
    import tensorflow as tf

    if form.scales == "float32":
        return scale
    limits = HALF_SCALES if form.scales == "bfloat16" else (SMALLEST_HALF, LARGEST_HALF)
    bounded = tf.where(scale < 0, -1.0, 1.0) * tf.clip_by_value(tf.abs(scale), *limits)
    kind = tf.bfloat16 if form.scales == "bfloat16" else tf.float16
    return straight_through(lambda x: tf.cast(tf.cast(x, kind), tf.float32))(bounded)


def straight_through(function: Any) -> Any:
    """Return `function` with the gradient of the identity."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def applied(values: Any) -> Any:
        return function(values), lambda upstream: upstream

    return applied


def learned_scale(times: Any, start: Any, values: int, highest: int) -> Any:
    """Return the scale |times| * start, which keeps its sign, with the gradient scaled as LSQ has it.

    A step of gradient descent on `times` moves the scale as one on the scale itself would.

    Args:
        times: what is trained, float32.
        start: the scales at times = 1, of the same shape.
        values: how many values share a scale.
        highest: the largest code.
    """
    import tensorflow as tf

    share = 1.0 / math.sqrt(values * highest)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def applied(x: Any) -> Any:
        size = tf.maximum(tf.abs(x * start), TINY)
        return tf.where(start < 0, -size, size), lambda upstream: upstream * tf.sign(x) * share / start

    return applied(times)


def fake_quantized(values: Any, scale: Any, zero: Any, lowest: int, highest: int) -> Any:
    """Return scale * (code - zero) of the nearest codes of `values`, saturating; all arguments broadcast.

    Gradients flow to `values` within the range, and to `scale` as LSQ has them.
    """
    import tensorflow as tf

    codes = straight_through(tf.round)(values / scale) + zero
    return (tf.clip_by_value(codes, float(lowest), float(highest)) - zero) * scale


def dynamic(values: "tf.Tensor", axes: tuple[int, ...]) -> Any:
    """Return `values` as dynamic-range kernels see them: on 8 bits over the range along `axes`."""
    codes, zero, scale = _codes_along(values, axes)
    return (codes - zero) * scale


def dynamic_by_phase(values: "tf.Tensor", rates: tuple[int, ...]) -> Any:
    """Do `dynamic` over each sample and phase of a dilation, [samples, spatial axes of `rates`, channels].

    The zeros at the end are in every range already; zeros at the start, of a padding, would only give phases other
    names.
    """
    import tensorflow as tf

    space = tf.shape(values)[1:-1]
    padding = tf.stack([tf.zeros_like(space), -space % list(rates)], axis=1)
    images = tf.space_to_batch(values, list(rates), padding)
    phases = dynamic(images, tuple(range(1, values.shape.rank)))
    return tf.ensure_shape(tf.batch_to_space(phases, list(rates), padding), values.shape)


def dynamic_codes(values: "tf.Tensor", per_row: bool, halves_away: bool = False) -> tuple[Any, Any, Any]:
    """Return (codes, zero point, scale) of `values`, over each row or over each sample.

    Args:
        values: float32 [n, ..., channels].
        per_row: over each row of the last axis.
        halves_away: as TFLite's own kernels round, halves away from 0; otherwise as XNNPACK does, halves to even.
    """
    axes = (-1,) if per_row else tuple(range(1, values.shape.rank))
    return _codes_of_tflite(values, axes) if halves_away else _codes_along(values, axes)


def _codes_of_tflite(values: "tf.Tensor", axes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Do `_codes_along` as TFLite's own kernels do: the sum of zero point and value is rounded, halves away from 0."""
    import tensorflow as tf

    low = tf.cast(tf.minimum(tf.reduce_min(values, axes, keepdims=True), 0.0), tf.float64)
    high = tf.cast(tf.maximum(tf.reduce_max(values, axes, keepdims=True), 0.0), tf.float64)
    scale = tf.where(high > low, (high - low) / 255.0, tf.ones_like(low))
    least, most = low / scale, high / scale
    zero = tf.where(128.0 + tf.abs(least) < 127.0 + tf.abs(most), -128.0 - least, 127.0 - most)
    zero = tf.stop_gradient(tf.cast(tf.clip_by_value(_half_away(zero), -128.0, 127.0), tf.float32))
    scale = tf.stop_gradient(tf.cast(scale, tf.float32))
    codes = tf.clip_by_value(straight_through(_half_away)(values * (1.0 / scale) + zero), -128.0, 127.0)
    return codes, zero, scale


def _half_away(values: "tf.Tensor") -> Any:
    """Return whole numbers, halves away from 0."""
    import tensorflow as tf

    return tf.sign(values) * tf.floor(tf.abs(values) + 0.5)


def _codes_along(values: "tf.Tensor", axes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Return (codes, zero point, scale) of `values`, over their range along `axes`; all are float32.

    The range is stretched to hold 0, and the zero point is that of the end with the smaller error, as XNNPACK has it.
    """
    import tensorflow as tf

    low = tf.minimum(tf.reduce_min(values, axes, keepdims=True), 0.0)
    high = tf.maximum(tf.reduce_max(values, axes, keepdims=True), 0.0)
    inverse = tf.where(high > low, 255.0 / (high - low), tf.ones_like(low))
    least, most = low * inverse, high * inverse
    zero = tf.where((-128.0 + least) + (127.0 + most) > 0, -128.0 - least, 127.0 - most)
    zero = tf.stop_gradient(tf.clip_by_value(tf.round(zero), -128.0, 127.0))
    inverse = tf.stop_gradient(inverse)
    codes = tf.clip_by_value(straight_through(tf.round)(values * inverse) + zero, -128.0, 127.0)
    scale = tf.cast(
        1.0 / tf.cast(inverse, tf.float64), tf.float32
    )  # in float32, TensorFlow would divide by 255 instead
    return codes, zero, scale
