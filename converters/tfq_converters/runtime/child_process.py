"""How a module of these packages is run in a process of its own: what lies in the current folder is never imported."""

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])  # the folder that holds this package


def python_command(module: str, *arguments: str, site: bool = True) -> list[str]:
    """The command that runs `module`; without `site` it starts sooner, and finds packages by `python_environment`."""
    # -P: `-m` does not put the current folder first on the import path.
    return [sys.executable, "-P", *([] if site else ["-S"]), "-m", module, *arguments]


def python_environment(*roots: str, **more: str) -> dict[str, str]:
    """The environment of this process with `more`, and with its import path, but for the current folder.

    The folder of this package and `roots` come first, and stay even if one of them is the current folder.
    """
    here = os.path.realpath(os.curdir)
    others = [path for path in sys.path if path and os.path.realpath(path) != here]
    return os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, *roots, *others]), "PYTHONSAFEPATH": "1"} | more
