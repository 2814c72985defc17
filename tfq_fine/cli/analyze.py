"""`tfq-fine analyze`: shows which layers hurt at which step of the hierarchy, and what to do."""

import argparse

from tfq_fine.cli.outputs import places
from tfq_fine.cli.terminal import show
from tfq_fine.mixed_precision import analyze
from tfq_fine.report import require_extra


def run(arguments: argparse.Namespace) -> int:
    """Analyze, write the page, print the tables.

    Raises:
        TfqError: bad input, or a page that cannot be written.
    """
    with places({"output": arguments.output}, [arguments.model, arguments.data]) as targets:
        if arguments.output:
            require_extra()
        analysis = analyze(
            arguments.model,
            arguments.data,
            quality=arguments.quality,
            num_samples=arguments.samples,
            cache_dir=arguments.cache_dir,
            safe_mode=not arguments.unsafe,
            timeout=arguments.timeout,
        )
        if "output" in targets:
            analysis.save_html(targets["output"])
        show(analysis)
    return 0
