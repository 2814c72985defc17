"""How a module of these packages is run in a process of its own, without imports from the current folder."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, AnyStr, Protocol, TypeVar

from tfq_converters.files import temporary_folder

ROOT = str(Path(__file__).parents[2])  # the folder that holds this package


def python_command(module: str, *arguments: str, site: bool = True) -> list[str]:
    """Return the command that runs `module`, without `site`: it starts sooner; see `python_environment`."""
    # -P: `-m` does not put the current folder first on the import path.
    return [sys.executable, "-P", *([] if site else ["-S"]), "-m", module, *arguments]


def python_environment(*roots: str, **more: str) -> dict[str, str]:
    """Return the environment of this process with `more`, and with its import path, but for the current folder.

    The folder of this package and `roots` come first, and stay even if one of them is the current folder.
    """
    here = os.path.realpath(os.curdir)
    others = [path for path in sys.path if path and os.path.realpath(path) != here]
    return os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, *roots, *others]), "PYTHONSAFEPATH": "1"} | more


def started(
    module: str, folder: Path, stdout: int, *arguments: str, errors: str = "errors", site: bool = False
) -> "subprocess.Popen[bytes]":
    """Start `module` in a process of its own. All child processes of these packages are started here.

    It has a session of its own, so that Ctrl-C on the terminal reaches its parent alone, which may go on and need it,
    or ends it.

    Args:
        module: the module that is run.
        folder: its first argument.
        stdout: the file descriptor of its output, or a constant of `subprocess`.
        arguments: its other arguments.
        errors: the file in `folder` that gets what it says on stderr.
        site: whether it has what `site` sets up; it starts sooner without.
    """
    with (folder / errors).open("ab") as stream:
        return subprocess.Popen(
            python_command(module, str(folder), *arguments, site=site),
            env=python_environment(OPENBLAS_NUM_THREADS="1"),  # these children use none
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stream,
            start_new_session=True,
        )


def pipe(stream: IO[AnyStr] | None) -> IO[AnyStr]:
    """Return a stream of a child that was started with a pipe there.

    Raises:
        TypeError: it was not.
    """
    if stream is None:
        raise TypeError("the child was started without this pipe")
    return stream


class Ends(Protocol):
    """Something that has processes, and ends them."""

    def end(self) -> None:
        """End the processes."""


E = TypeVar("E", bound=Ends)


@contextmanager
def in_folder(make: Callable[[Path, float | None], E], timeout: float | None) -> Iterator[E]:
    """Make an `E` of a temporary folder and a timeout; its processes and the folder last as long as the block."""
    with temporary_folder() as folder:
        made = make(folder, timeout)
        try:
            yield made
        finally:
            made.end()
