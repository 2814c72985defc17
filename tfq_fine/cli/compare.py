"""`tfq-fine compare`: shows two reports side by side."""

import argparse
from pathlib import Path

from tfq_fine.cli.outputs import places
from tfq_fine.cli.terminal import show, written
from tfq_fine.report import SideBySide, load_report, require_extra


def run(arguments: argparse.Namespace) -> int:
    """Compare two reports, write the page, print the tables.

    Raises:
        TfqError: a file that holds no report, reports of two kinds, or a page that cannot be written.
    """
    paths = arguments.first, arguments.second
    with places({"html": arguments.html}, paths) as targets:
        if arguments.html:
            require_extra()
        stems = Path(paths[0]).stem, Path(paths[1]).stem
        both = SideBySide(load_report(paths[0]), load_report(paths[1]), stems if stems[0] != stems[1] else paths)
        if "html" in targets:
            both.save_html(targets["html"])
        show(both)
        written(targets)
    return 0
