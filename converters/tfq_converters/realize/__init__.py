"""Turns the numbers of a `QuantizedGraph` into a graph that the kernels run.

One module per mode; each is a function (builder, op, encoding) that adds the operators which compute `op`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tfq_converters.graph import Graph, Op, Signature, Subgraph
from tfq_converters.quantized import OpEncoding, QuantizedGraph, TensorKey
from tfq_converters.realize.builder import FLOAT, Form, SubgraphBuilder
from tfq_converters.realize.dynamic_range import dynamic_range
from tfq_converters.realize.full_integer import full_integer
from tfq_converters.realize.weight_only import weight_only

REALIZATIONS: dict[str, Callable[[SubgraphBuilder, Op, OpEncoding], None]] = {
    "float": weight_only,
    "float16": weight_only,
    "weight_only": weight_only,
    "dynamic": dynamic_range,
    "integer": full_integer,
}
_FLOAT_OP = OpEncoding("float")


@dataclass(frozen=True)
class Realized:
    """The emitted graph, and where the values of the float graph live in it."""

    graph: Graph
    places: Mapping[TensorKey, Mapping[Form, int]]  # tensor of the float graph -> form -> tensor of `graph`


def realize(quantized: QuantizedGraph) -> Realized:
    """The graph of the file that computes what `quantized` says."""
    subgraphs: list[Subgraph] = []
    places: dict[TensorKey, Mapping[Form, int]] = {}
    for s in range(len(quantized.graph.subgraphs)):
        subgraph, found = _subgraph(quantized, s)
        subgraphs.append(subgraph)
        places |= {(s, tensor): forms for tensor, forms in found.items()}
    signatures = tuple(
        _moved(signature, quantized.graph.subgraphs[signature.subgraph], subgraphs[signature.subgraph])
        for signature in quantized.graph.signatures
    )
    return Realized(replace(quantized.graph, subgraphs=tuple(subgraphs), signatures=signatures), places)


def _subgraph(quantized: QuantizedGraph, s: int) -> tuple[Subgraph, dict[int, dict[Form, int]]]:
    source = quantized.graph.subgraphs[s]
    builder = SubgraphBuilder(source)
    inputs = [builder.output(t, quantized.borders.get((s, t), FLOAT)) for t in source.inputs]
    for o, op in enumerate(source.ops):
        encoding = quantized.ops.get((s, o), _FLOAT_OP)
        builder.layer = op.layer
        REALIZATIONS[encoding.mode](builder, op, encoding)
    outputs = [builder.value(t, quantized.borders.get((s, t), FLOAT)) for t in source.outputs]
    for tensor, emitted in zip(source.outputs, outputs, strict=True):
        builder.keep_name(tensor, emitted)
    subgraph, moved = builder.finish(inputs, outputs)
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
