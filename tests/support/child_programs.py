"""Programs in processes of their own, for what is about processes that end, stop or are killed."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "converters")])}


def begun(code: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    """A process that runs `code`, once it has printed its first line."""
    command = [sys.executable, "-P", "-c", textwrap.dedent(code), *map(str, arguments)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    return process


def done(code: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """What a process that ran `code` to its end said."""
    command = [sys.executable, "-P", "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
