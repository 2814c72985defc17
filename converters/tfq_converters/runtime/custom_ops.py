"""Asks the runtimes here which custom operators they execute, in a process of their own, once each.

A fixed list would not be right: some custom operators come with the interpreter, some only with a delegate, which takes
them where their shapes and constants suit it, and those of TensorFlow (SELECT_TF_OPS) need a delegate that no Python
package has.
"""

from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import ABSENT, NUMPY_TYPES, AnyArray, Graph, Op, Subgraph, Tensor
from tfq_converters.graph_edit import part
from tfq_converters.runtime.child_runs import waiting
from tfq_converters.runtime.runner import Kernels

FLEX = "Flex"  # begins the names of TensorFlow's own operators; one answer holds for all shapes
ASKED: tuple[Kernels, ...] = ("default", "reference")
_answers: dict[Any, dict[str, bool]] = {}


def executes(kernels: Kernels, op: Op, subgraph: Subgraph) -> bool:
    """Return whether `kernels` run the custom operator `op` of `subgraph`; all slow ones give the same answer."""
    key = _key(op, subgraph)
    if key not in _answers:
        _answers[key] = _asked(op, subgraph)
    return _answers[key]["default" if kernels == "default" else "reference"]


def _key(op: Op, subgraph: Subgraph) -> Any:
    if op.custom_code.startswith(FLEX):
        return op.custom_code
    tensors = (subgraph.tensors[t] for t in (*op.inputs, *op.outputs) if t != ABSENT)
    return op.custom_code, op.custom_options, tuple((tensor.shape, tensor.dtype) for tensor in tensors)


def _asked(op: Op, subgraph: Subgraph) -> dict[str, bool]:
    """Run the operator alone, over its constants and random values."""
    producers = subgraph.producers()
    unpacking = [producers[t] for t in dict.fromkeys(op.inputs) if t in producers and _unpacks(subgraph, producers[t])]
    index = next(
        o for o, other in enumerate(subgraph.ops) if other is op or (op.outputs and other.outputs == op.outputs)
    )
    alone = part(Graph((subgraph,)), [*unpacking, index])
    if not alone.graph.main.outputs:  # it makes a resource or nothing, which no answer would show
        return dict.fromkeys(ASKED, False)
    rng = np.random.default_rng(0)
    values = [_value(rng, alone.graph.main.tensors[t]) for t in alone.graph.main.inputs]
    with waiting() as runs:
        runs.give(alone.graph, None, alone.graph.main.outputs, [values], ASKED)
        answers: dict[str, bool] = {}
        for kernels in ASKED:
            try:
                runs.result(kernels)
                answers[kernels] = True
            except TfqError:
                answers[kernels] = False
    return answers


def _unpacks(subgraph: Subgraph, index: int) -> bool:
    """Return whether operator `index` makes a float constant of a stored one."""
    op = subgraph.ops[index]
    return op.code == "DEQUANTIZE" and subgraph.tensors[op.inputs[0]].is_constant


def _value(rng: np.random.Generator, tensor: Tensor) -> AnyArray:
    if tensor.dtype == "string":
        return np.full(tensor.shape, b"", np.bytes_)
    kind = np.dtype(NUMPY_TYPES.get(tensor.dtype, np.int32))
    return rng.normal(size=tensor.shape).astype(kind) if kind.kind == "f" else np.zeros(tensor.shape, kind)
