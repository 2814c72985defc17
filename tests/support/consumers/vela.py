"""Vela, Arm's compiler for Ethos-U NPUs, which replaces what the NPU computes by one custom operator."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NPUS = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")


@dataclass(frozen=True)
class Compiled:
    """How many operators went where; counts are -1 where it did not finish."""

    exit_code: int  # negative: of the signal that ended it
    on_npu: int
    on_cpu: int
    said: str


def compiled(content: bytes, npu: str, folder: Path) -> Compiled:
    """Compile a file for `npu`."""
    path = folder / "model.tflite"
    path.write_bytes(content)
    command = [
        sys.executable,
        "-P",
        "-m",
        "ethosu.vela",
        str(path),
        "--accelerator-config",
        npu,
        "--output-dir",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    counts = dict(re.findall(r"(CPU|NPU) operators = (\d+)", done.stdout))
    return Compiled(done.returncode, int(counts.get("NPU", -1)), int(counts.get("CPU", -1)), done.stdout + done.stderr)
