"""Few codes for weights of few values: one scale for all of a tensor, times what each block was multiplied with.

Clustering leaves a tensor with k distinct values (Han et al. 2016, arXiv 1510.00149, section 3). A scale of its own for
every channel would put the same value on another code in each. Here the code depends on the value alone: all blocks
share one scale s. Where a batch norm was folded in, a channel holds f[c] * cluster: the factors are found again in the
values, and the scales are s * |f[c]|.
"""

import numpy as np

from tfq_converters.graph import BoolArray, Float32Array, Float64Array, IntArray
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

SAME = 2.0**-20  # relative difference of values of one cluster: folding rounds to 24 bits, once or twice


def clusters(problem: WeightProblem) -> WeightCodes:
    """Give no more codes than there are clusters; those of rounding to nearest where they are as few.

    A negative factor makes the negative codes of its clusters, since scales are positive. |error| <= scale / 2 of every
    value, where the scale covers the largest cluster, whether the block holds that or not. The factor of a block that
    holds only one or two clusters cannot always be told, and may add codes.
    """
    weight, block, form = problem.weight, problem.block, problem.codes
    rounded, rows = affine.encode_weight(weight, block, form), _rows(weight, block)
    shared = _in_common(rows, most=form.highest - form.lowest + 1)
    if shared is None or len(np.unique(rounded.codes)) <= len(np.unique(shared[1])):
        return rounded
    factors, common = shared
    ends = common.min(keepdims=True).clip(max=0), common.max(keepdims=True).clip(min=0)
    step, zero_point = affine.weight_scale(*ends, affine.CodeFormat(form.bits, form.symmetric))
    scale = affine.ROUNDED_SCALES[form.scales](np.maximum(step * factors, affine.TINY).astype(np.float32))
    off = scale > 1.01 * step * factors  # nearly idle, of a smaller factor than scales can have
    common[off[0]] = rows[off[0]] * (step / scale[:, off[0]]).T
    codes = affine.encode(common, common.shape, step, zero_point, form).codes
    shape = rounded.scale.shape
    zero_points = np.full(shape, zero_point.item())
    return WeightCodes(_weight(codes, weight.shape, block), scale.reshape(shape), zero_points, form.stored_bits, block)


def _rows(weight: Float32Array, block: tuple[int, ...]) -> Float32Array:
    """Return [blocks, values of a block]; short blocks are filled with zeros."""
    blocks = affine.split(weight, block)
    order = (*range(0, blocks.ndim, 2), *range(1, blocks.ndim, 2))
    return blocks.transpose(order).reshape(-1, int(np.prod(block)))


def _weight(rows: IntArray, shape: tuple[int, ...], block: tuple[int, ...]) -> IntArray:
    """Return the inverse of `_rows` for a weight of `shape`."""
    counts = [-(-size // length) for size, length in zip(shape, block, strict=True)]
    order = [axis for pair in zip(range(len(block)), range(len(block), 2 * len(block)), strict=True) for axis in pair]
    return affine.join(rows.reshape(*counts, *block).transpose(order), shape)


def _in_common(rows: Float32Array, most: int) -> tuple[Float64Array, Float64Array] | None:
    """Return (|factor| of each row, rows divided by it, where values of one cluster are equal to the last bit).

    None where the rows have more than `most` values besides 0 then.
    """
    distinct = []
    for row in rows:
        distinct.append(np.unique(row, return_inverse=True))
        if len(distinct[-1][0]) > most + 1:
            return None
    centers, factors, common = np.zeros(0), np.ones(len(rows)), np.zeros(rows.shape)
    for index in sorted(range(len(rows)), key=lambda i: -len(distinct[i][0])):
        values, place = distinct[index][0].astype(np.float64), distinct[index][1].reshape(-1)
        factor = _factor(values[values != 0], centers)
        values /= factor
        if len(centers):
            nearest, same = _nearest(values, centers)
            values = np.where(same, nearest, values)
        centers = np.union1d(centers, values[values != 0])
        if len(centers) > most:
            return None
        factors[index], common[index] = abs(factor), np.sign(factor) * values[place]
    return factors, common


def _factor(values: Float64Array, known: Float64Array) -> float:
    """Return the factor that makes most of `values` known clusters; 1 where that is no more than half of them.

    Candidates bring the largest, the middle or the smallest value onto any cluster. Among equals 1 wins, then the
    smallest that is positive, for it makes the finest scale.
    """
    if not len(values) or not len(known):
        return 1.0
    order = np.argsort(np.abs(values))[[-1, len(values) // 2, 0]]
    ratios = np.concatenate([value / known for value in values[order]])
    candidates = np.concatenate([[1.0], np.sort(ratios[ratios > 0]), -np.sort(-ratios[ratios < 0])])
    units = values / candidates[:, None]
    inside = np.abs(units).max(axis=1) <= np.abs(known).max() * (1 + SAME)  # nothing makes the scale coarser
    hits = np.where(inside, _nearest(units, known)[1].sum(axis=1), 0)
    best = int(np.argmax(hits))
    return float(candidates[best]) if 2 * hits[best] > len(values) else 1.0


def _nearest(values: Float64Array, known: Float64Array) -> tuple[Float64Array, BoolArray]:
    """Return the nearest of the known clusters, which ascend, and whether it is the same."""
    after = np.searchsorted(known, values).clip(0, len(known) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(known[after] - values) < np.abs(known[before] - values), known[after], known[before])
    return nearest, np.abs(nearest - values) <= SAME * np.abs(values)
