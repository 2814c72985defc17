"""A scale that is trained: a variable that it is multiplied with, 1 where training starts.

Optimizers such as Adam move every variable by about their rate, whatever its size. A scale of 0.01 would double within
ten steps of 1e-3; as a multiple of its start it moves by a thousandth. Under plain gradient descent the scale moves as
LSQ has it (Esser et al. 2020, arXiv 1902.08153, section 2.2).
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.numerics import TINY


class TrainedScale:
    """Two variables of a layer, `name` and `name_start`, of one shape; `scale = name_start * name`, in float32."""

    def __init__(self, owner: Any, name: str, shape: tuple[int, ...] = ()):
        self.times = owner.add_weight(shape=shape, initializer="ones", trainable=True, name=name)
        self.start = owner.add_weight(shape=shape, initializer="ones", trainable=False, name=f"{name}_start")

    def set(self, scale: Any) -> None:
        """Start from `scale`, positive."""
        self.start.assign(scale)
        self.times.assign(tf.ones_like(self.times.value))

    @property
    def value(self) -> Any:
        """The scale, without the gradient of LSQ."""
        return tf.maximum(tf.abs(self.times.value * self.start.value), TINY)

    def trained(self, values: int, highest: int) -> Any:
        """Return the scale, with its gradient.

        Args:
            values: the number of values that share it.
            highest: the largest code.
        """
        return arithmetic.learned_scale(self.times.value, self.start.value, values, highest)

    def numpy(self) -> np.ndarray:
        """Return the scale, bit for bit."""
        scale: np.ndarray = np.maximum(np.abs(np.asarray(self.times) * np.asarray(self.start)), np.float32(TINY))
        return scale
