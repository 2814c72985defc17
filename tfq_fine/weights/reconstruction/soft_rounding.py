"""Rounding as a variable: every weight lies between two codes, and gradients decide for one of them.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv 2004.10568): a weight is
s * (clip(floor + h(V)) - zero point) with the rectified sigmoid h (equation 23), and a regularizer drives h to 0 or 1
(equation 24). Codes begin at those of another algorithm, each a little towards the float weight.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_converters.graph import Float32Array, Int64Array
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms import WeightProblem
from tfq_fine.numerics import affine

ZETA, GAMMA = 1.1, -0.1  # the ends between which the sigmoid is stretched before it is clipped
UNDECIDED = 0.1  # steps: the farthest that a weight begins from its code


@dataclass(frozen=True)
class SoftWeight:
    """One weight whose rounding is being learned.

    Attributes:
        problem: the weight and the form of its codes.
        start: the codes that it begins at.
        floor: float32, the lower of the two codes of every weight.
        variable: V, a TensorFlow variable of the shape of the weight.
        stretch: the logarithm of what scales are multiplied with, a TensorFlow variable of their shape.
        places: the flat index of the scale of every weight, int64 of its shape; None where scales broadcast.
    """

    problem: WeightProblem
    start: WeightCodes
    floor: Float32Array
    variable: Any
    stretch: Any
    places: Int64Array | None

    @staticmethod
    def of(tf: Any, problem: WeightProblem, start: WeightCodes) -> "SoftWeight":
        """Return the weight between the code that it begins at and the one on the side of its float value."""
        places = affine.block_indices(start.codes.shape, start.block)
        scale, zero_point = (array.reshape(-1)[places] for array in (start.scale, start.zero_point))
        away = problem.weight / np.where(scale == 0, 1, scale) + zero_point - start.codes
        between = start.codes + np.clip(away, -UNDECIDED, UNDECIDED)
        floor = np.floor(between)
        part = np.clip(between - floor, 0.01, 0.99)  # at 0 and 1 the sigmoid has next to no slope
        broadcasts = all(
            count == 1 or length == 1 for count, length in zip(start.scale.shape, start.block, strict=True)
        )
        return SoftWeight(
            problem,
            start,
            floor.astype(np.float32),
            tf.Variable(-np.log((ZETA - GAMMA) / (part - GAMMA) - 1), dtype=tf.float32),
            tf.Variable(np.zeros(start.scale.shape), dtype=tf.float32),
            None if broadcasts else places,
        )

    def up(self, tf: Any) -> Any:
        """Return h(V): 0 for the lower code, 1 for the upper one."""
        return tf.clip_by_value(tf.sigmoid(self.variable) * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)

    def values(self, tf: Any) -> Any:
        """Return the real values that the weight has between its codes, float32 of its shape."""
        form = self.problem.codes
        codes = tf.clip_by_value(self.floor + self.up(tf), float(form.lowest), float(form.highest))
        scale = self.start.scale.astype(np.float32) * tf.exp(self.stretch)
        zero_point = self.start.zero_point.astype(np.float32)
        if self.places is not None:
            scale = tf.gather(tf.reshape(scale, [-1]), self.places)
            zero_point = zero_point.reshape(-1)[self.places]
        return scale * (codes - zero_point)

    def undecided(self, tf: Any, power: Any) -> Any:
        """Return the regularizer, the mean of 1 - |2 h - 1|^power: 0 where all weights are on codes."""
        return tf.reduce_mean(1.0 - tf.abs(2.0 * self.up(tf) - 1.0) ** power)

    def codes(self, tf: Any) -> WeightCodes:
        """Return the codes that are nearest now, with scales as the file can hold them."""
        form, start = self.problem.codes, self.start
        up = self.up(tf).numpy() >= 0.5
        codes = np.clip(self.floor + up, form.lowest, form.highest).astype(start.codes.dtype)
        scale = (start.scale * np.exp(self.stretch.numpy())).astype(np.float32)
        if start.scale.shape == self.problem.grid:
            scale, _ = self.problem.floored(scale, start.zero_point)
        scale = affine.ROUNDED_SCALES[form.scales](scale)
        return WeightCodes(codes, scale, start.zero_point, start.bits, start.block)
