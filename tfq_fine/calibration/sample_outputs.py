"""The outputs of the float model on a few samples, where that is quick."""

from collections.abc import Sequence

from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer import write
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.runtime import Runner, float_seconds, unrunnable_names
from tfq_fine.calibration.kept_samples import Sample

MOST_RUN = 8  # samples that outputs are compared on
MOST_SECONDS = 1.0  # that this may take


def outputs_on(graph: Graph, samples: Sequence[Sample]) -> list[list[AnyArray]]:
    """Return output -> its values for each sample; empty for models that take long, or do not run here."""
    if not samples or unrunnable_names(graph) or float_seconds(graph, len(samples)) > MOST_SECONDS:
        return []
    outputs = []
    try:
        runner = Runner(write(graph))
        for sample in samples:
            outputs.append(runner.run(sample))
            runner.reset_variables()
    except TfqError:
        return []
    return [list(values) for values in zip(*outputs, strict=True)]
