"""Measure what operators cost in float and in integers: `python -m benchmarks.kernel_costs kernels.json [NAME ...]`.

One thread, CPU time, default kernels (XNNPACK takes what it can), all types of an operator interleaved, medians.
A cost is `ns_base + ns_per_unit * units`, fitted to the relative error over the sizes, less what an empty invocation
takes; the points that a fit is made of are kept. Units are output elements; input elements for reductions and poolings;
multiplications for linear operators. A 1x1 convolution, and FULLY_CONNECTED in its place (POINTWISE), also have
`ns_per_row`: many rows of few inputs cost more than their multiplications.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks import single_op
from benchmarks.chains import chain_costs
from benchmarks.op_cases import BASE, Shape, case
from benchmarks.single_op import Case
from benchmarks.timing import in_turns
from tfq_converters.flatbuffer import write
from tfq_converters.graph import Tensor
from tfq_converters.kernels import Cell, load, save
from tfq_converters.kernels.costs import POINTWISE
from tfq_converters.operators import OPS, KernelRow, lstm
from tfq_converters.probe.build import cell_graph
from tfq_converters.probe.cases import BITS, FORMS
from tfq_converters.probe.operands import operands
from tfq_converters.probe.reference import answer
from tfq_converters.probe.run import measured_on
from tfq_converters.runtime import Runner

SIZES: tuple[Shape, ...] = ((1, 4, 4, 16), (1, 16, 32, 64), (1, 56, 56, 64))
POINTWISE_SIZES = (  # side of the image, inputs, channels: many rows of few inputs cost more than their multiplications
    (1, 64, 10), (1, 1024, 1024), (4, 32, 128), (4, 128, 48), (7, 8, 8), (7, 96, 24), (7, 320, 1280), (14, 16, 64),
    (14, 64, 24), (14, 192, 64), (14, 384, 64), (28, 24, 144), (28, 144, 32), (56, 64, 64), (112, 32, 16),
)  # fmt: skip
OWN_SIZES: dict[str, tuple[Shape, ...]] = {
    "FULLY_CONNECTED": ((1, 64, 10), (8, 64, 64), (1, 1024, 1024), (128, 256, 1024)),
    "BATCH_MATMUL": ((1, 8, 16, 8), (4, 32, 64, 32), (4, 128, 64, 128)),
    "CONV_2D": ((1, 7, 7, 8, 8, 3), (1, 14, 14, 64, 64, 3), (1, 56, 56, 64, 64, 3)),
    "CONV_2D_1X1": tuple((1, side, side, inputs, channels, 1) for side, inputs, channels in POINTWISE_SIZES),
    "DEPTHWISE_CONV_2D": ((1, 7, 7, 16, 3), (1, 14, 14, 192, 3), (1, 56, 56, 64, 3)),
    "TRANSPOSE_CONV": ((1, 4, 4, 8, 8, 3), (1, 14, 14, 32, 32, 3), (1, 28, 28, 64, 32, 3)),
    "SOFTMAX": ((1, 16), (1, 1000), (1, 4, 128, 128)),
    "MEAN": ((1, 7, 7, 16), (1, 1, 128, 256), (1, 7, 7, 1280)),
    "MATRIX_DIAG": ((1, 4, 4, 16), (1, 8, 16, 32)),
    POINTWISE: tuple((rows * rows, inputs, channels) for rows, inputs, channels in POINTWISE_SIZES),
    lstm.CODE: ((1, 11, 5, 7), (1, 50, 16, 32), (1, 28, 28, 64), (1, 50, 40, 128)),  # batch, steps, inputs, units
}
LSTM_MODES = {"float32": ("float", 32, ""), "int8": ("integer8", 8, "per_tensor")} | {
    f"{mode}_int8": (mode, 8, "per_tensor") for mode in ("dynamic", "weight_only")
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
ROUNDS = 5
PASSES = 5  # far apart in time, since the speed of a shared machine drifts
NOISE_NS = 200.0
SLOPES = ("ns_per_unit", "ns_per_row")

BORDERS = ("QUANTIZE", "DEQUANTIZE")
NAMES = (*BORDERS, *sorted([*BASE, "CONV_2D_1X1", lstm.CODE, POINTWISE]))

File = tuple[bytes, list[np.ndarray]]
Units = tuple[int, ...]  # (units,), or (units, rows) for POINTWISE
Sized = tuple[Units, dict[str, File]]  # and the file of every type
Points = dict[tuple[str, Units], tuple[float, bool]]


def unit_of(code: str, row: KernelRow) -> str:
    """Return the unit of an operator's cost, such as multiplications."""
    if row.weight is not None or code in ("BATCH_MATMUL", lstm.CODE):
        return "mac"
    return "input" if code in BY_INPUT else "output"


def units(given: Case, row: KernelRow, results: Sequence[np.ndarray]) -> int:
    """Return how many units a case has."""
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


