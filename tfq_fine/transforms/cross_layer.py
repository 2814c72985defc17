"""Cross-layer equalization of the channels of an activation.

Channels that are small next to others, in the tensor or in the weights that read them, are scaled up where they are
made, and the weights that read them are divided (`channel_scaling`).

Nagel et al. 2019 (arXiv 1906.04721), section 4.1, eq. 11: x' = x / s with s_i = sqrt(r1_i r2_i) / r2_i, where r1_i is
the range of channel i where it is made and r2_i in the weights that read it. As the weights have a scale per output
channel here, r1_i is the range of the activation itself, measured, and r2_i the largest share of channel i in a row of
the weights. Neither depends on how other activations are scaled, so that one pass over a chain is what the paper
iterates to. Where weights cost little (depthwise readers have a scale for each channel), one range for all is better.
Of both and of leaving it alone, each activation gets what `noise` estimates to cost least.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import Float64Array, Graph, Subgraph
from tfq_converters.operators import data_of, facts_of, groups_of, weight_axes
from tfq_fine.transforms.channel_scaling import ScalingPath, scaling_path
from tfq_fine.transforms.noise import Channels, Levels, Rows

MOST = 8.0  # limit of a factor and of 1 / factor: a channel that slept during calibration may wake up
GAIN = 0.02  # share of the estimated noise that must be gained, else a tensor is left unchanged


def factors(made: Float64Array, read: Float64Array) -> Float64Array:
    """Return eq. 11 as factors of the activation, 1 / s = sqrt(r2 / r1) [C]: made * f equals read / f.

    >>> factors(np.array([4.0, 1.0]), np.array([1.0, 4.0])).tolist()
    [0.5, 2.0]
    """
    result: Float64Array = np.sqrt(read / made)
    return result


def powers_of_two(scale: Float64Array) -> Float64Array:
    """Return the nearest factors that change no bit of a float's fraction.

    >>> powers_of_two(np.array([3.0, 0.7, 1.0])).tolist()
    [4.0, 0.5, 1.0]
    """
    powers: Float64Array = np.exp2(np.round(np.log2(scale)))
    return powers


Changes = Sequence[tuple[ScalingPath, Float64Array]]  # which activations get which factors


@dataclass(frozen=True)
class Scales:
    """Which activations get which factors, and what that is estimated to bring."""

    changes: tuple[tuple[ScalingPath, Float64Array], ...]  # for `channel_scaling.scaled`
    before: float  # relative noise, summed over all linear operators with known inputs
    after: float


def scalable(graph: Graph) -> dict[int, ScalingPath]:
    """Return the activations whose channels can be scaled exactly -> how."""
    main = graph.main
    read = dict.fromkeys(data_of(op) for op in main.ops if facts_of(op.code).weight is not None)
    paths = {t: scaling_path(main, t) for t in read if not main.tensors[t].is_constant}
    return {t: path for t, path in paths.items() if isinstance(path, ScalingPath)}


def choose_scales(
    graph: Graph, known: Mapping[int, Channels], levels: Mapping[int, Levels], rows: int | None = None
) -> Scales:
    """Return the scales of all activations whose channels can be scaled exactly, where that lowers the estimated noise.

    Args:
        graph: the float graph.
        known: activation -> what its channels look like.
        levels: linear operator -> how finely its input and its weights are to be quantized; others are not looked at.
        rows: look at so many output channels of each operator, for an estimate; all when None.
    """
    main = graph.main
    readers: dict[int, list[int]] = {}
    for o in levels:
        if weight_axes(main.ops[o], main) and data_of(main.ops[o]) in known:
            readers.setdefault(data_of(main.ops[o]), []).append(o)
    paths = scalable(graph)
    changes: list[tuple[ScalingPath, Float64Array]] = []
    before = after = 0.0
    for t, ops in readers.items():
        read = [(weight_rows(main, o, rows), levels[o]) for o in ops]
        repeats = paths[t].repeats if t in paths else 1
        inner = [known[i] for i in tensors_on(main, paths[t])[1:] if i in known] if t in paths else []
        candidates = [
            np.ones(len(known[t].low) // repeats),
            *(_candidates(known[t], inner, read, paths[t]) if t in paths else ()),
        ]
        noises = [
            sum(row.noise(known[t], level, np.tile(s, repeats), extent(inner, s)) for row, level in read)
            for s in candidates
        ]
        best = int(np.argmin(noises))
        best = best if noises[best] < (1 - GAIN) * noises[0] else 0
        before, after = before + noises[0], after + noises[best]
        if best:
            changes.append((paths[t], candidates[best]))
    return Scales(tuple(changes), before, after)


def tensors_on(main: Subgraph, path: ScalingPath) -> list[int]:
    """Return the tensor of a path, and earlier ones with encodings of their own that are scaled with it."""
    inner = [main.ops[o].outputs[0] for o in path.makers if not facts_of(main.ops[o].code).within_input]
    return [path.tensor, *(t for t in inner if t != path.tensor)]


def extent(inner: Sequence[Channels], scale: Float64Array) -> float:
    """Return the root of the sum of squares over all activations that are rounded before this one."""
    return float(np.sqrt(sum(channels.scaled(scale).extent ** 2 for channels in inner)))


def weight_rows(main: Subgraph, o: int, most: int | None) -> Rows:
    """Return the weights of linear operator `o`, of `most` output channels or of all, reduced over its window."""
    (axes,) = weight_axes(main.ops[o], main)
    data = main.tensors[main.ops[o].inputs[axes.slot]].constant
    whole = axes.inputs is not None and groups_of(main.ops[o], main) == 1
    if most is not None and whole and data.shape[axes.channel] > most:
        data = data[:: -(-data.shape[0] // most)]  # rows of all operators with an axis of inputs come first
    return Rows.of(data, axes.channel, axes.inputs)


def _candidates(
    channels: Channels, inner: Sequence[Channels], rows: Sequence[tuple[Rows, Levels]], path: ScalingPath
) -> tuple[Float64Array, ...]:
    """Return factors by eq. 11, those that give all channels one range, and one for each part of a concatenation."""
    repeats = path.repeats
    width = len(channels.low)
    made, read = channels.reach, np.max([row.reach(width) for row, _ in rows], axis=0)
    made, read = (values.reshape(repeats, -1).max(axis=0) for values in (made, read))
    made = np.max([made, *(channel.reach for channel in inner)], axis=0)
    if not made.any() or not read.any():
        return ()
    made, read = (np.maximum(values, values.max() / MOST**2) for values in (made, read))
    by_part = np.ones(len(made))
    for part in path.parts:
        by_part[part.channels] = 1 / made[part.channels].max()
    every = (factors(made, read), 1 / made, *([by_part] if path.parts else []))
    if path.has_fixed:
        return tuple(np.clip(path.with_fixed(each), 1 / MOST, MOST) for each in every)
    return tuple(map(_limited, every))


def _limited(found: Float64Array) -> Float64Array:
    """Return factors around 1, none beyond MOST."""
    middle = np.exp(np.log(found).mean())
    limited: Float64Array = np.clip(found / middle, 1 / MOST, MOST)
    return limited
