"""Shapes after a table of strings or numbers: the stock converter writes none for a looked-up value, nor further on.

The runtime finds most of them when it runs. But of one key, whose result has as many elements as the file says, namely
one, it keeps a scalar: a GATHER of rows then lacks an axis, and a RESHAPE by that shape fails.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph, Tensor
from tfq_converters.operators import facts_of

Shape = tuple[int, ...]


def with_shapes_after_lookups(graph: Graph) -> Graph:
    """Return `graph` with shapes for table lookups and all computed from them; itself if it has them."""
    changed = [_shaped(subgraph) for subgraph in graph.subgraphs]
    if all(new is old for new, old in zip(changed, graph.subgraphs, strict=True)):
        return graph
    return replace(graph, subgraphs=tuple(changed))


def _shaped(subgraph: Subgraph) -> Subgraph:
    if not any(_looks_up(op) for op in subgraph.ops):
        return subgraph
    tensors = list(subgraph.tensors)
    for op in subgraph.ops:
        if len(op.outputs) == 1 and not tensors[op.outputs[0]].has_rank:
            signature = _result(op, [tensors[t] for t in op.inputs if t != ABSENT])
            if signature is not None:
                shape = tuple(1 if size == -1 else size for size in signature)
                open_ = signature if -1 in signature else None
                tensors[op.outputs[0]] = replace(
                    tensors[op.outputs[0]], shape=shape, shape_signature=open_, has_rank=True
                )
    return replace(subgraph, tensors=tuple(tensors))


def _looks_up(op: Op) -> bool:
    """Return whether `op` takes a table, keys and a default value, and gives a value for each key."""
    return op.code == "HASHTABLE_FIND" or op.custom_code == "FlexLookupTableFindV2"


def _result(op: Op, inputs: list[Tensor]) -> Shape | None:
    """Return the shape of what `op` computes, -1 where it is open; None where that is not known."""
    if _looks_up(op):
        return _known(inputs[1])
    shapes = [_known(tensor) for tensor in inputs]
    if any(shape is None for shape in shapes):
        return None
    complete = [shape for shape in shapes if shape is not None]
    if facts_of(op.code).elementwise:
        rank = max(map(len, complete))
        axes = zip(*((*(1,) * (rank - len(shape)), *shape) for shape in complete), strict=True)
        return tuple(-1 if -1 in sizes else int(np.max(sizes)) for sizes in axes)
    if op.code == "GATHER" and not op.option("batchDims"):
        axis = op.option("axis")
        return complete[0][:axis] + complete[1] + complete[0][axis + 1 :]
    return None


def _known(tensor: Tensor) -> Shape | None:
    """Return the shape of a tensor, None where not even its rank is known; a constant always has one."""
    return tensor.dynamic_shape if tensor.has_rank or tensor.is_constant else None
