"""`tfq-fine analyze`: shows which layers hurt at which step of the hierarchy, and what to do."""

import argparse

from tfq_converters.files import write_file
from tfq_fine.cli.conditions import handed_on
from tfq_fine.cli.data_argument import data_of
from tfq_fine.cli.outputs import places
from tfq_fine.cli.terminal import show, written
from tfq_fine.mixed_precision import analyze
from tfq_fine.report import require_extra


def run(arguments: argparse.Namespace) -> int:
    """Analyze, write the page and the report, print the tables.

    Raises:
        TfqError: bad input, or a page that cannot be written.
    """
    with places(
        {"output": arguments.output, "report": arguments.report}, [arguments.model, *arguments.data]
    ) as targets:
        if arguments.output:
            require_extra()
        with handed_on(arguments) as conditions:
            analysis = analyze(arguments.model, data_of(arguments), **conditions)
        if "report" in targets:
            write_file(targets["report"], [analysis.to_json().encode() + b"\n"])
        if "output" in targets:
            analysis.save_html(targets["output"])
        show(analysis)
        written(targets)
    return 0