def files(given: Case, row: KernelRow) -> dict[str, File]:
    """Return type -> the file of a case in that type, with inputs."""
    types = single_op.float_types(given, row)
    encoded = single_op.encode(given, row, "int8", 0)
    results = single_op.float_run(given, encoded.values, types)
    outputs = [Tensor(f"out{i}", r.shape, t) for i, (r, t) in enumerate(zip(results, types, strict=True))]
    fed = [v for slot, v in encoded.values.items() if not isinstance(given.inputs[slot], np.ndarray)]
    made = {"float32": (write(single_op.float_graph(given, encoded.values, outputs)), fed)}
    for dtype in ("int8", "int16"):
        if row.takes(dtype) and dtype not in row.written:  # no kernel of its own
            built = single_op.build(given, row, dtype)
            made[dtype] = (built.content, built.inputs)
    if given.code in HYBRID_VERSIONS:
        made |= weight_files(given, row, outputs)
    return made


def weight_files(case: Case, row: KernelRow, outputs: Sequence[Tensor]) -> dict[str, File]:
    """Return the dynamic-range and weight-only files of a linear operator."""
    if case.code == "BATCH_MATMUL":
        lhs, rhs = case.inputs
        assert isinstance(rhs, tuple)
        constant = np.random.default_rng(0).normal(size=rhs).astype(np.float32)
        case = replace(case, inputs=(lhs, constant), weight=(1, None))
    encoded = single_op.encode(case, row, "int8", 0)
    fed = [v for slot, v in encoded.values.items() if not isinstance(case.inputs[slot], np.ndarray)]
    dynamic = single_op.weight_graph(case, encoded, outputs, HYBRID_VERSIONS[case.code])
    only = single_op.weight_graph(case, encoded, outputs)
    return {"dynamic_int8": (write(dynamic), fed), "weight_only_int8": (write(only), fed)}


def lstm_files(shape: Shape) -> dict[str, File]:
    """Return type -> the file of a fused LSTM: the cell of the probe, at the shape (batch, steps, inputs, units)."""
    form = replace(FORMS[lstm.CODE, ""], data=shape[:3], weight=(shape[3], shape[2]))
    made = {}
    for name, (mode, bits, granularity) in LSTM_MODES.items():
        cell = Cell(lstm.CODE, "", mode, bits, granularity)
        values = operands(cell, form)
        fed = values.data if values.encoding is None else values.encoding.encode(values.data)
        made[name] = write(cell_graph(cell, form, values, answer(cell, form, values))), [fed]
    return made


def pointwise_files(shape: Shape) -> dict[str, File]:
    """Return type -> the dynamic-range file of FULLY_CONNECTED on (rows, inputs, channels)."""
    rows, inputs, channels = shape
    form = replace(FORMS["FULLY_CONNECTED", ""], data=(rows, inputs), weight=(channels, inputs))
    made = {}
    for bits in BITS:
        cell = Cell("FULLY_CONNECTED", "", "dynamic", bits, "per_channel")
        values = operands(cell, form)
        made[f"dynamic_int{bits}"] = write(cell_graph(cell, form, values, answer(cell, form, values))), [values.data]
    return made


def border_files(code: str, shape: Shape) -> dict[str, File]:
    """Return type -> the file of QUANTIZE to it, or of DEQUANTIZE from it."""
    made: dict[str, File] = {}
    for dtype, version in (("int8", 2), ("int16", 3)):
        integer = single_op.activation("q", shape, single_op.encoding(-3, 3, dtype))
        real = Tensor("r", shape, "float32")
        ends = (real, integer) if code == "QUANTIZE" else (integer, real)
        fed = np.random.default_rng(0).integers(-100, 100, shape).astype(ends[0].dtype)
        made[dtype] = (write(single_op.one_op_graph(code, ends, version if code == "DEQUANTIZE" else 1)), [fed])
    return made


def open_files(made: Mapping[str, File]) -> dict[str, Any]:
    """Return type -> the interpreter, allocated and fed. Its bare `invoke` is timed: `Runner` would also set inputs."""
    opened = {}
    for dtype, (content, fed) in made.items():
        runner = Runner(content)
        runner.invoke(fed)
        opened[dtype] = runner._interpreter
    return opened


def interleaved(interpreters: Mapping[str, Any], rounds: int = ROUNDS) -> dict[str, float]:
    """Median CPU nanoseconds of one invocation of each, taken in turns."""
    times = in_turns({name: i.invoke for name, i in interpreters.items()}, seconds=0, fewest_rounds=rounds)
    return {name: times.median(name) for name in interpreters}


def delegated(interpreter: Any) -> bool:
    """Return whether the XNNPACK delegate has taken the last operator."""
    return bool(interpreter._get_ops_details()[-1]["op_name"] == "DELEGATE")


def empty_files() -> dict[str, Any]:
    """Invocations that run next to nothing: "plain" without a delegate, "delegate" with one call of it."""
    tiny = files(case("RELU", (1,)), OPS["RELU"])
    content, fed = tiny["float32"]
    plain = Runner(content, "optimized")
    plain.invoke(fed)
    return {"plain": plain._interpreter, "delegate": open_files(tiny)["float32"]}


