"""Random inputs for one signature of a float graph: shapes, types, and values that suit what it does with them."""

import numpy as np

from tfq_converters.graph import AnyArray, Graph, Signature
from tfq_converters.runtime import drawn, role_of


def random_inputs(graph: Graph, signature: Signature, samples: int, free: int, seed: int) -> dict[str, AnyArray]:
    """Return inputs for one signature, by argument name.

    Plain floats are drawn from a normal distribution for even seeds, uniformly from [0, 1) for odd ones.

    Args:
        graph: the float graph.
        signature: the entry point to feed.
        samples: the size of an unknown first dimension.
        free: the size of every other unknown dimension.
        seed: the seed of the generator.

    Raises:
        KeyError: an input has a type that NumPy does not have.
    """
    subgraph = graph.subgraphs[signature.subgraph]
    rng = np.random.default_rng(seed)
    inputs: dict[str, AnyArray] = {}
    for name, index in signature.inputs:
        tensor = subgraph.tensors[index]
        sizes = enumerate(tensor.dynamic_shape)
        shape = tuple((samples if axis == 0 else free) if size < 0 else size for axis, size in sizes)
        inputs[name] = drawn(rng, tensor, role_of(subgraph, index), shape, seed % 2 == 0)
    return inputs
