"""The operators that stay float so that an activation reaches its readers without having been rounded."""

from tfq_converters.graph import Subgraph
from tfq_converters.operators import facts_of, weight_axes
from tfq_fine.transforms.channel_scaling import value_readers


def float_makers(main: Subgraph, tensor: int) -> frozenset[int]:
    """Return the operators that compute `tensor` from what linear operators make, where they compute nothing else.

    It goes back to the results of linear operators, of products of two activations, of SOFTMAX, and to activations that
    something else reads as well. The set is empty where a linear operator with constant weights makes `tensor`: its
    integer kernel rounds it.
    """
    producers, makers = main.producers(), set[int]()
    waiting = [tensor]
    while waiting:
        t = waiting.pop()
        o = producers.get(t)
        shared = t != tensor and (
            t in main.outputs or any(reader not in makers for reader, _ in value_readers(main, t))
        )
        if o is None or o in makers or shared or main.tensors[t].dtype != "float32":
            continue
        if weight_axes(main.ops[o], main):
            continue
        makers.add(o)
        if not facts_of(main.ops[o].code).linear and main.ops[o].code != "SOFTMAX":
            waiting.extend(main.ops[o].inputs)
    computes = any(not facts_of(main.ops[o].code).moves for o in makers)
    return frozenset(makers) if computes else frozenset()
