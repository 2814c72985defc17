"""Runs one file after the other on the default kernels, in a process of its own.

`python -m tfq_converters.file_child FOLDER` reads lines from its standard input. For a line NAME it runs FOLDER's
`NAME.tflite` on the samples in `NAME.inputs` (`array_file`; `N_K` is input K of sample N), writes what comes out to
`NAME.outputs` (`N_K` is output K of sample N), or to `NAME.error` why the runtime refused, and answers with NAME.
"""

import sys
from pathlib import Path

from tfq_converters.array_file import ArrayFile, ArrayWriter
from tfq_converters.errors import TfqError
from tfq_converters.run_child import samples
from tfq_converters.runtime import Runner


def main(folder: str) -> int:
    """Answer until there are no more lines; returns the exit code."""
    for line in sys.stdin:
        name = line.strip()
        _run(Path(folder), name)
        print(name, flush=True)
    return 0


def _run(here: Path, name: str) -> None:
    found = ArrayWriter(here / f"{name}.outputs")
    try:
        runner = Runner(str(here / f"{name}.tflite"))
        for n, inputs in enumerate(samples(ArrayFile(here / f"{name}.inputs"))):
            runner.reset_variables()
            for k, array in enumerate(runner.run(inputs)):
                found.add(f"{n}_{k}", array)
    except TfqError as error:
        (here / f"{name}.error").write_text(str(error))
    found.close()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
