"""`tfq-fine quantize`: quantizes a model by a recipe, and writes a file that has been run."""

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from absl import logging

from tfq_converters.errors import TfqError
from tfq_converters.files import Place
from tfq_converters.kernels import DEFAULT_RUNTIMES
from tfq_fine.api import quantize
from tfq_fine.calibration import Statistics
from tfq_fine.cli.arguments import TRANSFORMS
from tfq_fine.cli.data_argument import data_of
from tfq_fine.cli.outputs import DASH, places, report_outputs
from tfq_fine.cli.recipe_argument import recipe_of
from tfq_fine.cli.signature_values import by_signature, each
from tfq_fine.cli.terminal import by_command, save_pages, show, unlogged, written
from tfq_fine.devices import device
from tfq_fine.report import require_extra
from tfq_fine.request import Recipe


def run(arguments: argparse.Namespace) -> int:
    """Quantize, write the reports and the file (last, so that it exists only if all went well), print the report.

    Raises:
        TfqError: bad input, or a file that cannot be written.
    """
    outputs = {"output": arguments.output, **report_outputs(arguments)}
    data = data_of(arguments)
    inputs = [
        arguments.model,
        *each(by_signature("data", arguments.data)),
        arguments.recipe,
        arguments.kernels,
        arguments.statistics,
    ]
    with places(outputs, inputs) as targets, unlogged():
        return _run(arguments, data, targets)


def _transforms(arguments: argparse.Namespace, recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the transforms that are tried."""
    switches = {name: getattr(arguments, name) for name in TRANSFORMS}
    return tuple(name for name, tried in switches.items() if tried or (tried is None and name in recipe.transforms))


def _run(arguments: argparse.Namespace, data: Any, targets: Mapping[str, Place]) -> int:
    if arguments.html:
        require_extra()
    if arguments.recipe is None and arguments.target is None:
        raise TfqError("quantize needs --recipe, or --target for the recipe of a device")
    recipe = recipe_of(arguments.recipe or device(arguments.target).recipe)
    logging.info("quantizing %s with %s", arguments.model, recipe.name)
    result = quantize(
        arguments.model,
        recipe,
        data,
        input_type=arguments.input_type,
        output_type=arguments.output_type,
        prefer=arguments.prefer,
        runtimes=tuple(arguments.runtime or DEFAULT_RUNTIMES),
        on_unsupported=arguments.on_unsupported,
        kernels=arguments.kernels,
        observer=arguments.observer,
        quality=arguments.quality,
        transforms=_transforms(arguments, recipe),
        num_samples=arguments.samples,
        on_invalid=arguments.on_invalid,
        statistics=None if arguments.statistics is None else Statistics.load(arguments.statistics),
        safe_mode=not arguments.unsafe,
        timeout=arguments.timeout,
        cache_dir=arguments.cache_dir,
        target=arguments.target,
        layers=bool(arguments.html or arguments.csv or arguments.node_data),
    )
    report = by_command(result.report, arguments)
    save_pages(report, targets)
    result.save(targets["output"])
    show(report)
    data = "" if arguments.data is None else f" -d {shlex.quote(arguments.data[0])}"
    model, file = map(shlex.quote, (arguments.model, arguments.output))
    written(targets, f"tfq-fine verify {model} {file}{data or ' -d TEST_DATA'}" if arguments.output != DASH else "")
    return 0
