"""Turns the numbers of a `QuantizedGraph` into a graph that the kernels run.

One function (builder, op, encoding) per form adds the operators which compute `op`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tfq_converters.graph import Graph, Op, Signature, Subgraph
from tfq_converters.quantized import Form, OpEncoding, QuantizedGraph, TensorKey
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder, ValueForm
from tfq_converters.realize.dynamic_range import dynamic_range
from tfq_converters.realize.embedding import look_up
from tfq_converters.realize.full_integer import full_integer
from tfq_converters.realize.matrix import as_fully_connected, blockwise
from tfq_converters.realize.split import split
from tfq_converters.realize.weight_only import weight_only

_Realization = Callable[[SubgraphBuilder, Op, OpEncoding], None]


def _native(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    (full_integer if encoding.mode == "integer" else dynamic_range)(builder, op, encoding)


def _pointwise(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    _native(builder, *as_fully_connected(builder, op, encoding))


REALIZATIONS: dict[Form, _Realization] = {
    "native": _native,
    "pointwise": _pointwise,
    "blockwise": blockwise,
    "split": split,
    "dequantize": weight_only,
    "lookup": look_up,
}
_FLOAT_OP = OpEncoding("float", form="dequantize")


@dataclass(frozen=True)
class Realized:
    """The emitted graph, and where the values of the float graph live in it."""

    graph: Graph
    places: Mapping[TensorKey, Mapping[ValueForm, int]]  # tensor of the float graph -> form -> tensor of `graph`


def realize(quantized: QuantizedGraph) -> Realized:
    """Return the graph of the file that computes what `quantized` says."""
    subgraphs: list[Subgraph] = []
    places: dict[TensorKey, Mapping[ValueForm, int]] = {}
    for s in range(len(quantized.graph.subgraphs)):
        subgraph, realized_values = _subgraph(quantized, s)
        subgraphs.append(subgraph)
        places |= {(s, tensor): forms for tensor, forms in realized_values.items()}
    signatures = tuple(
        _moved(signature, quantized.graph.subgraphs[signature.subgraph], subgraphs[signature.subgraph])
        for signature in quantized.graph.signatures
    )
    return Realized(replace(quantized.graph, subgraphs=tuple(subgraphs), signatures=signatures), places)


def _subgraph(quantized: QuantizedGraph, s: int) -> tuple[Subgraph, dict[int, dict[ValueForm, int]]]:
    source = quantized.graph.subgraphs[s]
    builder = SubgraphBuilder(source)
    inputs = [builder.output(t, quantized.borders.get((s, t), FLOAT)) for t in source.inputs]
    for o, op in enumerate(source.ops):
        encoding = quantized.ops.get((s, o), _FLOAT_OP)
        builder.layer = op.layer
        REALIZATIONS[encoding.form](builder, op, encoding)
    outputs = [builder.value(t, quantized.borders.get((s, t), FLOAT)) for t in source.outputs]
    for tensor, emitted in zip(source.outputs, outputs, strict=True):
        builder.keep_name(tensor, emitted)
    subgraph, moved = builder.finish(source, inputs, outputs)
    return subgraph, {
        tensor: {form: moved[index] for form, index in forms.items() if index in moved}
        for tensor, forms in builder.all_forms().items()
    }


def _moved(signature: Signature, source: Subgraph, emitted: Subgraph) -> Signature:
    inputs = dict(zip(source.inputs, emitted.inputs, strict=True))
    outputs = dict(zip(source.outputs, emitted.outputs, strict=True))
    return replace(
        signature,
        inputs=tuple((name, inputs[index]) for name, index in signature.inputs),
        outputs=tuple((name, outputs[index]) for name, index in signature.outputs),
    )
