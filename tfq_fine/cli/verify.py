"""`tfq-fine verify`: a float model and a quantized file in, what the difference costs out."""

import argparse
import sys
from collections.abc import Mapping

from absl import logging

from tfq_converters.errors import TfqError
from tfq_converters.files import Place
from tfq_fine.cli.outputs import places
from tfq_fine.cli.terminal import progress, show
from tfq_fine.max_drop import SHARES, MaxDrop
from tfq_fine.report.html import require_extra
from tfq_fine.verification import verify

FELL_SHORT = 1


def run(arguments: argparse.Namespace) -> int:
    """Verify, write the reports, print the table; 1 when the metric fell by more than was allowed.

    Raises:
        TfqError: bad input, or a file that cannot be written.
    """
    if arguments.max_drop is not None and arguments.metric is None:
        raise TfqError("--max-drop needs --metric, and labels in the data")
    if arguments.max_drop is not None:
        MaxDrop.of(arguments.max_drop).limit(arguments.metric in SHARES, 1.0)
    inputs = [arguments.model, arguments.tflite, arguments.data]
    with places({"report": arguments.report, "html": arguments.html}, inputs) as targets:
        return _run(arguments, targets)


def _run(arguments: argparse.Namespace, targets: Mapping[str, Place | None]) -> int:
    if arguments.html:
        require_extra()
    logging.info("comparing %s with %s", arguments.tflite, arguments.model)
    with progress(f"reading {arguments.model}") as update:
        report = verify(
            arguments.model,
            arguments.tflite,
            arguments.data,
            metric=arguments.metric,
            batch_size=arguments.batch_size,
            limit=arguments.samples,
            kernels=arguments.kernels,
            threads=arguments.threads,
            latency=arguments.latency,
            layers=arguments.layers,
            safe_mode=not arguments.unsafe,
            timeout=arguments.timeout,
            on_batch=lambda samples: update(f"{samples} samples"),
        )
    saved, page = targets["report"], targets["html"]
    if saved is not None:
        report.save(saved)
    if page is not None:
        report.save_html(page)
    show(report)
    if arguments.max_drop is None or report.passed(arguments.max_drop):
        return 0
    assert report.task is not None
    print(f"{report.task.name} got worse by {report.task.drop:.6g}, more than {arguments.max_drop}", file=sys.stderr)
    return FELL_SHORT
