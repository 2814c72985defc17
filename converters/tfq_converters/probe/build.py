"""The file of a cell: one operator (after a DEQUANTIZE in mode "weight_only"), and what to feed it."""

from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.flatbuffer import write
from tfq_converters.graph import ABSENT, AnyArray, Float32Array, Graph, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.graph_edit import dequantize
from tfq_converters.kernels import Cell
from tfq_converters.operators import OPS, bias_slot, data_slot, facts_of
from tfq_converters.probe.cases import CELLS, Form
from tfq_converters.probe.operands import LSTM, Operands, Weight, operands
from tfq_converters.probe.reference import Answer, answer
from tfq_converters.quantized import ActivationEncoding
from tfq_converters.realize import LOOKUP_VERSIONS, VERSIONS, WEIGHT_VERSIONS

READER = {"DEQUANTIZE": "ADD"}  # the operator that reads what the one of the cell made
LSTM_CELL = ActivationEncoding("int16", 2.0**-13, 0)  # encoding of the cell state, which stays below 4
GATHER_BELOW_BYTE = 7  # version of the first GATHER that reads codes of less than a byte


@dataclass(frozen=True)
class Job:
    """A file, its inputs, and what is right."""

    content: bytes
    inputs: tuple[AnyArray, ...]
    answer: Answer
    result: int  # tensor that the operator writes


def job(cell: Cell) -> Job:
    """Return all inputs of a trial of `cell`."""
    form = CELLS[cell]
    numbers = operands(cell, form)
    expected = answer(cell, form, numbers)
    graph = cell_graph(cell, form, numbers, expected)
    fed = numbers.data if numbers.encoding is None else numbers.encoding.encode(numbers.data)
    return Job(write(graph), (fed,), expected, graph.main.ops[-1].outputs[0])


class _Tensors(list[Tensor]):
    """The tensors of a file in the making."""

    def put(self, tensor: Tensor) -> int:
        """Append; returns the index."""
        self.append(tensor)
        return len(self) - 1


def cell_graph(cell: Cell, form: Form, given: Operands, expected: Answer) -> Graph:
    """Return the graph of the file."""
    tensors = _Tensors()
    data = tensors.put(_fed(given))
    before: list[Op] = []
    weights = [_weight(cell, weight, n, tensors, before) for n, weight in enumerate(given.weights)]
    output = Tensor("y", expected.accepted[0].shape, "float32")
    if expected.encoding is not None:
        output = _encoded(output, expected.encoding)
    code = READER.get(cell.op, cell.op)
    intermediates: tuple[int, ...] = ()
    if cell.op == LSTM:
        slots = _lstm_slots(data, weights, given, expected, tensors)
        intermediates = () if expected.encoding is None else _lstm_intermediates(expected.encoding, tensors)
    else:
        slots = _slots(code, data, weights[0], form, given, tensors)
    if cell.op == "GATHER" and cell.mode == "weight_only":
        stored = given.weights[0].quantization
        codes = Tensor("codes", output.shape, f"int{cell.bits}", quantization=stored)
        between, result = tensors.put(codes), tensors.put(output)
        after = [dequantize(codes, between, result)]
        outputs = (between,)
    else:
        after, outputs = [], (tensors.put(output),)
    options = _options(form.options, cell)
    op = Op(code, slots, outputs, options, _version(cell, given), intermediates=intermediates)
    ops = (*before, op, *after)
    return Graph((Subgraph("main", tuple(tensors), ops, (data,), ops[-1].outputs),))


def _fed(given: Operands) -> Tensor:
    tensor = Tensor("x", given.data.shape, given.data.dtype.name)
    return tensor if given.encoding is None else _encoded(tensor, given.encoding)


def _encoded(tensor: Tensor, encoding: ActivationEncoding) -> Tensor:
    quantization = Quantization(np.array([encoding.scale], np.float32), np.array([encoding.zero_point]))
    return replace(tensor, dtype=encoding.dtype, quantization=quantization)


