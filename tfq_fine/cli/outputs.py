"""Places for results: whether they can be written is checked before the work starts; `-` is stdout."""

import argparse
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.files import Place

STDOUT, STDERR = 1, 2
DASH = "-"


def report_outputs(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Return option -> path of the forms in which a report is written, None where one is not."""
    return {
        "report": arguments.report,
        "html": arguments.html,
        "csv": arguments.csv,
        "node-data": arguments.node_data,
    }


@contextmanager
def places(outputs: Mapping[str, str | None], inputs: Sequence[str | None]) -> Iterator[dict[str, Place]]:
    """Check every output, and yield where it goes.

    An output `-`, or a path of the file or pipe that stdout is, is written to stdout and stays alone there: all else
    that is printed goes to stderr as long as the block lasts.

    Args:
        outputs: option -> path, None where it was not given.
        inputs: paths that are read.

    Yields:
        option -> path, or the descriptor that stdout has meanwhile; without the options that were not given.

    Raises:
        TfqError: one error that lists all problems, as `check_outputs` does.
    """
    check_outputs(outputs, inputs)
    paths = {option: path for option, path in outputs.items() if path is not None}
    to_stdout = {option for option, path in paths.items() if _is_stdout(path)}
    if not to_stdout:
        yield {**paths}
        return
    with _stdout_reserved() as descriptor:
        yield {option: descriptor if option in to_stdout else path for option, path in paths.items()}


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
        if path is None or (path != DASH and _is_device(path)):  # several outputs may go to /dev/null
            continue
        stdout = _is_stdout(path)
        real = DASH if stdout else os.path.realpath(path)
        if not stdout:
            problems += [f"--{option}: {path} {why}" for why in _why_not(path, real)]
        if real in read:
            problems.append(f"--{option}: {path} is an input, and would be overwritten")
        if real in taken:
            problems.append(f"--{option}: {path} is the file of --{taken[real]} too")
        taken[real] = option
    raise_all(problems)


def _why_not(path: str, real: str) -> Iterator[str]:
    """Yield why a regular file cannot be written."""
    folder = Path(real).parent
    if Path(real).is_dir():
        yield "is a folder"
    elif not folder.is_dir():
        yield f"cannot be written: there is no folder {folder}"
    elif not os.access(folder, os.W_OK):
        yield f"cannot be written: no permission in {folder}"
    elif os.path.exists(path) and not os.access(path, os.W_OK):
        yield "cannot be written: no permission"


def _is_device(path: str) -> bool:
    """Return whether `path` is there and neither a regular file, a folder nor stdout, so that it is written into."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or _is_stdout(path))


def _is_stdout(path: str) -> bool:
    """Return whether `path` is `-`, or the file, pipe or socket that stdout is; a terminal is only written into."""
    if path == DASH:
        return True
    with suppress(OSError):
        status = os.stat(path)
        return os.path.samestat(status, os.fstat(STDOUT)) and not stat.S_ISCHR(status.st_mode)
    return False


@contextmanager
def _stdout_reserved() -> Iterator[int]:
    """Yield a descriptor of stdout, while everything that is printed goes to stderr.

    Raises:
        TfqError: stdout is closed.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        descriptor = os.dup(STDOUT)
    except OSError as error:
        raise TfqError(f"stdout cannot be written: {error.strerror}") from error
    try:
        try:
            os.dup2(STDERR if sys.stderr is None else sys.stderr.fileno(), STDOUT)
        except (OSError, ValueError):  # stderr is closed: nobody wants to see it
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STDOUT)
            os.close(nowhere)
        yield descriptor
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
        os.dup2(descriptor, STDOUT)
        os.close(descriptor)
