"""Files of one operator: the float one, and the integer one with the same weights, built from a row of the op table.

`worst_steps` compares the two in output steps; it is what the facts of the op table were measured with.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer import write
from tfq_converters.graph import ABSENT, Graph, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.operators import KernelRow, facts_of
from tfq_converters.quantized import ActivationEncoding
from tfq_converters.runtime import Kernels, Runner

FLOAT_VERSIONS = {"BROADCAST_TO": 2}  # where the oldest registered version is not 1
Operand = tuple[int, ...] | np.ndarray | None  # the shape of an activation, a constant, or an absent input


@dataclass(frozen=True)
class Case:
    """One operator on given shapes. `low` and `high` bound the values that its activations take."""

    code: str
    inputs: tuple[Operand, ...]
    options: Options | None = None
    results: int = 1
    low: float = -3.0
    high: float = 3.0
    bool_slots: tuple[int, ...] = ()  # fed inputs that are bool
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)  # slots with bounds of their own
    result_range: tuple[float, float] | None = None  # what a "free" output spans, instead of what it holds
    weight: tuple[int, int | None] | None = None  # a constant that is weights, against the facts: slot, axis of scales


@dataclass(frozen=True)
class Encoded:
    """The operands of one `Case` in one integer type: codes to feed, and the float values that they stand for."""

    encodings: dict[int, ActivationEncoding]  # data slot -> encoding
    codes: dict[int, np.ndarray]  # data slot -> codes, constants included
    values: dict[int, np.ndarray]  # every slot -> what the float operator gets
    weights: dict[int, Tensor]  # weight and bias slots -> the tensors of the integer file


def data_slots(case: Case) -> list[int]:
    """Return the slots of `case` that carry activations or constants quantized like them."""
    slots = facts_of(case.code).data_slots(len(case.inputs))
    return [slot for slot in slots if case.inputs[slot] is not None and (case.weight or (None,))[0] != slot]


def _weight_of(case: Case) -> tuple[int | None, int | None]:
    """Return (slot of the weights, axis with one scale for each index)."""
    facts = facts_of(case.code)
    return case.weight or (facts.weight, facts.channel_axis)


def encode(case: Case, row: KernelRow, dtype: str, seed: int, per_channel: bool = True) -> Encoded:
    """Random codes (the lowest and highest included), random scales and zero points, weights rounded to int8."""
    rng = np.random.default_rng(seed)
    slots = data_slots(case)
    encodings: dict[int, ActivationEncoding] = {}
    tied = slots if row.same is None else row.same
    for slot in slots:
        shared = row.scales == "same" and slot in tied and any(s in encodings for s in tied)
        first = next((s for s in tied if s in encodings), slot)
        low, high = case.ranges.get(slot, (case.low, case.high))
        encodings[slot] = encodings[first] if shared else encoding(low, high, dtype, rng.uniform(0.6, 1.4))
    codes: dict[int, np.ndarray] = {}
    values: dict[int, np.ndarray] = {}
    for slot, operand in enumerate(case.inputs):
        if slot in encodings:
            low, high = case.ranges.get(slot, (case.low, case.high))
            real = operand if isinstance(operand, np.ndarray) else _spread(rng, operand or (), low, high)
            codes[slot] = encodings[slot].encode(real)
            values[slot] = encodings[slot].decode(codes[slot])
        elif operand is not None:
            random = slot in case.bool_slots
            values[slot] = rng.random(operand) < 0.5 if random else np.asarray(operand)
    weights = _weights(case, dtype, encodings, values, per_channel)
    return Encoded(encodings, codes, values, weights)


def encoding(low: float, high: float, dtype: str, stretch: float = 1.0) -> ActivationEncoding:
    """Return the encoding that spans `stretch` times [min(low, 0), max(high, 0)]; symmetric for int16."""
    low, high = min(low, 0.0) * stretch, max(high, 0.0) * stretch
    if dtype == "int16":
        return ActivationEncoding("int16", float(np.float32(max(-low, high, 1e-6) / 32767)), 0)
    scale = float(np.float32(max(high - low, 1e-6) / 255))
    return ActivationEncoding("int8", scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def _spread(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    values = rng.uniform(low * 1.2 if low < 0 else low, high * 1.2, shape)
    values.reshape(-1)[: min(2, values.size)] = (low * 2 if low < 0 else low, high * 2)[: min(2, values.size)]
    return values


def _weights(case: Case, dtype: str, encodings: dict, values: dict, per_channel: bool) -> dict[int, Tensor]:
    """Round weights and biases in place of `values`; return their tensors."""
    slot, axis = _weight_of(case)
    if slot is None or not isinstance(case.inputs[slot], np.ndarray):
        return {}
    weight = values[slot]
    others = tuple(a for a in range(weight.ndim) if a != axis) if per_channel and axis is not None else None
    scale = (np.abs(weight).max(others, keepdims=True) / 127).astype(np.float32)
    codes = np.rint(weight / scale).astype(np.int8)
    values[slot] = (codes * scale).astype(np.float32)
    tensors = {slot: _quantized("w", codes, scale.reshape(-1), np.zeros(scale.size, np.int64), axis or 0)}
    bias_slot = facts_of(case.code).bias
    if bias_slot is not None and bias_slot < len(case.inputs) and isinstance(case.inputs[bias_slot], np.ndarray):
        steps = np.float64(next(iter(encodings.values())).scale) * scale.reshape(-1)
        wide = np.int32 if dtype == "int8" else np.int64
        bias = np.rint(values[bias_slot] / steps).astype(wide)
        values[bias_slot] = (bias * steps).astype(np.float32)
        tensors[bias_slot] = _quantized("b", bias, steps, np.zeros(steps.size, np.int64), 0)
    return tensors


def _quantized(name: str, data: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int) -> Tensor:
    quantization = Quantization(scale.astype(np.float32), zero_point, axis)
    return Tensor(name, data.shape, data.dtype.name, data=data, quantization=quantization)


def activation(name: str, shape: tuple[int, ...], given: ActivationEncoding, data: np.ndarray | None = None) -> Tensor:
    """Return a per-tensor quantized tensor."""
    quantization = Quantization(np.float32([given.scale]), np.int64([given.zero_point]))
    return Tensor(name, shape, given.dtype, data=data, quantization=quantization)


def float_graph(case: Case, values: Mapping[int, np.ndarray], outputs: Sequence[Tensor]) -> Graph:
    """Return the file of the float operator; the operands that `case` gives by shape are its inputs."""
    tensors = {slot: _plain(slot, case, value) for slot, value in values.items()}
    return _graph(case, tensors, outputs, FLOAT_VERSIONS.get(case.code, 1))


def _plain(slot: int, case: Case, value: np.ndarray) -> Tensor:
    constant = value if isinstance(case.inputs[slot], np.ndarray) else None
    return Tensor(f"in{slot}", value.shape, value.dtype.name, data=constant)


def integer_graph(case: Case, given: Encoded, outputs: Sequence[Tensor], version: int) -> Graph:
    """Return the file of the integer operator."""
    tensors: dict[int, Tensor] = {}
    for slot, value in given.values.items():
        tensors[slot] = given.weights.get(slot) or _plain(slot, case, value)
        if slot in given.encodings:
            constant = given.codes[slot] if isinstance(case.inputs[slot], np.ndarray) else None
            tensors[slot] = activation(f"in{slot}", value.shape, given.encodings[slot], constant)
    return _graph(case, tensors, outputs, version)


def weight_graph(case: Case, given: Encoded, outputs: Sequence[Tensor], version: int = 0) -> Graph:
    """Return the file of the operator on float activations with an int8 weight, computed on the fly at `version`.

    Version 0 stands for weight-only: the float operator after a DEQUANTIZE of the weight.
    """
    tensors = {slot: _plain(slot, case, value) for slot, value in given.values.items()}
    slot, _ = _weight_of(case)
    assert slot is not None
    weight = given.weights[slot]
    if version:
        return _graph(case, {**tensors, slot: weight}, outputs, version)
    graph = _graph(case, tensors, outputs, 1)
    (op,), place = graph.main.ops, graph.main.ops[0].inputs[slot]
    listed = [*graph.main.tensors, weight]
    listed[place] = replace(listed[place], data=None)
    ops = (Op("DEQUANTIZE", (len(listed) - 1,), (place,), version=5), op)
    return Graph((replace(graph.main, tensors=tuple(listed), ops=ops),))


def _graph(case: Case, tensors: Mapping[int, Tensor], outputs: Sequence[Tensor], version: int) -> Graph:
    order = {slot: index for index, slot in enumerate(tensors)}
    slots = tuple(order.get(slot, ABSENT) for slot in range(len(case.inputs)))
    results = tuple(range(len(order), len(order) + len(outputs)))
    op = Op(case.code, slots, results, case.options, version)
    fed = tuple(order[slot] for slot, tensor in tensors.items() if not tensor.is_constant and not tensor.is_variable)
    return Graph((Subgraph("main", (*tensors.values(), *outputs), (op,), fed, results),))


def one_op_graph(code: str, ends: tuple[Tensor, Tensor], version: int) -> Graph:
    """Return the file of an operator without options from one tensor to another."""
    return Graph((Subgraph("main", ends, (Op(code, (0,), (1,), version=version),), (0,), (1,)),))


def float_run(case: Case, values: Mapping[int, np.ndarray], types: Sequence[str]) -> list[np.ndarray]:
    """Return the results of the float operator (optimized kernels, no delegate)."""
    outputs = [Tensor(f"out{i}", (), types[i], has_rank=False) for i in range(case.results)]
    fed = [value for slot, value in values.items() if not isinstance(case.inputs[slot], np.ndarray)]
    return Runner(write(float_graph(case, values, outputs)), "optimized").run(fed)


def float_types(case: Case, row: KernelRow) -> list[str]:
    """Return the types of the outputs of the float operator."""
    kinds = dict.fromkeys(range(case.results) if row.outputs is None else row.outputs, "float32")
    return [kinds.get(slot, row.other_output) for slot in range(case.results)]


def output_encodings(
    row: KernelRow,
    given: Encoded,
    dtype: str,
    results: Sequence[np.ndarray],
    spans: tuple[float, float] | None = None,
) -> list[ActivationEncoding]:
    """Return the encodings of the activation outputs, under the row's constraint."""
    tied = next((s for s in (given.encodings if row.same is None else row.same) if s in given.encodings), None)
    encodings = []
    for result in results:
        if row.scales == "same" and tied is not None:
            encodings.append(given.encodings[tied])
        elif row.scales == "fixed":
            encodings.append(ActivationEncoding(dtype, *row.fixed[dtype]))  # type: ignore[arg-type]
        else:
            finite = result[np.isfinite(result)] if result.size else np.zeros(1)
            held = (float(finite.min()), float(finite.max()))
            encodings.append(encoding(*(spans or held), dtype, 0.95))
    return encodings


