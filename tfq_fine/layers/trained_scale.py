"""A scale that is trained: a variable that it is multiplied with, 1 where training starts.

Optimizers such as Adam move every variable by about their rate, whatever its size. A scale of 0.01 would double within
ten steps of 1e-3; as a multiple of its start it moves by a thousandth. Under plain gradient descent the scale moves as
LSQ has it (Esser et al. 2020, arXiv 1902.08153, section 2.2).
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfq_converters.graph import Float32Array
from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.numerics import TINY


class TrainedScale:
    """Two variables of a layer, `name` and `name_start`, of one shape; `scale = name_start * name`, in float32."""

    def __init__(self, owner: Any, name: str, shape: tuple[int, ...] = ()):
        self.times = owner.add_weight(shape=shape, initializer="ones", trainable=True, name=name)
        self.start = owner.add_weight(shape=shape, initializer="ones", trainable=False, name=f"{name}_start")

    def set(self, scale: Any) -> None:
        """Start from `scale`, which keeps its sign."""
        self.start.assign(scale)
        self.times.assign(tf.ones_like(self.times.value))

    @property
    def value(self) -> Any:
        """The scale, without the gradient of LSQ."""
        size = tf.maximum(tf.abs(self.times.value * self.start.value), TINY)
        return tf.where(self.start.value < 0, -size, size)

    def trained(self, values: int, highest: int) -> Any:
        """Return the scale, with its gradient.

        Args:
            values: the number of values that share it.
            highest: the largest code.
        """
        return arithmetic.learned_scale(self.times.value, self.start.value, values, highest)

    def numpy(self) -> Float32Array:
        """Return the scale, float32 of the shape of the blocks, bit for bit."""
        times, start = np.asarray(self.times), np.asarray(self.start)
        size = np.maximum(np.abs(times * start), np.float32(TINY))
        return np.asarray(np.where(start < 0, -size, size))