def fit(points: Sequence[tuple[Units, float]]) -> tuple[float, ...]:
    """Base and slopes, all at least 0, with the least squared relative error (absolute below `NOISE_NS`)."""
    times = np.array([ns for _, ns in points])
    weight = 1 / np.maximum(times, NOISE_NS)
    design = np.array([(1, *units) for units, _ in points], np.float64)
    return tuple(map(float, nnls(design * weight[:, np.newaxis], times * weight)[0]))


def measure(sized: Sequence[Sized], empty: Mapping[str, Any]) -> Points:
    """Return (type, units) -> nanoseconds, less those of `empty`, and whether delegated; runs are measured in turns."""
    points: Points = {}
    for count, made in sized:
        interpreters = open_files(made)
        times = interleaved({**interpreters, **empty})
        for dtype, interpreter in interpreters.items():
            taken = delegated(interpreter)
            less = times["delegate" if taken else "plain"]
            points[dtype, count] = max(times[dtype] - less, 0.0), taken
    return points


def summary(passes: Sequence[Points], unit: str) -> dict[str, Any]:
    """Return type -> its cost, from the medians over the passes."""
    costs: dict[str, Any] = {"unit": unit}
    for dtype in dict.fromkeys(key[0] for key in passes[0]):
        keys = [key for key in passes[0] if key[0] == dtype]
        measured = [(key[1], round(median(points[key][0] for points in passes), 1)) for key in keys]
        base, *slopes = (float(f"{number:.4g}") for number in fit(measured))
        numbers = {**dict(zip(SLOPES, slopes, strict=False)), "ns_base": base}
        points = [(*units, ns) for units, ns in measured]
        costs[dtype] = {**numbers, "delegated": passes[0][keys[-1]][1], "points": points}
    return costs


def sized_files(name: str) -> list[Sized]:
    """Return the files of one entry of `BASE` (or CONV_2D_1X1, QUANTIZE, DEQUANTIZE) at its sizes."""
    if name in BORDERS:
        return [((int(np.prod(shape)),), border_files(name, shape)) for shape in SIZES]
    if name == lstm.CODE:
        return [((4 * b * t * n * (i + n),), lstm_files((b, t, i, n))) for b, t, i, n in OWN_SIZES[name]]
    if name == POINTWISE:
        return [((r * i * c, r), pointwise_files((r, i, c))) for r, i, c in OWN_SIZES[name]]
    code = name.removesuffix("_1X1")
    row, sized = OPS[code], []
    for shape in OWN_SIZES.get(name, SIZES):
        case = BASE[code](shape)
        encoded = single_op.encode(case, row, "int8", 0)
        results = single_op.float_run(case, encoded.values, single_op.float_types(case, row))
        rows = (results[0].size // results[0].shape[-1],) if name == "CONV_2D_1X1" else ()
        sized.append(((units(case, row, results), *rows), files(case, row)))
    return sized


def costs_of(names: Sequence[str], empty: Mapping[str, Any]) -> dict[str, Any]:
    """Return name -> the cost of that operator; `empty` are invocations that run next to nothing."""
    passes: dict[str, list[Points]] = {name: [] for name in names}
    for number in range(PASSES):
        for name, points in passes.items():
            print(f"pass {number + 1} of {PASSES}: {name}", file=sys.stderr)
            points.append(measure(sized_files(name), empty))
    return {name: summary(points, _unit(name)) for name, points in passes.items()}


def all_costs() -> dict[str, Any]:
    """Return the whole record: what one more delegate call takes, a cost for every operator, chains."""
    empty = empty_files()
    times = interleaved(empty, 3 * ROUNDS)
    costs = costs_of(NAMES, empty)
    chains = chain_costs(_undelegated(costs), lambda made: interleaved(open_files(made), 3 * ROUNDS))
    return {"partition_ns": round(max(times["delegate"] - times["plain"], 0), 1), "cost": costs, "chains": chains}


def _unit(name: str) -> str:
    if name == POINTWISE:
        return "mac"
    code = name.removesuffix("_1X1")
    return unit_of(code, OPS[code]) if code in OPS else "output"


def _undelegated(costs: Mapping[str, Any]) -> list[str]:
    return [code for code in BASE if code in costs and not costs[code].get("int8", {"delegated": True})["delegated"]]


def main(argv: Sequence[str]) -> int:
    """Measure, and update all but the cells of the kernel table `argv[1]`; only named operators, if any are named."""
    if len(argv) < 2 or not {*argv[2:]} <= {*NAMES}:
        print(
            f"usage: python -m benchmarks.kernel_costs FILE.json [NAME ...]; names: {', '.join(NAMES)}", file=sys.stderr
        )
        return 2
    records = load(argv[1] if Path(argv[1]).exists() else None)
    named = {"cost": {**records.cost, **costs_of(argv[2:], empty_files())}} if argv[2:] else all_costs()
    save(replace(records, costs_on={**measured_on(), "threads": 1}, **named), argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
