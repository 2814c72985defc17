"""`tfq-fine inspect`: what a `.tflite` file holds."""

import argparse
import os

from tfq_converters import flatbuffer
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph, Tensor
from tfq_fine.cli.terminal import show
from tfq_fine.devices import DEVICES, not_running
from tfq_fine.numerics import constant_bytes
from tfq_fine.report import Grid, Paragraph, Section, SectionsText, brief_name, size

RUNTIME_VERSION = "min_runtime_version"


def run(arguments: argparse.Namespace) -> int:
    """Print the description.

    Raises:
        TfqError: the file cannot be read.
    """
    graph = flatbuffer.read(arguments.tflite)
    sections = describe(graph, os.path.getsize(arguments.tflite), arguments.tensors)
    show(SectionsText(sections))
    return 0


def describe(graph: Graph, file_bytes: int, tensors: bool = False) -> list[Section]:
    """Return inputs and outputs, operators by kind and types, bytes by type, signatures and metadata.

    Args:
        graph: what the file says.
        file_bytes: its size.
        tensors: whether to list every tensor.
    """
    version = graph.metadata.get(RUNTIME_VERSION, b"").rstrip(b"\0").decode(errors="replace")
    counts = [len(graph.subgraphs), sum(len(s.tensors) for s in graph.subgraphs), sum(1 for _ in graph.ops())]
    heading = (
        f"{size(file_bytes)} bytes; subgraphs {counts[0]}, tensors {counts[1]}, operators {counts[2]}; "
        f"{RUNTIME_VERSION} {version or 'not given'}"
    )
    sections: list[Section] = [Paragraph(heading), _borders(graph), _operators(graph)]
    rows = [(dtype, size(count)) for dtype, count in constant_bytes(graph).items()]
    sections.append(Grid("Constants", ("type", ">bytes"), rows))
    if graph.signatures:
        sections.append(_signatures(graph))
    other = [(name, size(len(content))) for name, content in graph.metadata.items() if name != RUNTIME_VERSION]
    if other:
        sections.append(Grid("Metadata", ("name", ">bytes"), other))
    sections.append(_devices(graph))
    if tensors:
        sections += [_tensors(subgraph, index) for index, subgraph in enumerate(graph.subgraphs)]
    return sections


def _devices(graph: Graph) -> Grid:
    rows = [
        (row.name, "; ".join(not_running(graph, row)) or "nothing known against it", row.not_measured)
        for row in DEVICES.values()
    ]
    return Grid("Devices", ("device", "does it run there", "not measured here"), rows)


def _borders(graph: Graph) -> Grid:
    main = graph.main
    rows = []
    for side, names, indices in (
        ("input", graph.input_names(), main.inputs),
        ("output", graph.output_names(), main.outputs),
    ):
        for name, index in zip(names, indices, strict=True):
            tensor = main.tensors[index]
            rows.append((side, brief_name(name), tensor.dtype, _shape(tensor), _scale(tensor)))
    return Grid("Inputs and outputs", ("", "name", "type", "shape", "scale"), rows)


def _operators(graph: Graph) -> Grid:
    counts: dict[tuple[str, ...], int] = {}
    for (s, _), op in graph.ops():
        key = (op.label, *_op_types(op, graph.subgraphs[s]), str(op.version))
        counts[key] = counts.get(key, 0) + 1
    rows = [(*key, str(count)) for key, count in sorted(counts.items())]
    return Grid("Operators", ("kind", "inputs", "constants", "outputs", ">version", ">count"), rows)


def _op_types(op: Op, subgraph: Subgraph) -> tuple[str, str, str]:
    inputs = [subgraph.tensors[index] for index in op.inputs if index != ABSENT]
    fed = [tensor.dtype for tensor in inputs if not tensor.is_constant]
    constants = [_stored_type(tensor) for tensor in inputs if tensor.is_constant]
    return ", ".join(fed), ", ".join(constants), ", ".join(subgraph.tensors[index].dtype for index in op.outputs)


def _stored_type(tensor: Tensor) -> str:
    quantization = tensor.quantization
    if quantization is None:
        return tensor.dtype
    if quantization.block_size:
        return f"{tensor.dtype} blocks of {quantization.block_size}"
    return f"{tensor.dtype} per-channel" if len(quantization.scale) > 1 else f"{tensor.dtype} per-tensor"


def _signatures(graph: Graph) -> Grid:
    rows = [
        (
            signature.key,
            str(signature.subgraph),
            ", ".join(name for name, _ in signature.inputs),
            ", ".join(name for name, _ in signature.outputs),
        )
        for signature in graph.signatures
    ]
    return Grid("Signatures", ("key", "subgraph", "inputs", "outputs"), rows)


def _tensors(subgraph: Subgraph, index: int) -> Grid:
    rows = [
        (str(t), brief_name(tensor.name), tensor.dtype, _shape(tensor), _scale(tensor), _kind(tensor))
        for t, tensor in enumerate(subgraph.tensors)
    ]
    return Grid(f"Tensors of subgraph {index}", (">", "name", "type", "shape", "scale", ""), rows)


def _kind(tensor: Tensor) -> str:
    return "constant" if tensor.is_constant else "variable" if tensor.is_variable else ""


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join('?' if length == -1 else str(length) for length in tensor.dynamic_shape)}]"


def _scale(tensor: Tensor) -> str:
    quantization = tensor.quantization
    if quantization is None:
        return ""
    if quantization.scale.size > 1:
        return f"{quantization.scale.size} scales along axis {quantization.axis}"
    return f"{quantization.scale.reshape(-1)[0]:.6g} * (code - {int(quantization.zero_point.reshape(-1)[0])})"
