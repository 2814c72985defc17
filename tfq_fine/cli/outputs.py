"""Whether files can be written, found out before the work starts."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfq_converters.errors import raise_all


def check_outputs(outputs: Mapping[str, str | None], inputs: Sequence[str | None]) -> None:
    """Raise unless every output can be written, each to a place of its own and not over an input.

    Args:
        outputs: option -> path, None where it was not given.
        inputs: paths that are read.

    Raises:
        TfqError: one error that lists all problems.
    """
    read = {os.path.realpath(path) for path in inputs if path is not None}
    taken: dict[str, str] = {}
    problems = []
    for option, path in outputs.items():
        if path is None:
            continue
        real = os.path.realpath(path)
        folder = Path(real).parent
        if Path(real).is_dir():
            problems.append(f"--{option}: {path} is a folder")
        elif not folder.is_dir():
            problems.append(f"--{option}: {path} cannot be written: there is no folder {folder}")
        elif not os.access(folder, os.W_OK):
            problems.append(f"--{option}: {path} cannot be written: no permission in {folder}")
        if real in read:
            problems.append(f"--{option}: {path} is an input, and would be overwritten")
        if real in taken:
            problems.append(f"--{option}: {path} is the file of --{taken[real]} too")
        taken[real] = option
    raise_all(problems)
