"""The stage that chooses the numbers: (float graph, plan with encodings) -> `QuantizedGraph`."""

from collections.abc import Mapping
from dataclasses import replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, IdentityCache
from tfq_converters.quantized import ActivationEncoding, OpEncoding, OpKey, QuantizedGraph, TensorKey, WeightCodes
from tfq_fine.activations import EncodedPlan, Encodings, integer_borders
from tfq_fine.calibration import Statistics
from tfq_fine.numerics import affine
from tfq_fine.weights.encoder import Encoder
from tfq_fine.weights.fitting import Fitting, fitting_steps
from tfq_fine.weights.reconstruct import blocks_of, reconstructed, stretches
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
    fitting = fitting or Fitting()
    steps = fitting_steps(graph, placed.plan) if layers is not None else {}
    with fitting.steps([*steps.values()]) as begin:
        solver = Solver(placed.ranges, given, cache, layers, fitting.on_disk, steps, begin)
        ops, placed = _encodings(graph, placed, solver, layers, given)
    return QuantizedGraph(graph, ops, _borders(graph, placed.encodings, placed.statistics, input_type, output_type))


def _encodings(
    graph: Graph,
    placed: EncodedPlan,
    solver: Solver,
    layers: LayerInputs | None,
    given: Mapping[tuple[OpKey, int], WeightCodes] | None,
) -> tuple[dict[OpKey, OpEncoding], EncodedPlan]:
    """Return (the encodings of all operators, each chosen after those before it, the plan with learned ranges)."""
    ops: dict[OpKey, OpEncoding] = {}
    encoder = Encoder(graph, placed)
    blocks = () if layers is None else blocks_of(graph, placed.plan, given)
    for block, keys in stretches(placed.plan, blocks):
        start = None if block is None or layers is None else layers().at(block.first, ops)
        for key in keys:
            ops |= encoder.encoded(key, solver, ops)
        if block is not None and start is not None and layers is not None:
            kept = reconstructed(block, keys, start, layers(), encoder, solver, ops)
            ops, encoder = {**ops, **kept.encodings}, kept.encoder
    return ops, encoder.placed


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
