"""The scale of an activation as a variable, and how the tensors of a block are rounded while it is learned.

Esser et al. 2020, "Learned Step Size Quantization" (arXiv 1902.08153), equations 1 to 3: v = s * round(clip(x / s)),
whose gradient for s is round(x / s) - x / s within the range and the code of the end beyond it. Zero points stay, so
that a kernel that wants one of 0 has it, and the 0 of padding is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tfq_converters.quantized import ActivationEncoding
from tfq_fine.emulation import affine_tf


@dataclass(frozen=True)
class SoftRange:
    """One encoding whose scale is being learned.

    Attributes:
        start: the encoding that it begins at.
        stretch: the logarithm of what its scale is multiplied with, a TensorFlow variable of one value.
    """

    start: ActivationEncoding
    stretch: Any

    @staticmethod
    def of(tf: Any, start: ActivationEncoding) -> "SoftRange":
        """Return the range that begins at an encoding."""
        return SoftRange(start, tf.Variable(0.0, dtype=tf.float32))

    def rounded(self, tf: Any, values: Any) -> Any:
        """Return what the encoding holds of `values`, float32 of their shape."""
        limits = np.iinfo(self.start.dtype)
        scale = np.float32(self.start.scale) * tf.exp(self.stretch)
        return affine_tf.fake_quantized(values, scale, float(self.start.zero_point), limits.min, limits.max)

    def encoding(self) -> ActivationEncoding:
        """Return the encoding as it is now."""
        return replace(self.start, scale=float(np.float32(self.start.scale * np.exp(float(self.stretch.numpy())))))


@dataclass(frozen=True)
class SoftRanges:
    """The encodings that the operators of a block write.

    Attributes:
        of_tensor: tensor -> its encoding.
        learned: those whose scales are learned, by any name.
    """

    of_tensor: Mapping[int, SoftRange] = field(default_factory=dict)
    learned: Mapping[Any, SoftRange] = field(default_factory=dict)

    def rounded(self, tf: Any, t: int, values: Any) -> Any:
        """Return what is held of tensor `t`, of the shape of `values`; all of it where it has no encoding."""
        return self.of_tensor[t].rounded(tf, values) if t in self.of_tensor else values
