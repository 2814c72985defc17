"""Float graphs with norms as TFLite holds them, some of whose channels are far larger than the others."""

from dataclasses import replace

import numpy as np

from support.nets import Net
from tfq_converters.graph import Graph, Options


def layer_norm(net: Net, x: int, gamma: np.ndarray, beta: np.ndarray) -> int:
    """y = x * g + (-m * g + beta), g = r * gamma."""
    mean = channel_mean(net, x)
    difference = net.add("SQUARED_DIFFERENCE", (x, mean), net.shape(x), Options("SquaredDifferenceOptions", {}))
    gain = product(net, reciprocal(net, channel_mean(net, difference)), net.constant(gamma.astype(np.float32)))
    negative = net.add("NEG", (mean,), net.shape(mean), Options("NegOptions", {}))
    shift = net.with_constant("ADD", product(net, negative, gain), net.constant(beta.astype(np.float32)))
    return net.sum(product(net, x, gain), shift)


def rms_norm(net: Net, x: int, gamma: np.ndarray) -> int:
    """y = (x * r) * gamma."""
    normed = product(net, x, reciprocal(net, channel_mean(net, product(net, x, x))))
    return product(net, normed, net.constant(gamma.astype(np.float32)))


def channel_mean(net: Net, x: int) -> int:
    axes = net.constant(np.array([len(net.shape(x)) - 1], np.int32))
    return net.add("MEAN", (x, axes), (*net.shape(x)[:-1], 1), Options("ReducerOptions", {"keepDims": True}))


def reciprocal(net: Net, x: int) -> int:
    return net.simple("RSQRT", net.with_constant("ADD", x, net.constant(np.array(1e-5, np.float32))))


def product(net: Net, x: int, y: int) -> int:
    shape = np.broadcast_shapes(net.shape(x), net.shape(y))
    return net.add("MUL", (x, y), shape, Options("MulOptions", {"fusedActivationFunction": 0}))


def block(outlier: float = 1.0, beta: np.ndarray | None = None) -> Graph:
    """A layer norm that three layers read, and a layer after them. Whatever the outlier, it computes the same function.

    Args:
        outlier: gamma and beta of three channels are so many times larger, and the weights that read them smaller.
        beta: the shift of the norm without outliers [33].
    """
    net, size = Net(1, 7, 33), np.ones(33)
    size[[4, 11, 30]] = outlier
    x = net.dense(0, 33)
    gamma, small = net.rng.uniform(0.5, 1.5, 33), net.rng.normal(0, 0.1, 33)
    shift = (small if beta is None else beta) * size
    y = layer_norm(net, x, gamma * size, shift)
    query, key, value = (even_dense(net, y, 17, size, shift) for _ in range(3))
    mixed = net.simple("TANH", net.sum(net.sum(query, key), value))
    return net.graph(even_dense(net, mixed, 5, np.ones(17), np.zeros(17)))


def decoder_block(outlier: float = 1.0) -> Graph:
    """Attention and an MLP with GELU, each after a layer norm, on a residual stream [1, 7, 33]; a norm and logits.

    Whatever the outlier, it computes the same function: three channels of each norm are so many times larger, and the
    weights that read them smaller.
    """
    net, size = Net(1, 7, 33), np.ones(33)
    size[[4, 11, 30]] = outlier
    norms: list[int] = []

    def normed(x: int) -> int:
        gamma, beta = net.rng.uniform(0.5, 1.5, 33), net.rng.normal(0, 0.1, 33)
        norms.append(layer_norm(net, x, gamma * size, beta * size))
        return norms[-1]

    x = net.dense(0, 33)
    x = net.sum(x, net.dense(attention(net, normed(x), 3, 5), 33))
    x = net.sum(x, net.dense(net.simple("GELU", net.dense(normed(x), 35)), 33))
    out = net.dense(normed(x), 5)
    for o, op in enumerate(net.ops):
        if op.code == "FULLY_CONNECTED":  # weights that leave the size of what they read
            source, weight, bias = op.inputs
            rows = net.tensors[weight].constant * net.shape(source)[-1] ** -0.5
            small = rows / size if source in norms else rows
            net.ops[o] = replace(op, inputs=(source, net.constant(small.astype(np.float32)), bias))
    return net.graph(out)


def even_dense(net: Net, x: int, channels: int, size: np.ndarray, mean: np.ndarray) -> int:
    """A layer whose weights are divided by `size` [C], and whose outputs are around 0 where x is around `mean` [C]."""
    out = net.dense(x, channels)
    values = net.rng.normal(0, len(size) ** -0.5, (channels, len(size))) / size
    constants = (net.constant(each.astype(np.float32)) for each in (values, -values @ mean))
    net.ops[-1] = replace(net.ops[-1], inputs=(x, *constants))
    return out


def attention(net: Net, x: int, heads: int, depth: int, bias_by_head: bool = False) -> int:
    """Return the merged heads [1, tokens, heads * depth] of attention of `x` [1, tokens, C] to itself."""
    query, key, value = (split_heads(net, net.dense(x, heads * depth), heads) for _ in range(3))
    if bias_by_head:  # as Keras writes it: the bias [heads, depth] is added after the split
        value = split_heads(net, net.dense(x, heads * depth, bias=False), heads, net.random(heads, depth))
    scores = matmul(net, query, key, transposed=True)
    return merged(net, matmul(net, net.add("SOFTMAX", (scores,), net.shape(scores), SOFTMAX), value))


SOFTMAX = Options("SoftmaxOptions", {"beta": 1.0})


def split_heads(net: Net, x: int, heads: int, bias: int | None = None) -> int:
    """Return [1, tokens, heads * depth] as [1, heads, tokens, depth]."""
    _, tokens, channels = net.shape(x)
    apart = net.reshape(x, 1, tokens, heads, channels // heads)
    return transposed(net, apart if bias is None else net.with_constant("ADD", apart, bias))


def merged(net: Net, x: int) -> int:
    """Return [1, heads, tokens, depth] as [1, tokens, heads * depth]."""
    _, heads, tokens, depth = net.shape(x)
    return net.reshape(transposed(net, x), 1, tokens, heads * depth)


def transposed(net: Net, x: int) -> int:
    batch, one, two, depth = net.shape(x)
    order = net.constant(np.array([0, 2, 1, 3], np.int32))
    return net.add("TRANSPOSE", (x, order), (batch, two, one, depth), Options("TransposeOptions", {}))


def matmul(net: Net, x: int, y: int, transposed: bool = False) -> int:
    values = {"adjX": False, "adjY": transposed, "asymmetricQuantizeInputs": False}
    shape = (*net.shape(x)[:-1], net.shape(y)[-2 if transposed else -1])
    return net.add("BATCH_MATMUL", (x, y), shape, Options("BatchMatMulOptions", values))
