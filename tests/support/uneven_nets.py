"""Networks whose channels differ in size."""

from dataclasses import replace

import numpy as np

from support.nets import Net


def uneven(net: Net, x: int) -> int:
    """The last operator's output channels made of very different sizes."""
    slot = 1
    op = net.ops[-1]
    weight = net.tensors[op.inputs[slot]]
    assert weight.data is not None
    axis = weight.data.ndim - 1 if op.code == "DEPTHWISE_CONV_2D" else 0
    sizes = np.geomspace(0.02, 2, weight.data.shape[axis]).reshape(
        [-1 if a == axis else 1 for a in range(weight.data.ndim)]
    )
    net.tensors[op.inputs[slot]] = replace(weight, data=(weight.data * sizes).astype(np.float32))
    bias = net.tensors[op.inputs[2]]
    assert bias.data is not None
    net.tensors[op.inputs[2]] = replace(bias, data=(bias.data * sizes.reshape(-1) * 0.1).astype(np.float32))
    return x
