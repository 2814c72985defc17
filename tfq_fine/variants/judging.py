"""How far the outputs of a quantized model are from the float model's, as a user sees them.

Output values are compared directly. Probabilities are compared as log-probabilities, computed from the scores that
SOFTMAX reads: a shift that all scores share is lost in SOFTMAX and counts as nothing, and what happens to scores whose
probabilities are near 0 or 1 still shows. LOGISTIC has no such shift; its score is the logarithm of the odds.
Scores that may be masked are no measure, for where they are masked they may be anything: there the probabilities count.

Every sample has one figure, and the mean over samples decides, so that no single sample does. NaN is the worst value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.check import nan_as_worst, sqnr_db
from tfq_converters.graph import AnyArray, FloatArray, Graph
from tfq_converters.operators import data_of, facts_of
from tfq_fine.numerics import ErrorSums

EXACT_DB = 120.0  # stands for a sample whose outputs are equal
QUIET = 1e-3  # share of the usual energy of an output
WORST = -math.inf


@dataclass(frozen=True)
class Judged:
    """The tensor that one output of a model is judged by."""

    tensor: int  # a tensor of the main subgraph
    beta: float | None = None  # beta of the SOFTMAX whose scores these are; None where values are compared directly

    def seen(self, values: FloatArray) -> FloatArray:
        """Return `values` of the tensor as they are compared, of the same shape."""
        return values if self.beta is None else log_softmax(values * np.float32(self.beta))


def log_softmax(scores: FloatArray) -> FloatArray:
    """Return the logarithm of softmax over the last axis of scores [..., C], of their shape.

    >>> log_softmax(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = scores - scores.max(axis=-1, keepdims=True)
        log_shares: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_shares


def judged(graph: Graph) -> list[Judged]:
    """Choose what each output of `graph` is judged by."""
    scores: dict[int, Judged] = {}  # probabilities -> their scores
    masked: set[int] = set()
    for op in graph.main.ops:
        facts = facts_of(op.code)
        if facts.adds or facts.selects or (facts.within_input and data_of(op) in masked):
            masked |= {*op.outputs}
        elif op.code == "SOFTMAX" and op.inputs[0] not in masked:
            beta = op.option("beta")
            scores[op.outputs[0]] = Judged(op.inputs[0], 1.0 if beta is None else float(beta))
        elif op.code == "LOGISTIC" and op.inputs[0] not in masked:
            scores[op.outputs[0]] = Judged(op.inputs[0])
    return [scores.get(t, Judged(t)) for t in graph.main.outputs]


def decibels_of(expected: Sequence[AnyArray], found: Sequence[AnyArray], usual: Sequence[float] | None = None) -> float:
    """Return the SQNR of one sample in dB, all outputs counting alike; `WORST` where an output is not finite.

    Args:
        expected: outputs of the float model, of any shapes.
        found: the outputs of the file, of the same shapes.
        usual: the energy (sum of squares) of each output in the mean over samples. A sample whose output is nearly zero
            is compared with `QUIET` of that, so that a blank one does not decide everything.

    Where there is nothing to compare, no float output or none of the float model's that is finite, it is `EXACT_DB`.
    """
    shares = []
    for k, (x, y) in enumerate(zip(expected, found, strict=True)):
        if x.dtype != np.float32 or not x.size or not np.isfinite(x).all():
            continue
        if x.shape != y.shape or not np.isfinite(y).all():
            return WORST
        sums = ErrorSums.of(x, y)
        signal = max(sums.signal, QUIET * usual[k] if usual else 0.0)
        if signal:
            shares.append(sums.noise / signal)
        elif sums.noise:
            return WORST
    mean = sum(shares) / len(shares) if shares else 0.0
    return min(sqnr_db(1.0, mean), EXACT_DB)


def mean_decibels(each: Sequence[float]) -> float:
    """Return the mean over samples; `WORST` where one of them is that, or NaN."""
    if not len(each):
        return EXACT_DB
    return nan_as_worst(float(np.mean(each)))


def gain(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Return (the mean gain of `after` over `before` in dB, its standard error), over the same samples.

    >>> gain([10.0, 12.0], [13.0, 13.0])
    (2.0, 1.0)
    """
    if mean_decibels(after) == WORST or mean_decibels(before) == WORST:
        both = mean_decibels(after) == mean_decibels(before)
        return (0.0 if both else math.inf if mean_decibels(after) != WORST else -math.inf), 0.0
    differences = np.subtract(after, before)
    if not len(differences):
        return 0.0, 0.0
    error = float(differences.std(ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else 0.0
    return float(differences.mean()), error


CLASSES, DECISIONS, VALUES = "classes", "decisions", "values"  # what an output is for
LIMIT = 0.5  # a probability by itself decides by the side of this that it is on
ENOUGH_DECISIONS = 1000  # half a percent of them are several


def uses(graph: Graph) -> list[str]:
    """Return what each output of `graph` is for, as far as the graph says.

    One figure for each class of a sample, after SOFTMAX or as the only output, are `CLASSES`. Probabilities of their
    own, after LOGISTIC, and classes at many places of a sample are `DECISIONS`. All else are `VALUES`: coordinates, or
    scores that nothing turns into probabilities.
    """
    kinds: dict[int, str] = {}
    for op in graph.main.ops:
        if op.code in ("SOFTMAX", "LOGISTIC"):
            kinds[op.outputs[0]] = op.code
        elif facts_of(op.code).within_input and op.inputs[0] in kinds:
            kinds |= dict.fromkeys(op.outputs, kinds[op.inputs[0]])
    outputs = graph.main.outputs
    result = []
    for t in outputs:
        shape = graph.main.tensors[t].shape
        one_row = len(shape) == 2 and shape[-1] != 1
        if one_row and (kinds.get(t) == "SOFTMAX" or (len(outputs) == 1 and t not in kinds)):
            result.append(CLASSES)
        else:
            result.append(DECISIONS if t in kinds else VALUES)
    return result


@dataclass(frozen=True)
class Apart:
    """How far an output is from the float model's as its user sees it, summed over samples."""

    use: str
    error: float = 0.0  # sum of the magnitudes
    count: int = 0
    low: float = math.inf  # the least of the float values
    high: float = -math.inf
    other: int = 0  # decisions that are others than the float model's
    decided: int = 0

    def also(self, expected: FloatArray, found: FloatArray) -> "Apart":
        """Return the sum with one more sample of finite float values [..., C]."""
        if not expected.size:
            return self
        sides = self.use == DECISIONS and (expected.shape[-1:] == (1,) or not _adds_up(expected))
        decided, again = (x > LIMIT if sides else x.argmax(axis=-1) for x in (expected, found))
        differ = decided != again
        error = float(np.abs(found - expected).sum(dtype=np.float64))
        return Apart(
            self.use,
            self.error + (error if math.isfinite(error) else math.inf),
            self.count + expected.size,
            min(self.low, float(expected.min())),
            max(self.high, float(expected.max())),
            self.other + int(np.sum(differ)),
            self.decided + int(np.size(differ)),
        )

    @property
    def points(self) -> float:
        """Percent of the decisions that differ; of values, and of few decisions, the mean error in percent of a range.

        The range is that of the float values, or 1 of probabilities.
        """
        if math.isinf(self.error):
            return math.inf
        if self.use == CLASSES or (self.use == DECISIONS and self.decided >= ENOUGH_DECISIONS):
            return 100 * self.other / max(self.decided, 1)
        extent = 1.0 if self.use == DECISIONS else self.high - self.low
        if not self.count or not self.error:
            return 0.0
        return 100 * self.error / self.count / extent if extent > 0 else math.inf


def _adds_up(probabilities: FloatArray) -> bool:
    return bool(np.allclose(probabilities.sum(axis=-1), 1.0, atol=1e-3))


@dataclass(frozen=True)
class Measured:
    """The result of running the file of a variant."""

    each: tuple[float, ...]  # SQNR of the outputs in dB, one figure per sample; -inf where one is not finite
    problem: str = ""  # why it could not be run
    apart: tuple[Apart, ...] = ()  # how far each output is off, as a user sees it

    @property
    def db(self) -> float:
        """The mean over samples."""
        return mean_decibels(self.each)

    @property
    def low(self) -> float:
        """The SQNR that nine in ten samples reach."""
        return sorted(self.each)[len(self.each) // 10] if self.each else self.db
