"""`tfq-fine search`: finds how to quantize each layer within a budget, and writes that file and its recipe."""

import argparse
from collections.abc import Mapping
from typing import Any

from absl import logging

from tfq_converters.files import Place, write_file
from tfq_fine.cli.conditions import handed_on
from tfq_fine.cli.data_argument import data_of
from tfq_fine.cli.outputs import places
from tfq_fine.cli.terminal import unlogged, written
from tfq_fine.mixed_precision import search
from tfq_fine.report import require_extra

FELL_SHORT = 1


def run(arguments: argparse.Namespace) -> int:
    """Search, write the files, print what each layer got; 1 where no file keeps to the drop or the time.

    Raises:
        TfqError: bad input, a size that no file has, or a file that cannot be written.
    """
    outputs = {
        "output": arguments.output,
        "recipe": arguments.recipe,
        "report": arguments.report,
        "html": arguments.html,
    }
    with places(outputs, [arguments.model, *arguments.data]) as targets, unlogged():
        return _run(arguments, targets)


def _run(arguments: argparse.Namespace, targets: Mapping[str, Place]) -> int:
    optional: dict[str, Any] = {"candidates": arguments.candidate} if arguments.candidate else {}
    if arguments.html:
        require_extra()
    logging.info("searching for %s", arguments.model)
    with handed_on(arguments) as conditions:
        result = search(
            arguments.model,
            data_of(arguments),
            max_bytes=arguments.max_bytes,
            max_drop=arguments.max_drop,
            max_latency=arguments.max_latency,
            metric=arguments.metric,
            measure=arguments.measure,
            refit=arguments.refit,
            **conditions,
            **optional,
        )
    if "report" in targets:
        write_file(targets["report"], [result.to_json().encode() + b"\n"])
    if "recipe" in targets:
        result.save_recipe(targets["recipe"])
    if "html" in targets:
        result.save_html(targets["html"])
    result.save(targets["output"])
    print(result)
    written(targets)
    return FELL_SHORT if result.problem else 0
