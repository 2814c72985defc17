"""Comparison of the operators of a file with the simulated ones: the first that computes something else, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfq_converters.check.float_noise import float_noise
from tfq_converters.check.recurrent import DIFFERS
from tfq_converters.check.simulate import Segment, Value, segments, simulated_bodies, values_read, values_written
from tfq_converters.check.tolerance import (
    agrees_with_emulation,
    allowed_steps,
    emulated_parts,
    float_difference,
    float_tolerance,
    integer_difference,
    repeats_steps,
)
from tfq_converters.graph import AnyArray, Float32Array, IntArray, Subgraph
from tfq_converters.kernels.arithmetic import is_emulated, kernel_difference
from tfq_converters.operators import data_of, facts_of, weight_axes
from tfq_converters.quantized import ActivationEncoding, OpEncoding, QuantizedGraph
from tfq_converters.realize import FLOAT, ValueForm
from tfq_converters.runtime import (
    Arrays,
    unrunnable_ops,
)


def decoded(values: AnyArray, form: ValueForm) -> AnyArray:
    """Return the real numbers that values of the file stand for, of the same shape."""
    return values if form is FLOAT else form.decode(values)


def _encoding(quantized: QuantizedGraph, o: int) -> OpEncoding:
    return quantized.ops.get((0, o), OpEncoding("float"))


@dataclass(frozen=True)
class Simulated:
    """The operators of the main subgraph, computed from the numbers; the file is compared with them."""

    quantized: QuantizedGraph
    places: Mapping[Value, int]
    bodies: tuple[Subgraph, ...]
    dynamic_bodies: bool

    @staticmethod
    def of(quantized: QuantizedGraph, places: Mapping[Value, int]) -> "Simulated":
        """Simulate the weights of a quantized graph; `places` are the tensors of its values in the file."""
        dynamic = any(encoding.mode == "dynamic" for (s, _), encoding in quantized.ops.items() if s > 0)
        return Simulated(quantized, places, simulated_bodies(quantized), dynamic)

    def known(self) -> list[list[int]]:
        """Return the operators whose values can be read from the file, few enough at a time to bound the memory."""
        every = (
            [o for o in indices if _can_be_read(self.quantized, self.places, o)]
            for indices in segments(self.quantized.graph.main, without=unrunnable_ops(self.quantized.graph))
        )
        return [part for part in every if part]

    def segment(self, known: Sequence[int]) -> Segment:
        """Return the part of the simulated graph that computes the operators `known`."""
        return Segment(self.quantized, self.bodies, known)


def first_wrong(simulated: Simulated, n: int, run: Arrays, known: Sequence[int], segment: Segment) -> str:
    """Return the first of the operators `known` that differs from the simulated one, and how; "" when none does."""
    quantized, places = simulated.quantized, simulated.places
    main = quantized.graph.main
    read = {value: decoded(run[f"tensor_{n}_{places[value]}"], value[1]) for value in segment.inputs}
    expected = segment.run(read)
    for o in known:
        written = values_written(main.ops[o], _encoding(quantized, o))
        values = {value: run[f"tensor_{n}_{places[value]}"] for value in written}
        wrong = _difference(quantized, o, values, read, expected, simulated.dynamic_bodies)
        if wrong:  # the delegate's float kernels approximate some functions, the others are closer (GELU near 0)
            again = Segment(quantized, simulated.bodies, [o], "optimized").run(read)
            wrong = _difference(quantized, o, values, read, again, simulated.dynamic_bodies)
        if wrong:
            return f"{main.op_name(o)} {DIFFERS}: {wrong}"
    return ""


def _can_be_read(quantized: QuantizedGraph, places: Mapping[Value, int], o: int) -> bool:
    """Return whether the inputs and outputs of operator `o` can be read from the file."""
    main = quantized.graph.main
    op, encoding = main.ops[o], _encoding(quantized, o)
    return all(v in places for v in (*values_read(main, op, encoding).values(), *values_written(op, encoding)))


def _difference(
    quantized: QuantizedGraph,
    o: int,
    found: Mapping[Value, AnyArray],
    decoded: Mapping[Value, AnyArray],
    expected: Mapping[int, AnyArray],
    dynamic_bodies: bool,
) -> str:
    op, encoding = quantized.graph.main.ops[o], _encoding(quantized, o)
    for t, form in values_written(op, encoding):
        if form is not FLOAT:
            wrong = integer_difference(found[t, form], expected[t], form, allowed_steps(encoding, form))
            if wrong:
                wrong = _unlike_kernels(quantized.graph.main, o, encoding, form, decoded, found[t, form], expected[t])
        else:
            wrong = float_difference(found[t, form], expected[t], float_tolerance(op, encoding, dynamic_bodies))
            if wrong and encoding.mode == "dynamic" and not (repeats_steps(op) or facts_of(op.code).table):
                wrong = wrong if _unexplained(quantized, o, decoded, found[t, form]) else ""
        if wrong:
            return wrong
    return ""


def _unlike_kernels(
    main: Subgraph,
    o: int,
    encoding: OpEncoding,
    form: ActivationEncoding,
    decoded: Mapping[Value, AnyArray],
    found: IntArray,
    expected: Float32Array,
) -> str:
    """Say what is wrong with codes more than a step from the float operator; "" where its kernels explain them."""
    op = main.ops[o]
    values = {slot: decoded[value] for slot, value in values_read(main, op, encoding).items() if value in decoded}
    if is_emulated(op, form):
        return kernel_difference(op, encoding, values[0], found)
    steps = allowed_steps(encoding, form) + float_noise(op, encoding, values, found.size) / form.scale
    return integer_difference(found, expected, form, steps)


def _unexplained(quantized: QuantizedGraph, o: int, decoded: Mapping[Value, AnyArray], found: Float32Array) -> bool:
    """Return whether no emulation of the on-the-fly quantization explains the result of operator `o`."""
    op = quantized.graph.main.ops[o]
    segment = Segment(quantized, simulated_bodies(quantized), [o])
    source = (data_of(op), FLOAT)
    (axes, *_) = weight_axes(op, quantized.graph.main)
    weight = quantized.graph.main.tensors[op.inputs[axes.slot]].shape
    inputs = weight[axes.inputs] if axes.inputs is not None else 1
    return not any(
        agrees_with_emulation(found, segment.run({**decoded, source: operand})[op.outputs[0]])
        for operand in emulated_parts(decoded[source], _encoding(quantized, o), inputs)
    )
