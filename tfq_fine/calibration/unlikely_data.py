"""Mistakes in representative data that calibration cannot refuse: each gets a warning with the figure that shows it."""

from collections.abc import Iterator, Sequence

import numpy as np

from tfq_converters.graph import AnyArray, Graph
from tfq_converters.quantized import QuantizedGraph
from tfq_fine.calibration.few_codes import FEW_SAMPLES, few_codes, few_codes_of_outputs
from tfq_fine.calibration.kept_samples import Sample
from tfq_fine.calibration.sample_outputs import MOST_RUN, outputs_on
from tfq_fine.calibration.statistics import Statistics
from tfq_fine.calibration.unlikely_scale import unlikely_scale, wide_scores


def data_warnings(
    graph: Graph, quantized: QuantizedGraph | None, statistics: Statistics | None, samples: Sequence[Sample]
) -> tuple[str, ...]:
    """Return all warnings; none where nothing is suspicious.

    Args:
        graph: the float graph.
        quantized: its numbers; None where there are none yet.
        statistics: the statistics of all the data; None where none were needed.
        samples: a few of the data, inputs of the main subgraph.
    """
    gathered = Statistics() if statistics is None else statistics
    ranges = {t: limits for (s, t), limits in gathered.ranges.items() if s == 0}
    count = gathered.samples or None
    return (
        *few_samples(count),
        *constant_inputs(graph, samples, count),
        *constant_outputs(graph, samples),
        *unlikely_scale(graph, samples),
        *wide_scores(graph, ranges),
        *(() if quantized is None else few_codes(quantized, ranges) or few_codes_of_outputs(graph, quantized, samples)),
    )


def few_samples(count: int | None) -> Iterator[str]:
    """Warn that ranges of a handful of samples hold for those alone; `count` is None if no ranges were needed."""
    if count is not None and count < FEW_SAMPLES:
        said = "1 sample" if count == 1 else f"{count} samples"
        yield f"the data has {said}: ranges and corrections hold for little else; give 100 or more that differ"


def constant_inputs(graph: Graph, samples: Sequence[Sample], count: int | None = None) -> Iterator[str]:
    """Warn of an input that holds one number everywhere, or is equal in all samples (equal ones are kept once)."""
    same = len(samples) == 1 and count is not None and count > 1
    for k, t in enumerate(graph.main.inputs):
        values = [sample[k] for sample in samples]
        name = graph.main.tensors[t].name
        if not values or values[0].dtype.kind not in "fiu" or not values[0].size:
            continue
        if values[0].size > 1 and values[0].dtype.kind == "f" and all(v.min() == v.max() for v in values):
            yield f"input {name!r} holds one number in each sample ({values[0].flat[0]:.4g}): is that real data?"
        elif same or _all_equal(values):
            yield f"input {name!r} is the same in all {count if same else len(values)} samples that were looked at"


def constant_outputs(graph: Graph, samples: Sequence[Sample]) -> Iterator[str]:
    """Warn of a float output that is equal for samples that differ; not for slow models, or where they cannot run."""
    some = [sample for sample in samples if sample][:MOST_RUN]
    if len(some) < 2 or any(_all_equal([sample[k] for sample in some]) for k in range(len(some[0]))):
        return  # `constant_inputs` says so
    for t, values in zip(graph.main.outputs, outputs_on(graph, some), strict=False):
        if values[0].dtype.kind == "f" and values[0].size and _all_equal(values):
            yield (
                f"output {graph.main.tensors[t].name!r} of the float model is the same for {len(values)} samples that "
                f"differ (from {values[0].min():.4g} to {values[0].max():.4g}): is the data what it was trained on?"
            )


def _all_equal(values: Sequence[AnyArray]) -> bool:
    return len(values) > 1 and all(np.array_equal(values[0], other) for other in values[1:])
