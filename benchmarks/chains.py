"""Whether an int8 operator that no delegate takes is worth it between two operators that a delegate takes.

It splits the delegate's graph in two; the alternative is its float kernel between DEQUANTIZE and QUANTIZE, which the
delegate may take along. `chain_costs` times FULLY_CONNECTED -> operator -> FULLY_CONNECTED both ways.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks import single_op
from benchmarks.op_cases import BASE, Shape
from benchmarks.single_op import Case
from tfq_converters.flatbuffer import write
from tfq_converters.graph import Graph, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.operators import OPS, KernelRow
from tfq_converters.quantized import ActivationEncoding

SHAPE: Shape = (1, 16, 8, 256)
ENCODING = ActivationEncoding("int8", 1 / 128, -128)  # no negative values: some operators refuse them
File = tuple[bytes, list[np.ndarray]]


def chain_costs(codes: Sequence[str], clock: Callable[[Mapping[str, File]], dict[str, float]]) -> dict[str, dict]:
    """Return code -> nanoseconds of the chain with the operator in int8 ("int8_ns") and in float ("float_ns").

    Args:
        codes: operators; those whose result is not one activation of rank four, or that need special values,
            are left out.
        clock: times files, interleaved.
    """
    costs = {}
    for code in codes:
        case, row = BASE[code](SHAPE), OPS[code]
        feeds = all(operand == SHAPE for operand in case.inputs if isinstance(operand, tuple))
        if (
            not feeds
            or case.results > 1
            or row.outputs == ()
            or row.weight is not None
            or case.bool_slots
            or case.ranges
        ):
            continue
        values = single_op.encode(case, row, "int8", 0).values
        (result,) = single_op.float_run(case, values, ["float32"])
        if result.ndim != len(SHAPE):
            continue
        made = {f"{kind}_ns": chain(case, row, result.shape, kind == "int8") for kind in ("int8", "float")}
        costs[code] = {name: round(time) for name, time in clock(made).items()}
    return costs


def chain(given: Case, row: KernelRow, shape: Shape, integer: bool) -> File:
    """Return a chain: int8 FULLY_CONNECTED, the operator in integers or in float, int8 FULLY_CONNECTED."""
    steps = _Steps()
    source = steps.add(single_op.activation("input", SHAPE, ENCODING))
    entry = steps.linear(source, SHAPE[-1], SHAPE)
    last = ActivationEncoding("int8", *row.fixed["int8"]) if row.scales == "fixed" else ENCODING
    if integer:
        result = steps.add(single_op.activation("result", shape, last))
        steps.apply(given, row, entry, result, row.version_int8)
    else:
        real = steps.add(Tensor("real", SHAPE, "float32"))
        steps.ops.append(Op("DEQUANTIZE", (entry,), (real,), version=2))
        answer = steps.add(Tensor("answer", shape, "float32"))
        steps.apply(given, row, real, answer, single_op.FLOAT_VERSIONS.get(given.code, 1), integer=False)
        result = steps.add(single_op.activation("result", shape, last))
        steps.ops.append(Op("QUANTIZE", (answer,), (result,)))
    output = steps.linear(result, shape[-1], (*shape[:-1], SHAPE[-1]), last)
    graph = Graph((Subgraph("main", tuple(steps.tensors), tuple(steps.ops), (source,), (output,)),))
    fed = np.random.default_rng(0).integers(-128, 128, SHAPE).astype(np.int8)
    return write(graph), [fed]


class _Steps:
    """A graph under construction."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []

    def add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def linear(self, source: int, inputs: int, shape: Shape, encoding: ActivationEncoding = ENCODING) -> int:
        """Return an int8 FULLY_CONNECTED with as many outputs as `shape` has last."""
        codes = np.random.default_rng(1).integers(-127, 128, (shape[-1], inputs)).astype(np.int8)
        scale = np.full(shape[-1], 1 / 127 / inputs**0.5, np.float32)
        zeros = np.zeros(shape[-1], np.int64)
        weight = self.add(Tensor("w", codes.shape, "int8", data=codes, quantization=Quantization(scale, zeros)))
        bias = np.zeros(shape[-1], np.int32)
        steps = Quantization(np.float32(encoding.scale) * scale, zeros)
        offset = self.add(Tensor("b", bias.shape, "int32", data=bias, quantization=steps))
        output = self.add(single_op.activation("linear", shape, ENCODING))
        options = Options("FullyConnectedOptions", {"keepNumDims": True})
        self.ops.append(Op("FULLY_CONNECTED", (source, weight, offset), (output,), options, 5))
        return output

    def apply(self, given: Case, row: KernelRow, source: int, result: int, version: int, integer: bool = True) -> None:
        """Add the operator of `given`, whose fed operands are all read from `source`."""
        slots, data = [], single_op.data_slots(given)
        for slot, operand in enumerate(given.inputs):
            if not isinstance(operand, np.ndarray):
                slots.append(source)
                continue
            constant = Tensor(f"c{slot}", operand.shape, operand.dtype.name, data=operand)
            if slot in data and integer:
                constant = single_op.activation(f"c{slot}", operand.shape, ENCODING, ENCODING.encode(operand))
            slots.append(self.add(constant))
        self.ops.append(Op(given.code, tuple(slots), (result,), given.options, version))
