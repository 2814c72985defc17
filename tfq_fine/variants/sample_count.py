"""On how many samples the files of variants are run."""

from collections.abc import Sequence
from dataclasses import dataclass

from tfq_converters.graph import Graph
from tfq_converters.kernels import costs
from tfq_fine.calibration import Sample
from tfq_fine.numerics import constant_bytes

SAMPLES, SAMPLES_QUICK = 8, 16  # at least, that variants are measured on: of a model that takes long, of a quick one
QUICK_NS = 20e6  # one run of the float model, by the table of costs
BUDGET_NS, AT_MOST = 120e6, 64  # time of all runs: the quicker a model, the more samples, up to so many
APART = 4  # one sample of so many, at most, is kept apart to judge weights that were fitted to the others
MOST_APART = 128  # samples that are kept apart for that, of any model: three files alone are run on them
LARGEST = 2**28  # bytes of constants, beyond which no variants are run: kernels may unpack all of them


def number_of_samples(graph: Graph) -> int:
    """Return how many samples variants are measured on. It follows from the model alone, so that a file does too."""
    cost = sum(costs.cost(op, graph.main, "float32") for op in graph.main.ops)
    least = SAMPLES_QUICK if cost < QUICK_NS else SAMPLES
    return max(least, min(int(BUDGET_NS / max(cost, 1.0)), AT_MOST))


@dataclass(frozen=True)
class SplitSamples:
    """The samples that files are judged on, and those that weights are fitted to.

    Attributes:
        tried: those that files of variants are run on, whose weights are not fitted.
        fitted: those that weights are fitted to.
        apart: the others, first those of `tried`: fitted weights are judged on all of them.
    """

    tried: tuple[Sample, ...]
    fitted: tuple[Sample, ...]
    apart: tuple[Sample, ...]

    @property
    def judged(self) -> tuple[Sample, ...]:
        """Samples that weights are not fitted to, no more than variants are run on."""
        return self.apart[: len(self.tried)]

    @staticmethod
    def of(graph: Graph, samples: Sequence[Sample], fits: bool) -> "SplitSamples":
        """Split samples: none is in both `fitted` and `apart` where weights are fitted, unless there are too few.

        Args:
            graph: the float model.
            samples: inputs, as good as drawn at random.
            fits: whether weights are fitted to inputs, so that files must be judged on other samples.
        """
        tried = tuple(samples[: number_of_samples(graph)])
        if not fits or len(samples) < APART:
            return SplitSamples(tried, tuple(samples), tried)
        apart = min(max(len(tried), MOST_APART), len(samples) // APART)
        return SplitSamples(tried, tuple(samples[apart:]), tuple(samples[:apart]))


def too_large(graph: Graph) -> bool:
    """Return whether no variants of a model are run."""
    return sum(constant_bytes(graph).values()) > LARGEST
