"""On how many samples the files of variants are run."""

from tfq_converters.graph import Graph
from tfq_converters.kernels import costs
from tfq_fine.numerics import constant_bytes

SAMPLES, SAMPLES_QUICK = 8, 16  # at least, that variants are measured on: of a model that takes long, of a quick one
QUICK_NS = 20e6  # of one run of the float model, by the table of costs
BUDGET_NS, AT_MOST = 120e6, 64  # of all runs: the quicker a model, the more samples, up to so many
LARGEST = 2**28  # bytes of constants, beyond which no variants are run: kernels may unpack all of them


def number_of_samples(graph: Graph) -> int:
    """Return how many samples variants are measured on. It follows from the model alone, so that a file does too."""
    cost = sum(costs.cost(op, graph.main, "float32") for op in graph.main.ops)
    least = SAMPLES_QUICK if cost < QUICK_NS else SAMPLES
    return max(least, min(int(BUDGET_NS / max(cost, 1.0)), AT_MOST))


def too_large(graph: Graph) -> bool:
    """Return whether no variants of a model are run."""
    return sum(constant_bytes(graph).values()) > LARGEST
