"""The stage that chooses the numbers: (float graph, plan with encodings) -> `QuantizedGraph`."""

from collections.abc import Mapping
from dataclasses import replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, IdentityCache
from tfq_converters.quantized import ActivationEncoding, OpEncoding, OpKey, QuantizedGraph, TensorKey, WeightCodes
from tfq_fine.activations import EncodedPlan, Encodings, integer_borders
from tfq_fine.calibration import Statistics
from tfq_fine.numerics import affine
from tfq_fine.weights.bias import corrected_biases, keeps_mean
from tfq_fine.weights.fitting import Fitting, fitting_steps
from tfq_fine.weights.integer import integer_encoding
from tfq_fine.weights.solving import LayerInputs, Solver

BORDER_TYPES = ("float32", "int8", "uint8", "int16")


def quantize(
    graph: Graph,
    placed: EncodedPlan,
    input_type: str = "float32",
    output_type: str = "float32",
    given: Mapping[tuple[OpKey, int], WeightCodes] | None = None,
    cache: IdentityCache | None = None,
    layers: LayerInputs | None = None,
    fitting: Fitting | None = None,
) -> QuantizedGraph:
    """Choose all codes, scales and zero points.

    Args:
        graph: the float graph.
        placed: a decision per operator, ranges of activations, and their encodings.
        input_type: the type of the file's float inputs: float32, int8, uint8 or int16.
        output_type: the type of its float outputs.
        given: (operator, slot) -> codes that were chosen already. Their scales are raised where a bias would overflow.
        cache: codes that were computed for other variants of the model; those of this one are added.
        layers: gives algorithms of scope "operator" what an operator reads (`calibration.layerwise`).
        fitting: who sees how far the fitting of weights is, and codes on disk.

    Raises:
        TfqError: an unknown border type or algorithm, or a granularity that does not fit a weight.
    """
    chosen, ranges = placed.encodings, placed.ranges
    fitting = fitting or Fitting()
    steps = fitting_steps(graph, placed.plan) if layers is not None else {}
    with fitting.steps([*steps.values()]) as begin:
        solver = Solver(ranges, given, cache, layers, fitting.on_disk, steps, begin)
        ops = _encodings(graph, placed, solver)
    return QuantizedGraph(graph, ops, _borders(graph, chosen, placed.statistics, input_type, output_type))


def _encodings(graph: Graph, placed: EncodedPlan, solver: Solver) -> dict[OpKey, OpEncoding]:
    """Return the encodings of all operators, each chosen after those before it."""
    ops: dict[OpKey, OpEncoding] = {}
    for key in placed.plan:
        encoding = operator_encoding(key, graph, placed, solver, ops)
        if encoding is not None:
            ops[key] = encoding
    return ops


def operator_encoding(
    key: OpKey, graph: Graph, placed: EncodedPlan, solver: Solver, before: Mapping[OpKey, OpEncoding]
) -> OpEncoding | None:
    """Return the encoding of one operator; None where it stays float.

    Args:
        key: the operator.
        graph: the float graph.
        placed: a decision per operator, ranges of activations, and their encodings.
        solver: the solver of the graph's weights.
        before: the encodings of the operators before it.

    Raises:
        TfqError: its algorithm cannot solve a weight.
    """
    op, subgraph, decision = graph.subgraphs[key[0]].ops[key[1]], graph.subgraphs[key[0]], placed.plan[key]
    spec, ranges = decision.spec, placed.ranges
    if spec is None:
        return None
    if spec.mode == "float16":
        return solver.half(op, subgraph)
    if spec.mode == "integer":
        return integer_encoding(key, op, subgraph, decision, placed.encodings, solver, before, ranges)
    weights = decision.weighted.weights
    takes_mean = keeps_mean(op, subgraph, weights)
    constants = solver.codes(key, op, subgraph, decision, before, keeps_mean=takes_mean)
    means = solver.means_of(key, before) if takes_mean else None
    corrected = corrected_biases(key, op, subgraph, weights, constants, ranges, means)
    return OpEncoding(spec.mode, constants | corrected, form=decision.form, algorithm=solver.how(key))


def _borders(
    graph: Graph, chosen: Encodings, statistics: Statistics | None, input_type: str, output_type: str
) -> dict[TensorKey, ActivationEncoding]:
    borders = integer_borders(graph, input_type, output_type)
    return {(0, t): _border(t, chosen, statistics, dtype) for t, dtype in borders.items()}


def _border(t: int, chosen: Encodings, statistics: Statistics | None, dtype: str) -> ActivationEncoding:
    """Return the encoding inside the graph where the type agrees, else one from the range; uint8 is int8 plus 128."""
    bits = 16 if dtype == "int16" else 8
    encoding = chosen.tensors.get((t, bits))
    if encoding is None:
        if statistics is None:
            raise TfqError(f"inputs and outputs in {dtype} need representative data: give data=...")
        encoding = affine.activation_encoding(*statistics.ranges[0, t], bits)
    if dtype == "uint8":
        return replace(encoding, dtype="uint8", zero_point=encoding.zero_point + 128)
    return encoding
