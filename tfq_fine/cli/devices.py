"""`tfq-fine devices`: lists the devices that `--target` takes."""

import argparse

from tfq_fine.cli.terminal import show
from tfq_fine.devices import DEVICES
from tfq_fine.report import Grid, Paragraph, SectionsText


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each device, and with --verbose where its facts come from."""
    rows = [
        (row.name, row.help, row.recipe, ", ".join(row.runtimes), row.border, row.prefer, row.not_measured)
        for row in DEVICES.values()
    ]
    columns = ("device", "what it is", "recipe", "runtimes", "inputs and outputs", "prefer", "not measured here")
    sections: list[Grid | Paragraph] = [Grid("Devices", columns, rows)]
    if arguments.verbose:
        sections += [Paragraph(f"{row.name}: {source}") for row in DEVICES.values() for source in row.sources]
    show(SectionsText(sections))
    return 0