@dataclass(frozen=True)
class Built:
    """An integer file with its inputs and what it should answer."""

    content: bytes
    inputs: list[np.ndarray]
    expected: list[np.ndarray]
    finite: list[np.ndarray]  # where the float answer is a number


def build(case: Case, row: KernelRow, dtype: str, seed: int = 0, per_channel: bool = True) -> Built:
    """Return the integer file of `case`, its inputs, and the encoded answer of the float operator to them."""
    encoded = encode(case, row, dtype, seed, per_channel)
    types = float_types(case, row)
    results = float_run(case, encoded.values, types)
    real = [result for result, kind in zip(results, types, strict=True) if kind == "float32"]
    encodings = iter(output_encodings(row, encoded, dtype, real, case.result_range))
    outputs, expected, finite = [], [], []
    for index, (result, kind) in enumerate(zip(results, types, strict=True)):
        finite.append(np.isfinite(result))
        if kind != "float32":
            outputs.append(Tensor(f"out{index}", result.shape, kind))
            expected.append(result)
            continue
        chosen = next(encodings)
        outputs.append(activation(f"out{index}", result.shape, chosen))
        expected.append(chosen.encode(np.where(finite[-1], result, 0)))
    version = row.version_int8 if dtype == "int8" else row.version_int16
    content = write(integer_graph(case, encoded, outputs, version))
    fed = [
        encoded.codes.get(slot, value)
        for slot, value in encoded.values.items()
        if not isinstance(case.inputs[slot], np.ndarray)
    ]
    return Built(content, fed, expected, finite)