def _weight(cell: Cell, weight: Weight, number: int, tensors: _Tensors, before: list[Op]) -> int:
    """Add the constant, in mode "weight_only" with its DEQUANTIZE; returns what the operator reads."""
    dtype = "float32" if weight.quantization is None else f"int{cell.bits}"
    stored = Tensor(f"w{number}", weight.stored.shape, dtype, data=weight.stored, quantization=weight.quantization)
    index = tensors.put(stored)
    if cell.mode != "weight_only" or facts_of(cell.op).table:
        return index
    result = tensors.put(Tensor(f"w{number}_real", weight.stored.shape, "float32"))
    before.append(dequantize(stored, index, result))
    return result


def _slots(code: str, data: int, weight: int, form: Form, given: Operands, tensors: _Tensors) -> tuple[int, ...]:
    if code == "GATHER":
        return weight, data
    if code == "EMBEDDING_LOOKUP":
        return data, weight
    slots = {data_slot(code): data, 1: weight}
    if form.output is not None:
        shape = np.array(form.output, np.int32)
        slots[0] = tensors.put(Tensor("shape", shape.shape, "int32", data=shape))
    if given.bias is not None:
        slots[bias_slot(code)] = tensors.put(_bias(given, given.bias))
    return tuple(slots.get(slot, ABSENT) for slot in range(max(slots) + 1))


def _bias(given: Operands, values: Float32Array, weight: int = 0) -> Tensor:
    if given.encoding is None:
        return Tensor(f"b{weight}", values.shape, "float32", data=values)
    quantization = given.weights[weight].affine
    scale = quantization.scale.reshape(len(quantization.scale), -1).max(1) * np.float32(given.encoding.scale)
    wide = "int32" if given.encoding.dtype == "int8" else "int64"
    codes = np.rint(values / scale.astype(np.float64)).astype(wide)
    return Tensor(
        f"b{weight}", codes.shape, wide, data=codes, quantization=Quantization(scale, np.zeros(len(scale), np.int64))
    )


def _lstm_slots(data: int, weights: list[int], given: Operands, expected: Answer, tensors: _Tensors) -> tuple[int, ...]:
    """List the slots: input, 8 weights, no peepholes, 4 biases, no projection, the two states, no normalization."""
    biases = [tensors.put(_bias(given, row, n)) for n, row in enumerate(given.gate_biases)]
    state = (given.data.shape[0], given.gate_biases.shape[1])
    made = [Tensor(name, state, "float32", is_variable=True) for name in ("hidden", "cell")]
    if expected.encoding is not None:
        made = [_encoded(tensor, form) for tensor, form in zip(made, (expected.encoding, LSTM_CELL), strict=True)]
    states = [tensors.put(tensor) for tensor in made]
    return (data, *weights, *[ABSENT] * 3, *biases, *[ABSENT] * 2, *states, *[ABSENT] * 4)


def _lstm_intermediates(hidden: ActivationEncoding, tensors: _Tensors) -> tuple[int, ...]:
    """Return the intermediates of four gates (read only when normalized) and of the output before a projection."""
    gates = [Tensor(f"gate{n}", (0,), "float32") for n in range(4)]
    return tuple(tensors.put(tensor) for tensor in (*gates, _encoded(Tensor("before", (0,), "float32"), hidden)))


def _options(options: Options | None, cell: Cell) -> Options | None:
    """Return the options; quantizing inputs on the fly is requested in mode "dynamic" alone."""
    asymmetric = "asymmetricQuantizeInputs"
    if options is None or asymmetric not in options.values:
        return options
    return replace(options, values={**options.values, asymmetric: cell.mode == "dynamic"})


def _version(cell: Cell, given: Operands) -> int:
    """Return the one that the emitted files carry; where no such file is emitted, the newest for the type."""
    if cell.op == "EMBEDDING_LOOKUP":
        return LOOKUP_VERSIONS.get(cell.bits, 1)
    if cell.op == "GATHER":
        return 1 if cell.mode == "float" else 2 if cell.bits == 8 else GATHER_BELOW_BYTE
    if cell.mode == "dynamic":
        several = cell.granularity != "per_tensor"
        versions = [version for (code, _, _), version in VERSIONS.items() if code == cell.op]
        return VERSIONS.get((cell.op, cell.bits, several), max(versions, default=3))
    if cell.mode.startswith("integer"):
        return max(OPS[cell.op].version(f"int{cell.mode[7:]}"), WEIGHT_VERSIONS.get((cell.op, cell.bits), 1))
    grouped = cell.form == "grouped"
    return 6 if grouped else 1
