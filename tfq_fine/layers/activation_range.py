"""The range of one activation of a wrapped layer: observed, averaged while training, learned or frozen."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.layers.trained_scale import TrainedScale


class ActivationRange:
    """Variables of a wrapper that say how one tensor is quantized.

    `low` and `high` are float32 scalars; with learned scales, `step` is trained and `zero` stays as calibration set it,
    and the range follows from them until it is frozen: `low` and `high` then say what it was, so that an optimizer that
    still moves `step` changes nothing. Nothing is quantized until the range is known.
    """

    def __init__(self, owner: Any, name: str, bits: int, learned: bool, momentum: float, freeze_after: int | None):
        def scalar(kind: str) -> Any:
            return owner.add_weight(shape=(), initializer="zeros", trainable=False, name=f"{name}_{kind}")

        self.bits, self.learned, self.momentum = bits, learned, momentum
        self.freeze_after = math.inf if freeze_after is None else freeze_after
        self.low, self.high = scalar("low"), scalar("high")
        self.known, self.frozen, self.steps = scalar("known"), scalar("frozen"), scalar("steps")
        if learned:
            self.step, self.zero = TrainedScale(owner, f"{name}_step"), scalar("zero")

    @property
    def is_known(self) -> bool:
        """Whether a value was ever seen."""
        return bool(np.asarray(self.known) > 0)

    def observe(self, values: Any) -> None:
        """Widen the range to `values`."""
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        first = self.known.value == 0
        self.low.assign(tf.where(first, low, tf.minimum(self.low.value, low)))
        self.high.assign(tf.where(first, high, tf.maximum(self.high.value, high)))
        self.known.assign(1.0)

    def set(self, low: float, high: float) -> None:
        """Make this the range, and start the learned scale from it."""
        self.low.assign(low)
        self.high.assign(high)
        self.known.assign(1.0)
        self.settle()

    def settle(self) -> None:
        """Start the learned scale from the range."""
        if self.learned:
            step, zero = self._encoding()
            self.step.set(step)
            self.zero.assign(zero)

    def forget(self) -> None:
        """Forget what was seen, before a new calibration."""
        for variable in (self.low, self.high, self.known, self.steps):
            variable.assign(0.0)

    def freeze(self, frozen: bool) -> None:
        """Keep the range unchanged, also under an optimizer that was compiled before, or let it move again."""
        for variable, limit in zip((self.low, self.high), self.limits(), strict=True):
            variable.assign(limit)
        self.settle()
        self.frozen.assign(float(frozen))

    def quantized(self, values: Any, training: bool) -> Any:
        """Return `values` on the codes of the range; unchanged while the range is not known."""
        if training and not self.learned:
            self._average(values)
        scale, zero = self._encoding()
        if self.learned:
            if training:
                self._count()
            moves = self.frozen.value == 0
            scale = tf.where(moves, self._learned_scale(values), scale)
            zero = tf.where(moves, self.zero.value, zero)
        limit = 2 ** (self.bits - 1)
        codes = arithmetic.fake_quantized(values, scale, zero, -limit, limit - 1)
        return tf.where(self.known.value > 0, codes, values)

    def _learned_scale(self, values: Any) -> Any:
        """Return the trained scale, its gradient scaled by how many values of a sample share it."""
        return self.step.trained(math.prod(size or 1 for size in values.shape[1:]), 2 ** (self.bits - 1) - 1)

    def _count(self) -> None:
        """Count a training step of a learned range, which freezes it after as many as were asked for."""
        due = tf.logical_and(self.frozen.value == 0, self.steps.value >= self.freeze_after)
        for variable, limit in zip((self.low, self.high), self._learned_limits(), strict=True):
            variable.assign(tf.stop_gradient(tf.where(due, limit, variable.value)))
        self.frozen.assign(tf.where(due, 1.0, self.frozen.value))
        self.steps.assign(self.steps.value + 1.0)

    def _learned_limits(self) -> tuple[Any, Any]:
        """Return the range whose encoding is the trained step."""
        scale = self.step.value
        if self.bits == 16:
            return -32767 * scale, 32767 * scale
        return scale * (-128 - self.zero.value), scale * (127 - self.zero.value)

    def _average(self, values: Any) -> None:
        """Move the range towards that of `values`, unless it is frozen."""
        stopped = tf.logical_or(self.frozen.value > 0, self.steps.value >= self.freeze_after)
        stopped = tf.logical_and(stopped, self.known.value > 0)
        keep = tf.where(self.known.value > 0, self.momentum, 0.0)
        keep = tf.where(stopped, 1.0, keep)
        for variable, extreme in ((self.low, tf.reduce_min(values)), (self.high, tf.reduce_max(values))):
            variable.assign(tf.stop_gradient(keep * variable.value + (1.0 - keep) * extreme))
        self.steps.assign(self.steps.value + 1.0)
        self.known.assign(1.0)

    def _encoding(self) -> tuple[Any, Any]:
        """Scale and zero point as `affine.activation_encoding` has them."""
        low, high = self.low.value, self.high.value
        if self.bits == 16:
            return arithmetic.symmetric_scale(tf.maximum(-low, high), 16), 0.0
        return arithmetic.activation_scale(low, high, self.bits)

    def limits(self) -> tuple[float, float]:
        """Return the range of this encoding: `affine.activation_encoding(*limits, bits)` gives the same numbers."""
        if not self.learned or np.asarray(self.frozen) > 0:
            return float(np.asarray(self.low)), float(np.asarray(self.high))
        scale = float(self.step.numpy())
        if self.bits == 16:
            return -32767 * scale, 32767 * scale
        zero = float(np.asarray(self.zero))
        return scale * (-128 - zero), scale * (127 - zero)
