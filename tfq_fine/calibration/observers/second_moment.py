"""The second moment E[x x^T] of the inputs x that a linear operator multiplies with its weights.

Frantar et al. 2023, GPTQ, arXiv 2210.17323, equation 1: 2 x x^T is the Hessian of the squared output error. For a
convolution, x is a patch (`algorithms.patches`).
"""

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array, Op, Subgraph
from tfq_fine.algorithms import patches


def second_moment(data: Float32Array, op: Op, subgraph: Subgraph) -> Float64Array:
    """Return the mean of x x^T over all patches of one run.

    Args:
        data: float32 input of the operator, samples along axis 0.
        op: FULLY_CONNECTED, CONV_2D, DEPTHWISE_CONV_2D, CONV_3D, TRANSPOSE_CONV or BATCH_MATMUL by a constant.
        subgraph: the subgraph that holds it.

    Returns:
        float32 [groups, K, K], the products by BLAS.
    """
    rows = patches(data, op, subgraph)
    return np.asarray(np.matmul(rows.transpose(0, 2, 1), rows) / np.float32(rows.shape[1]))
