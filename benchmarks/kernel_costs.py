"""Measure what every operator costs in float and in integers: `python -m benchmarks.kernel_costs kernels.json`.

One thread, CPU time, default kernels (XNNPACK takes what it can), all types of an operator interleaved, medians.
A cost is `ns_base + ns_per_unit * units`, fitted to the relative error over the sizes, less what an empty invocation
takes; the points behind a fit are kept. Units are output elements; input elements for reductions and poolings;
multiplications for linear operators.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import Any

import numpy as np

from benchmarks import single_op
from benchmarks.chains import chain_costs
from benchmarks.op_cases import BASE, Shape, case
from benchmarks.single_op import Case
from tfq_converters.flatbuffer import write
from tfq_converters.graph import Tensor
from tfq_converters.op_table import OPS, OpRow
from tfq_converters.runtime import Runner

RUNTIME = {"ai_edge_litert": "2.3.0", "machine": "x86_64 AVX512-VNNI", "threads": 1}
SIZES: tuple[Shape, ...] = ((1, 4, 4, 16), (1, 16, 32, 64), (1, 56, 56, 64))
OWN_SIZES: dict[str, tuple[Shape, ...]] = {
    "FULLY_CONNECTED": ((1, 64, 10), (8, 64, 64), (1, 1024, 1024), (128, 256, 1024)),
    "BATCH_MATMUL": ((1, 8, 16, 8), (4, 32, 64, 32), (4, 128, 64, 128)),
    "CONV_2D": ((1, 7, 7, 8, 8, 3), (1, 14, 14, 64, 64, 3), (1, 56, 56, 64, 64, 3)),
    "CONV_2D_1X1": ((1, 7, 7, 8, 8, 1), (1, 14, 14, 192, 64, 1), (1, 56, 56, 64, 64, 1)),
    "DEPTHWISE_CONV_2D": ((1, 7, 7, 16, 3), (1, 14, 14, 192, 3), (1, 56, 56, 64, 3)),
    "TRANSPOSE_CONV": ((1, 4, 4, 8, 8, 3), (1, 14, 14, 32, 32, 3), (1, 28, 28, 64, 32, 3)),
    "SOFTMAX": ((1, 16), (1, 1000), (1, 4, 128, 128)),
    "MEAN": ((1, 7, 7, 16), (1, 1, 128, 256), (1, 7, 7, 1280)),
    "MATRIX_DIAG": ((1, 4, 4, 16), (1, 8, 16, 32)),
}
BY_INPUT = {
    "MEAN",
    "SUM",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "ARG_MAX",
    "ARG_MIN",
    "TOPK_V2",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
}
HYBRID_VERSIONS = {
    "FULLY_CONNECTED": 12,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "TRANSPOSE_CONV": 3,
    "BATCH_MATMUL": 3,
}
ROUNDS = 7
LEAST_NS = 2_000_000  # of one timed batch
NOISE_NS = 200.0

File = tuple[bytes, list[np.ndarray]]


def unit_of(code: str, row: OpRow) -> str:
    """What the cost of an operator grows with."""
    if row.weight is not None or code == "BATCH_MATMUL":
        return "mac"
    return "input" if code in BY_INPUT else "output"


def units(given: Case, row: OpRow, results: Sequence[np.ndarray]) -> int:
    """How many units a case has."""
    unit = unit_of(given.code, row)
    sizes = [np.shape(i) if isinstance(i, np.ndarray) else i or () for i in given.inputs]
    if unit == "input":
        return int(np.prod(sizes[0]))
    if unit == "output":
        return sum(result.size for result in results)
    if given.code == "BATCH_MATMUL":
        return results[0].size * sizes[0][-1]
    weight = int(np.prod(sizes[row.weight or 0]))
    pixels = sizes[2] if given.code == "TRANSPOSE_CONV" else results[0].shape
    return int(np.prod(pixels[:-1])) * weight


def files(given: Case, row: OpRow) -> dict[str, File]:
    """type -> the file of a case in that type, with inputs."""
    types = single_op.float_types(given, row)
    encoded = single_op.encode(given, row, "int8", 0)
    results = single_op.float_run(given, encoded.values, types)
    outputs = [Tensor(f"out{i}", r.shape, t) for i, (r, t) in enumerate(zip(results, types, strict=True))]
    fed = [v for slot, v in encoded.values.items() if not isinstance(given.inputs[slot], np.ndarray)]
    made = {"float32": (write(single_op.float_graph(given, encoded.values, outputs)), fed)}
    for dtype in ("int8", "int16"):
        if row.takes(dtype):
            built = single_op.build(given, row, dtype)
            made[dtype] = (built.content, built.inputs)
    if given.code in HYBRID_VERSIONS:
        made |= weight_files(given, row, outputs)
    return made


def weight_files(given: Case, row: OpRow, outputs: Sequence[Tensor]) -> dict[str, File]:
    """The dynamic-range and weight-only files of a linear operator."""
    if given.code == "BATCH_MATMUL":
        lhs, rhs = given.inputs
        assert isinstance(rhs, tuple)
        constant = np.random.default_rng(0).normal(size=rhs).astype(np.float32)
        given, row = replace(given, inputs=(lhs, constant)), replace(row, data=(0,), weight=1)
    encoded = single_op.encode(given, row, "int8", 0)
    fed = [v for slot, v in encoded.values.items() if not isinstance(given.inputs[slot], np.ndarray)]
    dynamic = single_op.weight_graph(given, encoded, row, outputs, HYBRID_VERSIONS[given.code])
    only = single_op.weight_graph(given, encoded, row, outputs)
    return {"dynamic_int8": (write(dynamic), fed), "weight_only_int8": (write(only), fed)}


def border_files(code: str, shape: Shape) -> dict[str, File]:
    """type -> the file of QUANTIZE to it, or of DEQUANTIZE from it."""
    made: dict[str, File] = {}
    for dtype, version in (("int8", 2), ("int16", 3)):
        integer = single_op.activation("q", shape, single_op.encoding(-3, 3, dtype))
        real = Tensor("r", shape, "float32")
        ends = (real, integer) if code == "QUANTIZE" else (integer, real)
        fed = np.random.default_rng(0).integers(-100, 100, shape).astype(ends[0].dtype)
        made[dtype] = (write(single_op.one_op_graph(code, ends, version if code == "DEQUANTIZE" else 1)), [fed])
    return made


def open_files(made: Mapping[str, File]) -> dict[str, Any]:
    """type -> the interpreter, allocated and fed. Its bare `invoke` is timed: `Runner` would also set inputs."""
    opened = {}
    for dtype, (content, fed) in made.items():
        runner = Runner(content)
        runner.invoke(fed)
        opened[dtype] = runner._interpreter
    return opened


def interleaved(interpreters: Mapping[str, Any], rounds: int = ROUNDS) -> dict[str, float]:
    """Median CPU nanoseconds of one invocation of each, taken in turns."""
    counts = {name: max(1, int(LEAST_NS / _batch(i, 2))) for name, i in interpreters.items()}
    times: dict[str, list[float]] = {name: [] for name in interpreters}
    for _ in range(rounds):
        for name, interpreter in interpreters.items():
            times[name].append(_batch(interpreter, counts[name]))
    return {name: median(values) for name, values in times.items()}


def _batch(interpreter: Any, count: int) -> float:
    invoke: Callable[[], None] = interpreter.invoke
    start = process_time_ns()
    for _ in range(count):
        invoke()
    return max(process_time_ns() - start, 1) / count


def delegated(interpreter: Any) -> bool:
    """Whether the XNNPACK delegate has taken the last operator."""
    return bool(interpreter._get_ops_details()[-1]["op_name"] == "DELEGATE")


def empty_files() -> dict[str, Any]:
    """Invocations that run next to nothing: "plain" without a delegate, "delegate" with one call of it."""
    tiny = files(case("RELU", (1,)), OPS["RELU"])
    content, fed = tiny["float32"]
    plain = Runner(content, "optimized")
    plain.invoke(fed)
    return {"plain": plain._interpreter, "delegate": open_files(tiny)["float32"]}


def fit(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """(ns_base, ns_per_unit), both at least 0, with the least squared relative error (absolute below `NOISE_NS`)."""
    sizes, times = np.array(points, np.float64).T
    weight = 1 / np.maximum(times, NOISE_NS)
    design, target = np.stack([weight, sizes * weight], 1), times * weight
    best = np.linalg.lstsq(design, target, rcond=None)[0]
    if best[1] < 0:
        best = np.array([np.linalg.lstsq(design[:, :1], target, rcond=None)[0][0], 0.0])
    if best[0] < 0:
        best = np.array([0.0, np.linalg.lstsq(design[:, 1:], target, rcond=None)[0][0]])
    return float(best[0]), float(best[1])


def measure(sized: Sequence[tuple[int, dict[str, File]]], empty: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """type -> its cost, from files at several sizes; `empty` runs in turns with them and is taken off."""
    points: dict[str, list[tuple[int, float]]] = {}
    taken: dict[str, bool] = {}
    for count, made in sized:
        interpreters = open_files(made)
        times = interleaved({**interpreters, **empty})
        for dtype, interpreter in interpreters.items():
            taken[dtype] = delegated(interpreter)
            less = times["delegate" if taken[dtype] else "plain"]
            points.setdefault(dtype, []).append((count, round(max(times[dtype] - less, 0), 1)))
    found: dict[str, Any] = {"unit": unit}
    for dtype, measured in points.items():
        base, slope = fit(measured)
        numbers = {"ns_per_unit": float(f"{slope:.4g}"), "ns_base": float(f"{base:.4g}")}
        found[dtype] = {**numbers, "delegated": taken[dtype], "points": measured}
    return found


def operator_cost(name: str, empty: Mapping[str, Any]) -> dict[str, Any]:
    """The costs of one entry of `BASE` (or CONV_2D_1X1) in every type."""
    code = name.removesuffix("_1X1")
    row, sized = OPS[code], []
    for shape in OWN_SIZES.get(name, SIZES):
        given = BASE[code](shape)
        encoded = single_op.encode(given, row, "int8", 0)
        results = single_op.float_run(given, encoded.values, single_op.float_types(given, row))
        sized.append((units(given, row, results), files(given, row)))
    return measure(sized, empty, unit_of(code, row))


def all_costs() -> dict[str, Any]:
    """The whole record: overheads, a cost for every operator, chains."""
    empty = empty_files()
    times = interleaved(empty, 3 * ROUNDS)
    partition = max(times["delegate"] - times["plain"], 0.0)
    costs: dict[str, Any] = {}
    for code in ("QUANTIZE", "DEQUANTIZE"):
        sized = [(int(np.prod(shape)), border_files(code, shape)) for shape in SIZES]
        costs[code] = measure(sized, empty, "output")
    for name in sorted([*BASE, "CONV_2D_1X1"]):
        print(name, file=sys.stderr)
        costs[name] = operator_cost(name, empty)
    chains = chain_costs(_undelegated(costs), lambda made: interleaved(open_files(made)))
    return {"partition_ns": round(partition, 1), "cost": costs, "chains": chains}


def _undelegated(costs: Mapping[str, Any]) -> list[str]:
    return [code for code in BASE if code in costs and not costs[code].get("int8", {"delegated": True})["delegated"]]


def main(argv: Sequence[str]) -> int:
    """Measure, and update the runtime, cost and chain entries of the JSON file `argv[1]`, which may hold others."""
    if len(argv) != 2:
        print("usage: python -m benchmarks.kernel_costs FILE.json", file=sys.stderr)
        return 2
    path = Path(argv[1])
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(dumps({"runtime": RUNTIME, **known, **all_costs()}) + "\n")
    return 0


def dumps(record: Mapping[str, Any], depth: int = 3) -> str:
    """JSON with line breaks down to `depth` levels: one line for each type of each operator."""
    if depth == 0 or not isinstance(record, Mapping):
        return json.dumps(record)
    margin = " " * (4 - depth)
    lines = [f"{margin}{json.dumps(key)}: {dumps(value, depth - 1)}" for key, value in record.items()]
    return "{\n" + ",\n".join(lines) + "\n" + margin[1:] + "}"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
