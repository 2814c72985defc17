"""The memory of a process and of all that it starts, watched from outside (Linux: from /proc)."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def peak_while_running(process: subprocess.Popen[bytes], every: float = 0.01) -> int:
    """Wait for `process`; return the largest sum of resident bytes over its tree, sampled `every` seconds.

    Pages that two processes of the tree share count in both, so that the sum is an upper bound.
    """
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_bytes(process.pid))
        time.sleep(every)
    return peak


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and of all that descend from it; 0 for a process that has ended."""
    try:
        own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    except (OSError, IndexError):
        return 0
    return own + sum(tree_bytes(child) for child in children)


def _children(task: Path) -> list[int]:
    """Return the processes that one thread has started."""
    try:
        return [int(child) for child in (task / "children").read_text().split()]
    except OSError:  # the thread has ended
        return []
