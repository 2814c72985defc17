"""One kernel of a layer: how the file holds it, and the variable that decides its scales."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_converters.graph import Float32Array, FloatArray, Int64Array
from tfq_fine.layers.kernel_plan import KernelPlan
from tfq_fine.layers.layer_table import Kernel, Layout, to_op
from tfq_fine.numerics import affine


@dataclass(frozen=True)
class QuantizedKernel:
    """A kernel of a wrapped layer."""

    kernel: Kernel
    variable: Any
    layout: Layout
    plan: KernelPlan
    factors: Any = None  # shares of the extent of each block; a `TrainedScale` or `FixedScale` when they are scales
    inside: Any = None  # range of what the operator reads, when that is a tensor inside the layer
    fitted: Any = None  # a `FittedKernel` where codes are fitted to the inputs

    @property
    def values(self) -> Float32Array:
        """The float values, float32, in the operator's axes."""
        return np.ascontiguousarray(to_op(np.asarray(self.variable), self.layout))

    @property
    def coded_values(self) -> Float32Array:
        """The values whose nearest codes are the kernel's, float32, in the operator's axes."""
        if self.fitted is None:
            return self.values
        return np.ascontiguousarray(to_op(np.asarray(self.variable) + np.asarray(self.fitted.offset), self.layout))

    def extent_scales(
        self, shares: FloatArray | float = 1.0, in_common: bool = False
    ) -> tuple[Float32Array, Int64Array]:
        """Return scales and zero points that cover `shares` of the extent of each block, as `affine` has them.

        Args:
            shares: of the shape of the kernel's blocks, or one for all.
            in_common: the extent of all of the kernel for every block.
        """
        low, high = affine.block_extent(self.values, self.plan.block)
        if in_common:
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        return affine.weight_scale(low * shares, high * shares, self.plan.codes)
