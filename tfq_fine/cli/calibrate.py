"""`tfq-fine calibrate`: gathers the statistics of a float model on data, for `quantize --statistics`."""

import argparse
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from absl import logging

from tfq_converters.files import Place
from tfq_fine.api import calibrate
from tfq_fine.calibration import Statistics
from tfq_fine.cli.data_argument import data_of
from tfq_fine.cli.outputs import DASH, places
from tfq_fine.cli.recipe_argument import recipe_of
from tfq_fine.cli.signature_values import by_signature, each
from tfq_fine.cli.terminal import written

INTERRUPTED = 130
WIDEST = 10  # tensors that are printed unless all are asked for


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, save, print the table. Ctrl-C keeps what was gathered.

    Raises:
        TfqError: bad input, or a file that cannot be written.
    """
    data = data_of(arguments)
    inputs = [arguments.model, *each(by_signature("data", arguments.data)), arguments.recipe]
    with places({"output": arguments.output}, inputs) as targets:
        return _run(arguments, data, targets)


def _run(arguments: argparse.Namespace, data: Any, targets: Mapping[str, Place]) -> int:
    logging.info("calibrating %s", arguments.model)
    statistics = calibrate(
        arguments.model,
        data,
        recipe_of(arguments.recipe),
        observer=arguments.observer,
        also=tuple(arguments.also or ()),
        resume=None if arguments.resume is None else Statistics.load(arguments.resume),
        num_samples=arguments.samples,
        batch_size=arguments.batch_size,
        on_invalid=arguments.on_invalid,
        safe_mode=not arguments.unsafe,
    )
    statistics.save(targets["output"])
    print(statistics if arguments.verbose else statistics.table(WIDEST))
    if statistics.is_interrupted:
        kept = f"interrupted: {statistics.samples} samples are kept in {arguments.output}"
        print(f"{kept}; --resume {shlex.quote(arguments.output)} adds others", file=sys.stderr)
        return INTERRUPTED
    model, file = map(shlex.quote, (arguments.model, arguments.output))
    again = f"tfq-fine quantize {model} -r {shlex.quote(arguments.recipe)} --statistics {file} -o MODEL.tflite"
    written(targets, again if arguments.output != DASH else "")
    return 0
