"""Blocks of inputs in full integer, factored into scales that integer kernels have.

These kernels have one scale per output channel. The scales of blocks are factored into one per output channel and one
per group of inputs, s[o, g] ~ a[o] * c[g]; c is folded into what makes the inputs, which leaves a per-channel kernel.

c[g] = exp(mean over o of log s[o, g]) is the best such factor in the logarithm (least squares of rank one). It is
folded only where that is exact (`channel_scaling`) and where the weights come out closer than without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array, Graph, Subgraph
from tfq_converters.operators import data_of, facts_of, weight_axes
from tfq_converters.quantized import OpKey
from tfq_fine.numerics import ErrorSums, affine
from tfq_fine.request import Blocks, IntegerSpec, OpSpec, PerChannel, WeightSpec, block_shape
from tfq_fine.transforms.channel_scaling import ScalingPath, scaled, scaling_path

MOST = 8.0  # limit of c and of 1 / c: beyond, the activation would lose more than the weights gain


@dataclass(frozen=True)
class Factored:
    """The graph with input-group factors folded into their producers, and what that left."""

    graph: Graph
    notes: Mapping[OpKey, str]  # the operators whose blocks became per-channel scales -> a note
    kept: Mapping[OpKey, str]  # why the others' factors could not be folded


def factor_blocks(graph: Graph, requested: Mapping[OpKey, OpSpec | None]) -> Factored:
    """Fold the input-group factors of all integer operators with `Blocks` where that is exact."""
    main = graph.main
    weights = {
        o: weight
        for (s, o), spec in requested.items()
        if s == 0 and isinstance(spec, IntegerSpec)
        for weight in _weights_in_blocks(main, o, spec.weights)
    }
    by_tensor: dict[int, list[int]] = {}
    for o in weights:
        by_tensor.setdefault(data_of(main.ops[o]), []).append(o)
    changes: list[tuple[ScalingPath, Float64Array]] = []
    notes: dict[OpKey, str] = {}
    kept: dict[OpKey, str] = {}
    scaled_ops: set[int] = set()
    for t, ops in by_tensor.items():
        path = scaling_path(main, t)
        if not isinstance(path, str) and path.parts:
            path = f"{main.tensors[t].name} is a concatenation"
        if not isinstance(path, str) and path.repeats > 1:
            path = f"{main.tensors[t].name} is flattened"
        if isinstance(path, str):
            kept |= {(0, o): f"the factors of its blocks cannot be folded: {path}" for o in ops}
            continue
        maker = main.op_name(path.makers[-1])
        factors = _factors([weights[o] for o in ops])
        notes_of = {(0, o): _note(weights[o], factors, maker) for o in ops}
        if not all(gain > 0 for gain, _ in notes_of.values()) or scaled_ops & {*path.makers}:
            kept |= dict.fromkeys(notes_of, "one scale per output channel is as close as factored blocks")
            continue
        changes.append((path, factors))
        scaled_ops |= {*path.makers}
        notes |= {key: note for key, (_, note) in notes_of.items()}
    return Factored(scaled(graph, changes) if changes else graph, notes, kept)


@dataclass(frozen=True)
class _Weight:
    """A weight that is requested in blocks of inputs."""

    data: Float32Array
    channel: int  # its axis of output channels
    inputs: int  # its axis of inputs
    bits: int
    granularity: Blocks

    @property
    def blocks(self) -> tuple[int, ...]:
        """The shape of the blocks of values that share a scale."""
        return block_shape(self.granularity, self.data.shape, self.channel, self.inputs, whole_window=True)


def _weights_in_blocks(main: Subgraph, o: int, spec: WeightSpec) -> list[_Weight]:
    """Return the weight of operator `o` if it is requested in blocks, and its operator adds up inputs."""
    op = main.ops[o]
    if facts_of(op.code).input_axis is None or not isinstance(spec.granularity, Blocks):
        return []
    return [
        _Weight(main.tensors[op.inputs[axes.slot]].constant, axes.channel, axes.inputs, spec.bits, spec.granularity)
        for axes in weight_axes(op, main)
        if axes.inputs is not None
    ]


def _factors(weights: Sequence[_Weight]) -> Float64Array:
    """Return c per input [I], the mean over all readers of the tensor; its geometric mean is 1."""
    logs = []
    for weight in weights:
        data, inputs, block = weight.data, weight.inputs, weight.blocks
        low, high = affine.block_extent(data, block)
        absmax = np.moveaxis(np.maximum(-low, high), inputs, -1).reshape(-1, low.shape[inputs]).astype(np.float64)
        floor = np.maximum(absmax.max(axis=1, keepdims=True) * 1e-3, affine.TINY)
        per_group = np.log(np.maximum(absmax, floor)).mean(axis=0)
        logs.append(np.repeat(per_group, block[inputs])[: data.shape[inputs]])
    log = np.mean(logs, axis=0)
    factors: Float64Array = np.clip(np.exp(log - log.mean()), 1 / MOST, MOST)
    return factors


def _note(weight: _Weight, factors: Float64Array, maker: str) -> tuple[float, str]:
    """Return how many dB closer the factored weights are than per-channel ones, and what to say of them."""
    data, form = weight.data, affine.CodeFormat(weight.bits)
    along = factors.reshape([-1 if axis == weight.inputs else 1 for axis in range(data.ndim)]).astype(np.float32)
    per_channel = block_shape(PerChannel(), data.shape, weight.channel)
    plain = ErrorSums.of(data, affine.encode_weight(data, per_channel, form).dequantize()).sqnr_db
    best = ErrorSums.of(data, affine.encode_weight(data, weight.blocks, form).dequantize()).sqnr_db
    factored = affine.encode_weight((data / along).astype(np.float32), per_channel, form).dequantize() * along
    factored_db = ErrorSums.of(data, factored).sqnr_db
    return factored_db - plain, (
        f"blocks of {weight.granularity.size} as per-channel scales, their factors folded into {maker}: "
        f"weights {factored_db:.1f} dB (blocks {best:.1f} dB, per-channel {plain:.1f} dB)"
    )
