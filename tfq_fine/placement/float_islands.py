"""Which operators compute in integers where both are possible: the choice that makes the whole file fastest.

Every operator has a measured cost in float and in integers, every tensor between the two kinds a cost of converting
it. The cheapest labelling of such a graph is a minimum cut (Greig, Porteous, Seheult 1989; Boykov et al. 2001).
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Literal

import numpy as np

from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.kernels import KernelTable, Target, costs, form_of
from tfq_converters.operators import facts_of, lstm, misfits, weight_axes
from tfq_converters.quantized import OpKey
from tfq_fine.activations import EncodedPlan, bounded, data_slots, encodings, float_outputs, tensor_range
from tfq_fine.calibration import Statistics
from tfq_fine.placement.minimum_cut import Network
from tfq_fine.placement.movers import between_floats
from tfq_fine.placement.poles import feeding, near_poles
from tfq_fine.planning import Decision, Plan, Policy, fineness, half_of
from tfq_fine.request import Blocks, PerChannel, WeightedSpec

NOISE = 0.15  # relative, in measured costs: weight-only kernels are float kernels over weights unpacked beforehand
WORTHWHILE = 0.05  # float islands must save this share of the time of the wholly integer file,
WORTHWHILE_NS = 10_000.0  # and this much: a file that runs in a moment anyway is quantized for smaller devices
SATURATED = 0.05  # error of a gate, whose values are in 0 .. 1: on one LSTM 0.01 cost 0 dB, 0.04 5 dB, 0.9 30 dB
FASTER = "it is faster in float (prefer='size' quantizes it)"
SLOW_LSTM = "its int8 kernel is slower than that on floats (prefer='size' takes it)"
How = Literal["small", "dynamic", "precise"]
"""How an island holds its weights: in 8 bits for the float kernels; in 8 bits for dynamic-range kernels where those are
faster, whose float inputs are rounded on the fly; or as the model has them, in float16 where the target reads that."""


def with_islands(
    graph: Graph, plan: Plan, islands: Mapping[int, str], target: Target, how: Mapping[int, How] | None = None
) -> Plan:
    """Return the plan with main-graph operators `islands` in float, each with its reason; see `How`."""
    changed = {}
    for o, reason in islands.items():
        spec = plan[0, o].spec
        if not isinstance(spec, WeightedSpec) or spec.mode == "weight_only":
            continue
        kind = (how or {}).get(o, "small")
        own = _on_the_fly(graph, o, spec, target, reason) if kind == "dynamic" else None
        if kind == "precise":
            own = _precise_island(graph, o, target, reason)
        changed[0, o] = own or _island(graph, o, plan[0, o], target, reason)
    return plan.but(changed)


def place(
    graph: Graph,
    plan: Plan,
    statistics: Statistics | None,
    policy: Policy,
    keep_integer: bool = False,
    bounded_masks: bool = True,
) -> EncodedPlan:
    """Leave operators in float where that makes the file faster, or where a range cannot be held in integers.

    Args:
        graph: the float graph.
        plan: what the kernels can compute.
        statistics: ranges of activations; needed when the plan has integer operators.
        policy: one that prefers size leaves every operator in integers that can be. A flexible one gives operators
            that lose an integer or dynamic-range kernel 8 bits: less would be slow in the float kernels; else they
            keep what they have. An operator stores its weights small for the float kernels only where the target's
            compute that.
        keep_integer: the file's borders are integers too, or an accelerator's compiler takes it, so it is meant for a
            device without float: no islands for speed.
        bounded_masks: the ranges of masked scores are cut (`attention_masks`).

    16-bit activations are slower than float on every CPU kernel; who asks for them wants their accuracy, so they
    are never given up for speed.
    """
    if policy.prefer == "speed":
        plan = plan.but({key: _faster(graph, key, decision, policy) for key, decision in plan.items()})
    ranges = statistics or Statistics()
    if not plan.integer_ops:
        return EncodedPlan(plan, statistics, ranges, encodings(graph, plan, ranges))
    ranges = bounded(graph, plan, ranges) if bounded_masks else ranges
    drowned = _drowned(graph, plan.integer_ops, ranges)
    plan = _left_float(plan.but(_saturated(graph, plan, ranges, policy.target)), drowned)
    placed = fit(graph, EncodedPlan(plan, statistics, ranges, encodings(graph, plan, ranges)))
    if policy.prefer == "speed" and not keep_integer:
        plan = placed.plan
        candidates = {o: bits for o, bits in plan.integer_ops.items() if bits == 8}
        pinned = set() if policy.flexible else _below_8_bits(plan)
        islands = _islands(graph, candidates, pinned, policy.target.table)
        placed = _refitted(graph, placed, {o: _island(graph, o, plan[0, o], policy.target) for o in islands})
    following = between_floats(graph.main, placed.plan.integer_ops, keep_integer)
    return _refitted(graph, placed, {o: Decision(None, reason) for o, reason in following.items()})


def _below_8_bits(plan: Plan) -> set[int]:
    """Return operators of the main subgraph whose weights have less than 8 bits."""
    specs = {o: decision.spec for (s, o), decision in plan.items() if s == 0 and decision.spec is not None}
    return {o for o, spec in specs.items() if isinstance(spec, WeightedSpec) and spec.weights.stored_bits < 8}


def _faster(graph: Graph, key: OpKey, decision: Decision, policy: Policy) -> Decision:
    """Return `decision`, or weights stored small with float computation where dynamic range would be slower."""
    if not isinstance(decision.spec, WeightedSpec) or decision.spec.mode != "dynamic":
        return decision
    subgraph = graph.subgraphs[key[0]]
    op = subgraph.ops[key[1]]
    table = policy.target.table
    if not costs.is_known(op, subgraph, "dynamic_int8", table):
        return decision  # embeddings: a table is read by rows, however it is stored
    if decision.form == "lookup":
        return decision
    plain, stored = (costs.cost(op, subgraph, kind, table) for kind in ("float32", "weight_only_int8"))
    count = parts(op, subgraph, decision.spec)
    kind = f"dynamic_int{decision.spec.weights.stored_bits}" if decision.form in costs.AS_MATRIX else "dynamic_int8"
    dynamic = costs.form_cost(op, subgraph, kind, decision.form, count, table)
    if dynamic <= plain:
        return decision
    slower = f"dynamic range would take {dynamic / plain:.1f} times as long as float (prefer='size' takes it)"
    reason = f"{decision.reason}; {slower}" if decision.reason else slower
    if decision.spec.weights.stored_bits < 8 and not policy.flexible:
        return decision
    small = _eight_bits(decision.spec)
    if stored <= plain * (1 + NOISE) and form_of(op, subgraph, fineness(small), policy.target).works:
        return Decision(small, reason, "dequantize")
    return Decision(None, reason)


def parts(op: Op, subgraph: Subgraph, spec: WeightedSpec) -> int:
    """Return how many operators a split along the inputs makes of `op`."""
    granularity = spec.weights.granularity
    if not isinstance(granularity, Blocks):
        return 1
    (axes, *_) = weight_axes(op, subgraph)
    return -(-subgraph.tensors[op.inputs[axes.slot]].shape[axes.input_axis] // granularity.size)


def _refitted(graph: Graph, placed: EncodedPlan, changed: Mapping[int, Decision]) -> EncodedPlan:
    """Return the plan with other decisions on operators of the main subgraph, fitted again where there are any."""
    plan = placed.plan.but({(0, o): decision for o, decision in changed.items()})
    if plan is placed.plan:
        return placed
    return fit(graph, replace(placed, plan=plan, encodings=encodings(graph, plan, placed.ranges)))


def fit(graph: Graph, placed: EncodedPlan) -> EncodedPlan:
    """Leave the integer operators in float whose kernels do not compute on the encodings they would get.

    Leaving one out changes the scales that its neighbours share, so that the rest is looked at again.
    """
    while True:
        plan, encoded, statistics = placed.plan, placed.encodings, placed.ranges
        misfit = {}
        for o, bits in plan.integer_ops.items():
            op, key = graph.main.ops[o], (0, o)
            inputs, outputs = ([*side[key].values()] for side in (encoded.inputs, encoded.outputs))
            first = op.inputs[data_slots(op, graph.main)[0]]
            lowest = tensor_range(graph.main, first, statistics).low
            wrong = misfits(op.code, f"int{bits}", graph.main.tensors[first].shape, inputs, outputs, lowest)
            if wrong:
                misfit[o] = f"the int{bits} kernel of {op.code} does not take its scales: {'; '.join(wrong)}"
                if facts_of(op.code).pole == "saturates":
                    reason = f"rounded to 0, its values would have no finite {op.code} in float"
                    misfit |= dict.fromkeys(feeding(graph.main, first, plan.integer_ops), reason)
        misfit |= near_poles(graph.main, plan.integer_ops, encoded.tensors, statistics)
        if not misfit:
            return placed
        plan = _left_float(plan, misfit)
        placed = replace(placed, plan=plan, encodings=encodings(graph, plan, statistics))


def _island(graph: Graph, o: int, decision: Decision, target: Target, reason: str = "") -> Decision:
    """Compute in float with small weights. A fused LSTM computes on its weights unchanged."""
    op = graph.main.ops[o]
    reason = reason or (SLOW_LSTM if op.code == lstm.CODE else FASTER)
    if not isinstance(decision.spec, WeightedSpec) or not weight_axes(op, graph.main):
        return Decision(None, reason)
    small = _eight_bits(decision.spec)
    on_the_fly = [WeightedSpec("dynamic", decision.spec.weights)] if op.code == lstm.CODE else []
    for spec in (*on_the_fly, small):
        answer = form_of(op, graph.main, fineness(spec), target)
        if answer.form is not None:
            return Decision(spec, reason, answer.form)
    return Decision(None, reason)


def _on_the_fly(graph: Graph, o: int, spec: WeightedSpec, target: Target, reason: str) -> Decision | None:
    """Return dynamic range where its kernel beats the float one; None elsewhere."""
    op, main = graph.main.ops[o], graph.main
    if not weight_axes(op, main) or not costs.is_known(op, main, "dynamic_int8", target.table):
        return None
    small = _eight_bits(spec).weights
    dynamic, plain = (costs.cost(op, main, kind, target.table) for kind in ("dynamic_int8", "float32"))
    answer = form_of(op, main, fineness(WeightedSpec("dynamic", small)), target)
    if dynamic >= plain or answer.form is None or not answer.works:
        return None
    return Decision(WeightedSpec("dynamic", small), reason, answer.form)


def _precise_island(graph: Graph, o: int, target: Target, reason: str) -> Decision:
    """Compute in float, on weights that are as good as those of the model."""
    if target.no_float16 or not weight_axes(graph.main.ops[o], graph.main):
        return Decision(None, reason)
    half = half_of(graph.main.ops[o], graph.main)
    return Decision(None, reason) if half is None else Decision(half, reason, "dequantize")


def running_time(graph: Graph, plan: Plan, table: KernelTable | None) -> float:
    """Return the nanoseconds of one run by the table of costs, with conversions between float and integers."""
    main = graph.main
    integers = plan.integer_ops
    total = _conversions(main, integers, Network(), table)
    for o, op in enumerate(main.ops):
        spec = plan[0, o].spec
        dynamic = spec is not None and spec.mode == "dynamic"
        kind = f"int{integers[o]}" if o in integers else "dynamic_int8" if dynamic else "float32"
        total += costs.cost(op, main, kind, table)
    return total


def _eight_bits(spec: WeightedSpec) -> WeightedSpec:
    """Return the weights alone, for the float kernels: fewer bits, or blocks, are unpacked by no fast one."""
    weights = spec.weights
    if weights.stored_bits < 8 or isinstance(weights.granularity, Blocks):
        weights = replace(weights, bits=8, granularity=PerChannel())
    return WeightedSpec("weight_only", weights)


def _left_float(plan: Plan, reasons: Mapping[int, str]) -> Plan:
    return plan.but({(0, o): Decision(None, reason) for o, reason in reasons.items()})


def _drowned(graph: Graph, ops: Mapping[int, int], statistics: Statistics) -> dict[int, str]:
    """Return operators around a tensor whose step would exceed the whole range of an operand: an additive mask, mostly.

    -1e9 added to attention scores is not data: in integers its range leaves no step for the scores themselves.
    """
    main = graph.main
    bad: dict[int, str] = {}
    for o, bits in ops.items():
        op = main.ops[o]
        if not facts_of(op.code).joins:
            continue
        operands = [op.inputs[slot] for slot in data_slots(op, main)]
        operands = [t for t in operands if not main.tensors[t].is_constant]  # an epsilon tells nothing that can be lost
        for t in (op.outputs[slot] for slot in float_outputs(op, main)):
            step = tensor_range(main, t, statistics).extent / (2**bits - 1)
            for operand in operands:
                extent = tensor_range(main, operand, statistics).extent
                if 0 < extent < step:
                    bad[t] = (
                        f"one step of {main.tensors[t].name} would exceed the range of {main.tensors[operand].name}"
                    )
    reasons: dict[int, str] = {}
    moved = dict(bad)  # a drowned tensor stays one when it is reshaped
    for o, op in enumerate(main.ops):
        touching = next((moved[t] for t in (*op.inputs, *op.outputs) if t in moved), None)
        if o in ops and touching:
            reasons[o] = touching
            if facts_of(op.code).within_input:
                moved |= dict.fromkeys(op.outputs, touching)
    return reasons


def _saturated(graph: Graph, plan: Plan, statistics: Statistics, target: Target) -> dict[OpKey, Decision]:
    """Return fused LSTMs whose integer kernel would cut the sums of gates on the calibration data."""
    reasons = {}
    for key, (_, off) in statistics.strains.items():
        spec = plan[key].spec
        if spec is not None and spec.mode == "integer" and off > SATURATED:
            reason = f"sums of its int8 kernel saturate at {lstm.SUM_LIMIT:g}, which puts a gate {off:.2f} off"
            reasons[key] = _island(graph, key[1], plan[key], target, reason)
    return reasons


def _islands(graph: Graph, ops: Mapping[int, int], pinned: AbstractSet[int], table: KernelTable | None) -> set[int]:
    """Return the operators of `ops`, but not of `pinned`, that the cheapest labelling leaves in float."""
    main = graph.main
    network = Network()
    integer_total = 0.0
    for o, bits in ops.items():
        in_float, in_integers = (costs.cost(main.ops[o], main, kind, table) for kind in ("float32", f"int{bits}"))
        network.add(("source",), ("op", o), np.inf if o in pinned else in_float)
        network.add(("op", o), ("sink",), in_integers)
        integer_total += in_integers
    integer_total += _conversions(main, ops, network, table)
    integers = {name[1] for name in network.source_side() if name[0] == "op"}
    islands = set(ops) - integers
    best = sum(costs.cost(main.ops[o], main, f"int{ops[o]}" if o in integers else "float32", table) for o in ops)
    best += _conversions(main, {o: ops[o] for o in integers}, Network(), table)
    saved = integer_total - best
    return islands if saved > max(WORTHWHILE * integer_total, WORTHWHILE_NS) else set()


def _conversions(main: Subgraph, ops: Mapping[int, int], network: Network, table: KernelTable | None) -> float:
    """Add to `network` what conversions cost between operators; returns their cost when all of `ops` are integer.

    A tensor is dequantized once when it is written in integers and read in float, quantized once in the other case.
    """
    total = 0.0
    producers = main.producers()
    consumers = main.consumers()
    for t, tensor in enumerate(main.tensors):
        if tensor.dtype != "float32" or tensor.is_constant:
            continue
        writer = producers.get(t)
        readers = [o for o, slot in consumers.get(t, []) if o not in ops or slot in data_slots(main.ops[o], main)]
        if writer is None and t not in main.inputs:
            continue
        writes_integer = writer in ops
        reads_float = t in main.outputs or any(o not in ops for o in readers)
        reads_integer = any(o in ops for o in readers)
        to_float, to_integer = (costs.conversion(tensor, code, table=table) for code in ("DEQUANTIZE", "QUANTIZE"))
        total += to_float * (writes_integer and reads_float) + to_integer * (not writes_integer and reads_integer)
        start = ("op", writer) if writes_integer else ("sink",)
        if writes_integer:
            network.add(start, ("dequantized", t), to_float)
            for reader in [("op", o) if o in ops else ("sink",) for o in readers] + [("sink",)] * (t in main.outputs):
                network.add(("dequantized", t), reader, np.inf)
        network.add(("quantized", t), start, to_integer)
        for o in readers:
            if o in ops:
                network.add(("op", o), ("quantized", t), np.inf)
    return total
