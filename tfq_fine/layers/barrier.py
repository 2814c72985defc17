"""A mark before wrapped layers: the converter merges nothing across it into them, and it is not in the file.

The stock converter merges what multiplies or shifts the input of a layer (`Rescaling`, a division, a batch norm) into
its weights. Its operator then reads another tensor than the wrapper saw, over other weights. The mark is a MAXIMUM with
the lowest float, which changes no finite value; it is taken out of the graph that the converter makes.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tfq_converters.graph import Graph, Op, Subgraph
from tfq_fine.layers.input_hooks import data_of

LOWEST = float(np.finfo(np.float32).min)


def put_in_front(layer: Any) -> Any:
    """Wrap `layer.call` so that each float input passes through a marker op."""
    import keras

    call = layer.call

    def marked(value: Any) -> Any:
        floats = hasattr(value, "dtype") and keras.backend.standardize_dtype(value.dtype) == "float32"
        return keras.ops.maximum(value, LOWEST) if floats else value

    def called(*inputs: Any, **named: Any) -> Any:
        data = keras.tree.map_structure(marked, data_of(named))
        return call(*keras.tree.map_structure(marked, inputs), **{**named, **data})

    vars(layer)["call"] = called  # an attribute that Keras does not track; the class stays unchanged
    return layer


def without_marks(graph: Graph) -> Graph:
    """Return the graph of a model whose layers were marked, without the marks."""
    return replace(graph, subgraphs=tuple(_cleaned(subgraph) for subgraph in graph.subgraphs))


def _cleaned(subgraph: Subgraph) -> Subgraph:
    made = {op.outputs[0]: op.inputs[0] for op in subgraph.ops if _is_mark(op, subgraph)}
    for mark, value in made.items():  # in order of execution: a mark on a mark finds that one resolved
        made[mark] = made.get(value, value)
    ops = tuple(
        replace(op, inputs=tuple(made.get(tensor, tensor) for tensor in op.inputs))
        for op in subgraph.ops
        if not made.keys() & set(op.outputs)
    )
    return replace(subgraph, ops=ops)


def _is_mark(op: Op, subgraph: Subgraph) -> bool:
    if op.code != "MAXIMUM" or op.outputs[0] in subgraph.outputs:
        return False
    limit = subgraph.tensors[op.inputs[1]].data
    return limit is not None and limit.dtype == np.float32 and limit.size == 1 and limit.item() == LOWEST
