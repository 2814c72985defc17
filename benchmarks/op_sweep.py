"""Whether the run check passes right files: every integer operator on random shapes, options and ranges.

`python -m benchmarks.op_sweep [--count 50] [--seed 1] [CODE ...]` prints, for each operator and type, how many of the
files were refused, and the first refusal. Operators that placement leaves in float are counted apart.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.op_cases import BASE
from benchmarks.random_ops import random_case
from benchmarks.single_op import Case, float_run, float_types
from tfq_converters import writer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.operators import OPS
from tfq_converters.quantized import QuantizedGraph
from tfq_fine.calibration import calibrate
from tfq_fine.data import Batch
from tfq_fine.placement.float_islands import place
from tfq_fine.planning import Policy, make_plan
from tfq_fine.request.presets import RECIPES
from tfq_fine.weights import quantize

RECIPE = {"int8": "full_int8", "int16": "full_int16x8"}
DEFAULTS = {  # option -> its value in the schema, of those that the float graph must name
    "MulOptions": {"fusedActivationFunction": 0},
    "AddOptions": {"fusedActivationFunction": 0},
    "SubOptions": {"fusedActivationFunction": 0},
    "DivOptions": {"fusedActivationFunction": 0},
}
EXCESS = np.float32(1.3)
ELSEWHERE = frozenset({"FILL", "ONE_HOT"})  # without an input that has a sample axis: `test_op_table`
POLICY = Policy("size", flexible=True)


@dataclass(frozen=True)
class Swept:
    """The outcomes of the files of one operator in one type."""

    refused: tuple[str, ...]  # what the check said
    integer: int  # operators in integers
    total: int


def swept(codes: Sequence[str], dtype: str, count: int, seed: int) -> Swept:
    """Quantize and check `count` random operators of each of `codes`, side by side in one file."""
    rng = np.random.default_rng([seed, *"".join(codes).encode(), len(dtype)])
    cases = [random_case(code, rng) for code in codes for _ in range(count)]
    refused: list[str] = []
    numbers, samples = quantized(cases, dtype, rng)
    integer = sum(encoding.mode == "integer" for encoding in numbers.ops.values())
    while True:
        try:
            writer.write(numbers, samples)
            break
        except TfqError as error:
            refused.append(str(error))
            named = re.findall(r"case_\d+", str(error))
            skipped = {(0, o) for o, op in enumerate(numbers.graph.main.ops) if op.layer in named} & set(numbers.ops)
            if not skipped:
                break
            numbers = replace(numbers, ops={key: e for key, e in numbers.ops.items() if key not in skipped})
    return Swept(tuple(refused), integer, len(cases))


def quantized(cases: Sequence[Case], dtype: str, rng: np.random.Generator) -> tuple[QuantizedGraph, list]:
    """Return the numbers of all `cases` side by side in one file, and samples to check it with."""
    graph, spans = side_by_side(cases, rng)
    samples = [tuple(_values(rng, t, spans[k]) for k, t in enumerate(_inputs(graph))) for _ in range(3)]
    beyond = tuple(_beyond(values, spans[k]) for k, values in enumerate(samples[0]))
    statistics = calibrate(graph, (Batch(sample, None, n) for n, sample in enumerate(samples)))
    planned = make_plan(graph, RECIPES[RECIPE[dtype]].resolve(graph), POLICY)
    plan = place(graph, planned, statistics, POLICY, keep_integer=True)
    return quantize(graph, plan), [samples[0], beyond]


def side_by_side(cases: Sequence[Case], rng: np.random.Generator) -> tuple[Graph, list[tuple[float, float]]]:
    """Return the float graph of all `cases`, each with inputs of its own, and the ranges of the inputs."""
    tensors: list[Tensor] = []
    ops, inputs, outputs, spans = [], [], [], []
    for n, case in enumerate(cases):
        row, slots = OPS[case.code], []
        values = {}
        for slot, operand in enumerate(case.inputs):
            if operand is None:
                slots.append(-1)
                continue
            slots.append(len(tensors))
            if isinstance(operand, np.ndarray):
                values[slot] = operand
                tensors.append(Tensor(f"case_{n}/c{slot}", operand.shape, operand.dtype.name, data=operand))
                continue
            dtype = "bool" if slot in case.bool_slots else "float32"
            tensors.append(Tensor(f"case_{n}/x{slot}", operand, dtype))
            inputs.append(slots[-1])
            spans.append(case.ranges.get(slot, (case.low, case.high)))
            values[slot] = _values(rng, tensors[-1], spans[-1])
        types = float_types(case, row)
        results = [
            Tensor(f"case_{n}/y{k}", result.shape, kind)
            for k, (result, kind) in enumerate(zip(float_run(case, values, types), types, strict=True))
        ]
        outputs += range(len(tensors), len(tensors) + len(results))
        kind = case.options
        chosen = None if kind is None else Options(kind.kind, DEFAULTS.get(kind.kind, {}) | dict(kind.values))
        ops.append(
            Op(
                case.code,
                tuple(slots),
                tuple(range(len(tensors), len(tensors) + len(results))),
                chosen,
                2 if case.code == "BROADCAST_TO" else 1,
                layer=f"case_{n}",
            )
        )
        tensors += results
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), tuple(inputs), tuple(outputs)),)), spans


def _inputs(graph: Graph) -> list[Tensor]:
    return [graph.main.tensors[t] for t in graph.main.inputs]


def _values(rng: np.random.Generator, tensor: Tensor, span: tuple[float, float]) -> np.ndarray:
    if tensor.dtype == "bool":
        return rng.random(tensor.shape) < 0.5
    low, high = span
    values = rng.uniform(low, high, tensor.shape).astype(np.float32)
    values.reshape(-1)[: min(2, values.size)] = (high, low)[: min(2, values.size)]
    return values


def _beyond(values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Return values that leave the calibrated range on the side away from 0, as new data does."""
    return (
        values if values.dtype == bool else np.where(np.abs(values) > 0.7 * np.abs(span).max(), EXCESS * values, values)
    )


def main() -> None:
    """Print one line for each operator and type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codes", nargs="*")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for code in arguments.codes or [code for code in BASE if code not in ELSEWHERE]:
        for dtype in RECIPE:
            if code in OPS and (OPS[code].takes(dtype) or dtype in OPS[code].written):
                rows = swept([code], dtype, arguments.count, arguments.seed)
                print(f"{code:26} {dtype:6} {rows.integer}/{rows.total} in integers, {len(rows.refused)} refused")
                for line in rows.refused[:3]:
                    print(f"    {line}", flush=True)


if __name__ == "__main__":
    main()
