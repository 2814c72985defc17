"""The finished file is run on the samples that were kept, and compared with the float model."""

from collections.abc import Iterator, Sequence

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.check import decoded, encoded
from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, FloatArray, Graph
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.runtime import FileRuns, Runner
from tfq_fine.calibration import Sample
from tfq_fine.numerics import Agreement, ErrorSums, is_classes, is_tied
from tfq_fine.report import OutputVerdict, Verdict
from tfq_fine.variants import CLASSES, Apart, uses

CHUNK_BYTES = 2**26  # outputs that are held at a time


def verdict_on(
    model: Graph,
    quantized: QuantizedGraph,
    emitted: Graph,
    samples: Sequence[Sample],
    runs: FileRuns,
    generated: bool = False,
    threads: int = 1,
) -> Verdict:
    """Compare the file with the float model on `samples`.

    Args:
        model: the float model.
        quantized: the numbers of the file.
        emitted: the graph of the file.
        samples: inputs of the float model, in input order.
        runs: the process that runs the file.
        generated: whether the samples are generated.
        threads: the number of threads of the interpreter that runs the float model.

    Raises:
        TfqError: the file cannot be run, or an output is not finite where the float model's is.
    """
    with flatbuffer.scratch(model) as path:
        runner = Runner(path, threads=threads)
    names = model.output_names()
    forms = [quantized.borders.get((0, t)) for t in quantized.graph.main.outputs]
    sums = [ErrorSums() for _ in names]
    same = [Agreement() for _ in names]
    tied = [0 for _ in names]
    apart = [Apart(use) for use in uses(model)]
    for n, (sample, values) in enumerate(zip(samples, _outputs(quantized, emitted, samples, runs), strict=True)):
        runner.reset_variables()
        for k, (expected, value) in enumerate(zip(runner.run(sample), values, strict=True)):
            if expected.dtype != np.float32 or not expected.size:
                continue
            real = decoded(value, forms[k]).reshape(expected.shape)
            finite = np.isfinite(expected)
            _require_finite(names[k], expected[finite], real[finite], n, generated)
            if not finite.all():
                continue
            sums[k] += ErrorSums.of(expected, real)
            apart[k] = apart[k].also(expected, real)
            if is_classes(expected) and apart[k].use == CLASSES:
                same[k] += Agreement.of(expected, real)
                tied[k] += int(is_tied(real).sum())
    rows = [
        OutputVerdict(
            name,
            total.sqnr_db,
            agreed.top1 / agreed.count if agreed.count else None,
            None if off.use == CLASSES else off.points,
            ties,
        )
        for name, total, agreed, off, ties in zip(names, sums, same, apart, tied, strict=True)
        if total.count
    ]
    return Verdict(tuple(rows), len(samples), generated)


def _outputs(
    quantized: QuantizedGraph, emitted: Graph, samples: Sequence[Sample], runs: FileRuns
) -> Iterator[list[AnyArray]]:
    """Yield the outputs of every sample, so few samples at a time that their outputs take little memory."""
    tensors = [emitted.main.tensors[t] for t in emitted.main.outputs]
    size = sum(4 * int(np.prod(tensor.shape, dtype=np.int64)) for tensor in tensors)
    step = max(1, CHUNK_BYTES // max(size, 1))
    for start in range(0, len(samples), step):
        yield from runs.run(emitted, [encoded(quantized, sample) for sample in samples[start : start + step]])


def _require_finite(name: str, expected: FloatArray, found: FloatArray, sample: int, generated: bool) -> None:
    wrong = int((~np.isfinite(found)).sum())
    if wrong:
        kind = "generated input" if generated else "sample"
        raise TfqError(
            f"the file is not handed over: {wrong} of {expected.size} values of output {name!r} are NaN or infinite on "
            f"a {kind} on which the float model's are not ({kind} {sample} of those that were kept). A logarithm, root "
            "or quotient of a value that rounding moved below 0 or to 0 does that: keep what feeds it float with "
            "Rule(None, layer=...), or give its argument a larger lower bound in the model"
        )
