"""Networks whose channels differ in size."""

from dataclasses import replace

import numpy as np

from support.graphs import RELU
from support.nets import Net
from tfq_converters.graph import Graph, Options


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


def joined(first: float, fixed: bool) -> Graph:
    """Two branches, one `first` times as large, or the input itself and a branch, in one concatenation and a layer."""
    net = Net(1, 6)
    one = 0 if fixed else net.dense(0, 7, RELU)
    other = net.dense(0, 5, RELU)
    for slot in () if fixed else (1, 2):
        maker = next(op for op in net.ops if op.outputs == (one,))
        tensor = net.tensors[maker.inputs[slot]]
        assert tensor.data is not None
        net.tensors[maker.inputs[slot]] = replace(tensor, data=(tensor.data * np.float32(first)))
    width = net.tensors[one].shape[-1] + 5
    options = Options("ConcatenationOptions", {"axis": -1, "fusedActivationFunction": 0})
    x = net.add("CONCATENATION", (one, other), (1, width), options)
    y = net.dense(x, 4)
    weight = net.tensors[net.ops[-1].inputs[1]]
    assert weight.data is not None
    data = weight.data.copy()
    data[:, : width - 5] /= np.float32(first)  # both parts matter as much
    net.tensors[net.ops[-1].inputs[1]] = replace(weight, data=data)
    return net.graph(y)