def worst_steps(
    case: Case, row: KernelRow, dtype: str, kernels: Kernels, seed: int = 0, per_channel: bool = True
) -> tuple[int, float]:
    """Largest difference of the integer kernel from the float operator in steps of the output, and how many differ.

    Steps are differences of codes; for bool and index outputs, of values. Where the float answer is not finite,
    nothing is compared.

    Returns:
        (largest difference, fraction of elements that differ).

    Raises:
        TfqError: the runtime refuses the file.
    """
    built = build(case, row, dtype, seed, per_channel)
    runner = Runner(built.content, kernels)
    results = runner.run(built.inputs)
    results = runner.run(built.inputs)  # twice: some kernels spoil their state in the first run
    worst, differing, total = 0, 0, 0
    for got, expected, finite in zip(results, built.expected, built.finite, strict=True):
        if got.shape != expected.shape:
            raise TfqError(f"{case.code}: shape {got.shape}, float {expected.shape}")
        gap = np.abs(got.astype(np.int64) - expected.astype(np.int64))[finite]
        worst = max(worst, int(gap.max(initial=0)))
        differing, total = differing + int((gap > 0).sum()), total + gap.size
    return worst, differing / max(total, 1)


Job = tuple[Case, KernelRow, str, Kernels, int, bool]


def measure_all(jobs: Sequence[Job]) -> list[tuple[int, float] | str]:
    """Return `worst_steps` of each job, in a child process; a message where that crashed."""
    outcomes: list[tuple[int, float] | str] = []
    pool: Executor = _pool()
    for job in jobs:
        try:
            outcomes.append(pool.submit(worst_steps, *job).result(timeout=60))
        except BrokenProcessPool:
            outcomes.append("the process died")
            pool = _pool()
        except TfqError as error:
            outcomes.append(str(error))
    pool.shutdown()
    return outcomes


def _pool() -> Executor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))
