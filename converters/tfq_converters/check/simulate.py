"""Simulation of the quantized numbers: every float operator by itself, over dequantized weights and given inputs.

Operators are run in float, a few at a time, each on the values that its inputs have in the emitted file; so an
operator is judged by what it does, not by what was lost before it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from tfq_converters import flatbuffer
from tfq_converters.graph import ABSENT, AnyArray, Graph, Op, Subgraph, Tensor
from tfq_converters.graph_edit import UNCHECKED_TYPES, GraphBuilder, chunks, float_bytes, keeps_state, part
from tfq_converters.quantized import OpEncoding, QuantizedGraph, simulated_weight
from tfq_converters.realize import ValueForm
from tfq_converters.runtime import Kernels, Runner, is_unrunnable

Value = tuple[int, ValueForm]  # a tensor of the float graph, in one of the forms in which the file holds it
SEGMENT_BYTES = 8 * 2**20  # constants in one run, which bounds the memory


def values_read(subgraph: Subgraph, op: Op, encoding: OpEncoding) -> dict[int, Value]:
    """Return input slot -> the value that the emitted operator reads there, without constants."""
    return {
        slot: (t, encoding.read(slot))
        for slot, t in enumerate(op.inputs)
        if t != ABSENT and not subgraph.tensors[t].is_constant
    }


def values_written(op: Op, encoding: OpEncoding) -> list[Value]:
    """Return the values that the emitted operator writes, in output order."""
    return [(t, encoding.outputs.get(slot)) for slot, t in enumerate(op.outputs)]


def simulated_bodies(quantized: QuantizedGraph) -> tuple[Subgraph, ...]:
    """Return the control-flow bodies with their weights replaced by what the codes stand for."""
    bodies = []
    for s, subgraph in enumerate(quantized.graph.subgraphs[1:], start=1):
        tensors, ops = list(subgraph.tensors), []
        for o, op in enumerate(subgraph.ops):
            encoding = quantized.ops.get((s, o))
            ops.append(op if encoding is None else with_weights(op, encoding, tensors))
        bodies.append(replace(subgraph, tensors=tuple(tensors), ops=tuple(ops)))
    return tuple(bodies)


def with_weights(op: Op, encoding: OpEncoding, tensors: list[Tensor]) -> Op:
    """Return `op` over the real values of its codes; the constants are added to `tensors`."""
    inputs = list(op.inputs)
    for slot, value in encoding.weights.items():
        data = simulated_weight(value).reshape(tensors[inputs[slot]].shape)
        tensors.append(replace(tensors[inputs[slot]], data=data))
        inputs[slot] = len(tensors) - 1
    return replace(op, inputs=tuple(inputs))


def checkable(subgraph: Subgraph, op: Op) -> bool:
    """Return whether `op` can be run alone."""
    tensors = [subgraph.tensors[t] for t in (*op.inputs, *op.outputs) if t != ABSENT]
    return not is_unrunnable(op, subgraph) and not any(t.dtype in UNCHECKED_TYPES or t.is_variable for t in tensors)


def segments(subgraph: Subgraph, only_checkable: bool = True, without: Collection[int] = ()) -> Iterator[list[int]]:
    """Return the indices of operators to run together, in order, but for `without`; few enough to bound the memory."""

    def touched(index: int) -> int:
        op = subgraph.ops[index]
        return sum(float_bytes(subgraph.tensors[t]) for t in (*op.inputs, *op.outputs) if t != ABSENT)

    indices = (o for o in range(len(subgraph.ops)) if o not in without)
    return chunks(
        (o for o in indices if not only_checkable or checkable(subgraph, subgraph.ops[o])), touched, SEGMENT_BYTES
    )


def float_values(
    graph: Graph, samples: Sequence[Sequence[AnyArray]], see: Callable[[int, int, AnyArray], None], threads: int = 1
) -> None:
    """Call `see` with (sample, tensor, its value) for all that the float graph computes.

    Samples hold one array for each input of the main subgraph. The graph runs in segments, to bound the memory. The
    values are the interpreter's own, and hold until `see` returns.
    """
    main = graph.main
    ranges = [list(range(len(main.ops)))] if keeps_state(main) else list(segments(main, only_checkable=False))
    last = {t: o for o, op in enumerate(main.ops) for t in op.inputs}
    values = [dict(zip(main.inputs, sample, strict=True)) for sample in samples]
    for indices in ranges:
        piece = part(graph, indices)
        later = {t for t in piece.outputs if last.get(t, -1) > indices[-1]}
        with flatbuffer.scratch(piece.graph) as path:
            runner = Runner(path, threads=threads)
        for n, sample_values in enumerate(values):
            runner.reset_variables()
            runner.invoke([sample_values[t] for t in piece.inputs])
            for k, t in enumerate(piece.outputs):
                see(n, t, runner.output_view(k))
                if t in later:
                    sample_values[t] = runner.output_view(k).copy()
            values[n] = {t: value for t, value in sample_values.items() if last.get(t, -1) > indices[-1]}
        del runner


class Segment:
    """Some operators of the main subgraph as a file: every activation is an input, every result an output."""

    def __init__(
        self,
        quantized: QuantizedGraph,
        bodies: tuple[Subgraph, ...],
        indices: Sequence[int],
        kernels: Kernels = "default",
    ):
        main = quantized.graph.main
        builder = GraphBuilder(main.tensors)
        fed: dict[Value, int] = {}
        self.outputs: list[int] = []
        for index in indices:
            encoding = quantized.ops.get((0, index), OpEncoding("float"))
            op = with_weights(main.ops[index], encoding, builder.tensors)
            inputs = list(op.inputs)
            for slot, value in values_read(main, main.ops[index], encoding).items():
                if value not in fed:
                    fed[value] = builder.new(main.tensors[value[0]])
                inputs[slot] = fed[value]
            builder.again(replace(op, inputs=tuple(inputs)), "/simulated")
            self.outputs += op.outputs
        self.inputs = list(fed)
        outputs = [t for op in builder.ops for t in op.outputs]
        subgraph, _ = builder.finish(main, list(fed.values()), outputs)
        with flatbuffer.scratch(Graph((subgraph, *bodies))) as path:
            self._runner = Runner(path, kernels)

    def run(self, values: Mapping[Value, AnyArray]) -> dict[int, AnyArray]:
        """Return tensor -> what its operator makes of the decoded `values`."""
        outputs = self._runner.run([values[value] for value in self.inputs])
        return dict(zip(self.outputs, outputs, strict=True))
