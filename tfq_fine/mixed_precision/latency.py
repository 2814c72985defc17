"""How long the candidates of a layer take, at its own shape on this machine, and how long whole files do.

Every time is a ratio to float, of runs in alternation, so that a busy machine slows both alike. The kernel table's cost
of a layer in float says what its ratio is a part of.
"""

from collections.abc import Callable, Sequence

from tfq_converters import flatbuffer
from tfq_converters.check import encoded
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.graph_edit import part
from tfq_converters.kernels import KernelTable, costs
from tfq_converters.quantized import OpEncoding, OpKey, QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner, timed
from tfq_fine.mixed_precision.fitting import FittedCandidate
from tfq_fine.mixed_precision.sensitivity import PartialRuns
from tfq_fine.mixed_precision.units import Candidate, Unit
from tfq_fine.planning import Decision

OPERATOR_SECONDS, FILE_SECONDS = 0.1, 1.0  # that a pair of operators, and of files, are run for


def float_time(graph: Graph, table: KernelTable | None) -> float:
    """Return the nanoseconds of one run of the float model by the kernel table."""
    return sum(costs.cost(op, graph.main, "float32", table) for op in graph.main.ops)


def time_costs(
    runs: PartialRuns,
    units: Sequence[Unit],
    candidates: Sequence[FittedCandidate],
    table: KernelTable | None,
    begin: Callable[[Unit], None],
) -> dict[tuple[Unit, Candidate], float]:
    """Return what each candidate of a unit takes longer than float, as a share of the whole float model's time.

    Args:
        runs: the float model, at its inputs.
        units: the layers, in the order of their first operators.
        candidates: what each would be in the file.
        table: the kernel table; the shipped one when None.
        begin: is told which unit is next.
    """
    graph = runs.graph
    whole = float_time(graph, table)
    times: dict[tuple[Unit, Candidate], float] = {}
    for unit in units:
        begin(unit)
        done: dict[tuple[Decision, ...], float] = {}
        for fitted in candidates:
            same = fitted.decisions(unit)
            if same not in done:
                own = [key for key in unit.keys if key in fitted.encodings]
                plain = {key: costs.cost(graph.main.ops[key[1]], graph.main, "float32", table) for key in own}
                done[same] = sum((_ratio(runs, key, fitted.encodings[key]) - 1) * plain[key] for key in own)
            times[unit, fitted.candidate] = done[same] / whole
    return times


def _ratio(runs: PartialRuns, key: OpKey, encoding: OpEncoding) -> float:
    """Return the time of one operator with an encoding, as a multiple of the float operator's.

    An operator in integers reads and writes integers, as it does between others.
    """
    graph, o = runs.graph, key[1]
    runs.go_to(o)
    segment = part(graph, [o])
    tensors = {graph.main.tensors[t].name: t for t in graph.main.ops[o].inputs if t >= 0}
    own = segment.graph.main
    slots = {t: slot for slot, t in enumerate(own.ops[0].inputs)}
    borders = {(0, t): encoding.inputs[slots[t]] for t in own.inputs if slots.get(t) in encoding.inputs}
    borders |= {(0, t): encoding.outputs[slot] for slot, t in enumerate(own.ops[0].outputs) if slot in encoding.outputs}
    quantized = QuantizedGraph(segment.graph, {(0, 0): encoding}, borders)
    fed = [runs.values[tensors[own.tensors[t].name]] for t in own.inputs]
    return _alternating(segment.graph, fed, quantized)


def file_ratio(graph: Graph, sample: Sequence[AnyArray], quantized: QuantizedGraph) -> float:
    """Return the time of a whole file as a multiple of the float model's."""
    return _alternating(graph, sample, quantized, FILE_SECONDS)


def _alternating(
    graph: Graph, fed: Sequence[AnyArray], quantized: QuantizedGraph, seconds: float = OPERATOR_SECONDS
) -> float:
    with flatbuffer.scratch(graph) as plain, flatbuffer.scratch(realize(quantized).graph) as other:
        runners = [Runner(plain), Runner(other)]
    before, after, _ = timed(runners, [list(fed), encoded(quantized, fed)], seconds)
    return after / before
