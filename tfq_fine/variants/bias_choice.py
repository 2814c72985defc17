"""Which biases are corrected: those where the correction helps on samples that it was not fitted to.

A correction is fitted to the mean of what an operator reads. For each operator, the shift that its weight error causes
on a sample is compared with what is left of it once the mean over other samples is taken back; an operator where less
is left is corrected. Whether the file is better with these corrections is then measured, on the same samples again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array
from tfq_converters.operators import bias_of, data_of, weight_axes
from tfq_converters.quantized import OpKey, QuantizedGraph, TensorKey, simulated_weight
from tfq_fine.calibration import Statistics
from tfq_fine.weights import mean_shift

FOLDS = 5  # a correction by four fifths of the samples is nearly as good as one by all of them
ENOUGH = 5  # times as many samples as are judged leave enough others without folds

Means = Mapping[TensorKey, Float64Array]


@dataclass(frozen=True)
class Fold:
    """Some of the samples, and the channel means of others."""

    samples: tuple[int, ...]
    means: Means


def folds(whole: Statistics, each: Sequence[Statistics], counts: Sequence[int], fresh: bool = False) -> list[Fold]:
    """Return every sample with the means of samples that do not include it; empty where there are no others.

    Args:
        whole: means of all samples of the data.
        each: means of the samples that are judged, which are part of `whole`.
        counts: the number of samples of the data that each of them holds.
        fresh: whether they are no part of `whole`, which is of other samples.
    """
    if fresh:
        return [Fold(tuple(range(len(each))), whole.means)]
    number = 1 if whole.samples >= ENOUGH * sum(counts) else min(FOLDS, len(each))
    parts = [range(k, len(each), number) for k in range(number)]
    folded = []
    for part in parts:
        left = whole.samples - sum(counts[n] for n in part)
        if len(part) and left <= 0:
            return []
        if len(part):
            means = {
                key: (mean * whole.samples - sum(each[n].means[key] * counts[n] for n in part)) / left
                for key, mean in whole.means.items()
            }
            folded.append(Fold(tuple(part), means))
    return folded


def helped(quantized: QuantizedGraph, each: Sequence[Statistics], apart: Sequence[Fold]) -> list[OpKey]:
    """Return the operators of the main subgraph where a correction by other samples leaves less of the shift.

    Args:
        quantized: the numbers of the file without corrections.
        each: channel means of the samples that are judged.
        apart: these samples, with means of others.
    """
    main = quantized.graph.main
    chosen = []
    for (s, o), encoding in quantized.ops.items():
        op = main.ops[o] if s == 0 else None
        if op is None or bias_of(op) == ABSENT or main.tensors[bias_of(op)].data is None:
            continue
        axes, key = weight_axes(op, main), (0, data_of(op))
        if len(axes) != 1 or axes[0].slot not in encoding.weights or any(key not in fold.means for fold in apart):
            continue
        weight = main.tensors[op.inputs[axes[0].slot]].constant
        judged = [n for fold in apart for n in fold.samples]
        rows = [each[n].means[key] for n in judged] + [fold.means[key] for fold in apart]
        shifts = mean_shift(weight, simulated_weight(encoding.weights[axes[0].slot]), axes[0], np.stack(rows))
        before = shifts[: len(judged)]
        fitted = np.repeat(shifts[len(judged) :], [len(fold.samples) for fold in apart], axis=0)
        if float(np.square(before - fitted).sum()) < float(np.square(before).sum()):
            chosen.append((s, o))
    return chosen
