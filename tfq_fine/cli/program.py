"""The command line: from arguments to an exit code. Modules that do the work are loaded only when needed."""

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Collection, Sequence

from absl import app

from tfq_converters.errors import TfqError, extras_named
from tfq_fine.cli.arguments import PROGRAM, parse
from tfq_fine.cli.native_output import hidden_native_output

# Loaded by name, because TensorFlow, the interpreter and numpy come with them and `--help` must not wait for those.
# Each has a function run(arguments) -> exit code.
COMMANDS: dict[str, str] = {
    "quantize": "tfq_fine.cli.quantize",
    "search": "tfq_fine.cli.search",
    "analyze": "tfq_fine.cli.analyze",
    "calibrate": "tfq_fine.cli.calibrate",
    "verify": "tfq_fine.cli.verify",
    "compare": "tfq_fine.cli.compare",
    "devices": "tfq_fine.cli.devices",
    "export-micro": "tfq_fine.cli.export_micro",
    "inspect": "tfq_fine.cli.inspect",
    "recipes": "tfq_fine.cli.recipes",
    "kernels": "tfq_fine.cli.kernels",
}
BAD_INPUT, DEFECT, INTERRUPTED, BROKEN_PIPE = 2, 70, 130, 141


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        argv: the arguments without the program's name; those of the process when None.

    Raises:
        SystemExit: always, with the exit code.
    """
    app.run(_run, argv=[PROGRAM, *(sys.argv[1:] if argv is None else argv)], flags_parser=parse)


def _run(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's own news; this process is only the command
    try:
        with extras_named(), hidden_native_output():
            code: int = importlib.import_module(COMMANDS[arguments.command]).run(arguments)
        sys.stdout.flush()
        return code
    except TfqError as error:
        return _say(in_flags(str(error), vars(arguments)), BAD_INPUT)
    except KeyboardInterrupt:
        return _say("interrupted; no half-written file remains", INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception:
        traceback.print_exc()
        return _say("this is a defect of the program; please report it with the lines above", DEFECT)


def in_flags(message: str, options: Collection[str]) -> str:
    """Return a message of the library with options of the command line in place of arguments in Python.

    >>> in_flags("give data=..., or statistics=...; Rule(None, layer=...)", ["data", "statistics"])
    'give --data ..., or --statistics ...; Rule(None, layer=...)'
    """
    return re.sub(
        r"(?<![\w(])([a-z_]+)=(?=\S)",
        lambda found: f"--{found[1].replace('_', '-')} " if found[1] in options else found[0],
        message,
    )


def _say(text: str, code: int) -> int:
    print(f"{PROGRAM}: {text}", file=sys.stderr)
    return code
