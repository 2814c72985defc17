"""`tfq-fine verify`: compares a float model with a quantized file, and prints what quantization costs."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from absl import logging

from tfq_converters.errors import TfqError
from tfq_converters.files import Place
from tfq_fine.cli.data_argument import data_of
from tfq_fine.cli.outputs import places, report_outputs
from tfq_fine.cli.signature_values import by_signature, each
from tfq_fine.cli.terminal import by_command, progress, save_pages, show, written
from tfq_fine.report import require_extra
from tfq_fine.request import SHARES, MaxDrop
from tfq_fine.verification import verify

FELL_SHORT = 1


def run(arguments: argparse.Namespace) -> int:
    """Verify, write the reports, print the table; 1 when the metric fell by more than was allowed.

    Raises:
        TfqError: bad input, or a file that cannot be written.
    """
    data, metric = data_of(arguments), by_signature("metric", arguments.metric)
    if arguments.max_drop is not None and metric is None:
        raise TfqError("--max-drop needs --metric, and labels in the data")
    if arguments.max_drop is not None:
        MaxDrop.of(arguments.max_drop).limit(any(name in SHARES for name in each(metric)), 1.0)
    inputs = [arguments.model, arguments.tflite, *each(by_signature("data", arguments.data))]
    with places(report_outputs(arguments), inputs) as targets:
        return _run(arguments, data, metric, targets)


def _run(arguments: argparse.Namespace, data: Any, metric: Any, targets: Mapping[str, Place]) -> int:
    if arguments.html:
        require_extra()
    logging.info("comparing %s with %s", arguments.tflite, arguments.model)
    with progress(f"reading {arguments.model}") as update:
        report = verify(
            arguments.model,
            arguments.tflite,
            data,
            metric=metric,
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
    report = replace(by_command(report, arguments), max_drop=arguments.max_drop or "")
    save_pages(report, targets)
    show(report)
    written(targets)
    if arguments.max_drop is None:
        return 0
    fell = report.fell(arguments.max_drop)
    for key, task in report.tasks.items():
        where = f" of signature {key!r}" if key else ""
        than = "more than" if key in fell else "at most"
        said = f"{task.name}{where} got worse by {task.drop:.6g}, {than} {arguments.max_drop}"
        print(f"{'FAIL' if key in fell else 'PASS'}: {said}", file=sys.stderr if key in fell else sys.stdout)
    return FELL_SHORT if fell else 0
