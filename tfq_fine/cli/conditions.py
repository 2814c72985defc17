"""The options that `search` and `analyze` share, as arguments of the functions of these names."""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any

from tfq_converters.kernels import DEFAULT_RUNTIMES


@contextmanager
def handed_on(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the arguments that layers are fitted and measured by; processes for it end with the context."""
    with ExitStack() as stack:
        executor = None
        if arguments.processes is not None:
            pool = ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn"))
            executor = stack.enter_context(pool)
        yield {
            "quality": arguments.quality,
            "runtimes": tuple(arguments.runtime or DEFAULT_RUNTIMES),
            "num_samples": arguments.samples,
            "executor": executor,
            "cache_dir": arguments.cache_dir,
            "safe_mode": not arguments.unsafe,
            "timeout": arguments.timeout,
        }
