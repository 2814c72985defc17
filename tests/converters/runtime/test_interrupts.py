"""Ctrl-C reaches every process of the terminal's foreground group: the user's alone may act on it."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support.child_programs import ENVIRONMENT
from support.graphs import small_cnn
from tfq_converters import flatbuffer

DATA_THAT_WAITS = """
    import sys, time
    import numpy as np
    import tfq_fine as tfq

    def samples():
        rng = np.random.default_rng(0)
        for n in range(20):
            yield rng.normal(size=(1, 9, 11, 3)).astype(np.float32)
        print("ready", flush=True)
        time.sleep(60)

    report = tfq.quantize(sys.argv[1], "full_int8", samples(), threads=1, progress=False).report
    print(*report.notes, sep="\\n")
    print("samples", report.verdict.samples)
"""
CHILDREN_THAT_WAIT = """
    import time
    from tfq_converters.runtime.apart_process import apart
    from tfq_converters.runtime.child_runs import waiting

    with apart() as process, waiting() as runs:
        print(process._process.pid, runs._ready.pid, flush=True)
        time.sleep(60)
"""


def interrupted(code: str, *arguments: str | Path) -> tuple[int, list[str], str]:
    """Run `code` in a process group of its own, and interrupt the group after its first line: code, stdout, stderr."""
    command = [sys.executable, "-P", "-c", textwrap.dedent(code), *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=50)
    return process.returncode, [first, *out.splitlines()], err


def test_what_was_gathered_is_used_and_the_file_is_run(tmp_path: Path) -> None:
    """The processes that run files are needed after the interrupt: one that it ended would make an error of it."""
    flatbuffer.save(small_cnn(), tmp_path / "model.tflite")
    code, said, errors = interrupted(DATA_THAT_WAITS, tmp_path / "model.tflite")
    assert code == 0, errors
    assert any(line.startswith("calibration was interrupted") for line in said)
    assert said[-1] == "samples 20"
    assert "Traceback" not in errors and "KeyboardInterrupt" not in errors


def test_children_end_with_the_process_that_was_interrupted() -> None:
    code, said, errors = interrupted(CHILDREN_THAT_WAIT)
    assert code == -signal.SIGINT
    assert errors.count("Traceback") == 1  # that of the program itself
    for pid in map(int, said[0].split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
