"""The outputs of a file, run in a process of its own: `python -m benchmarks.file_outputs FILE SAMPLES COUNT OUTPUT`.

For files that may crash the process that runs them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import child
from benchmarks.evaluation import outputs


def outputs_apart(path: Path, samples: Path, count: int) -> np.ndarray | str:
    """Return the first output (count, *output) on the first samples in the file `samples`; or how the run ended."""
    target = path.with_suffix(".npy")
    command = child.command("file_outputs", path, samples, count, target)
    done = subprocess.run(command, env=child.environment(), capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return f"running it ended the process with signal {-done.returncode}"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    values: np.ndarray = np.load(target)
    target.unlink()
    return values


def main(path: str, samples: str, count: str, target: str) -> None:
    """Run the file in this process."""
    np.save(target, outputs(Path(path), np.load(samples, mmap_mode="r")[: int(count)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
