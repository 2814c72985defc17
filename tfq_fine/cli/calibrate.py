"""`tfq-fine calibrate`: gathers the statistics of a float model on data, for `quantize --statistics`."""

import argparse
from collections.abc import Mapping
from typing import Any

from absl import logging

from tfq_converters.files import Place
from tfq_fine.api import calibrate
from tfq_fine.calibration import Statistics
from tfq_fine.cli.outputs import places
from tfq_fine.cli.recipe_argument import recipe_of
from tfq_fine.cli.signature_values import by_signature, each


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, save, print the table. Ctrl-C keeps what was gathered.

    Raises:
        TfqError: bad input, or a file that cannot be written.
    """
    data = by_signature("data", arguments.data)
    inputs = [arguments.model, *each(data), arguments.recipe]
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
    logging.info("wrote %s", arguments.output)
    print(statistics)
    return 0
