"""Whether an answer is right, and how to say briefly what went wrong."""

import re
import signal

import numpy as np

from tfq_converters.graph import AnyArray
from tfq_converters.kernels import Run
from tfq_converters.probe.reference import Answer
from tfq_converters.probe.runtimes import SECONDS

LONGEST = 120  # characters of a message
CUTS = (  # what is no reason, or differs from run to run
    (re.compile(r"^the runtime (refuses the file|fails) on its \w+ kernels: "), ""),
    (re.compile(r"(?<=.)Node number \d+ \(.*$"), ""),
    (re.compile(r"(?<=delegate)[a-z].*$"), ""),
    (re.compile(r"\S*/kernels/"), ""),
    (re.compile(r"Invalid tensor index \d+"), "Invalid tensor index"),
    (re.compile(r" An older version of this builtin might be .*$"), ""),
)


def judge(found: AnyArray, expected: Answer) -> str:
    """Return how far off `found` is from the nearest accepted answer; "" when it is right."""
    if found.shape != expected.accepted[0].shape:
        return f"shape {list(found.shape)}, expected {list(expected.accepted[0].shape)}"
    got = found.astype(np.float64)
    if not np.isfinite(got).all():
        return "not a number"
    gap, accepted = min(((float(np.abs(got - one).max()), one) for one in expected.accepted), key=lambda pair: pair[0])
    if gap <= expected.tolerance:
        return ""
    if expected.encoding is not None:
        return f"off by {gap:.0f} steps"
    return f"off by {100 * gap / float(np.abs(accepted).max()):.3g} % of the largest value"


def crash(code: int) -> Run:
    """Return the run of a file that ended the process.

    Args:
        code: exit code of the process, negative for a signal.
    """
    if code == -getattr(signal, "SIGALRM", 0):
        return Run("crashes", f"no answer in {SECONDS} seconds")
    return Run("crashes", signal.Signals(-code).name if code < 0 else f"exit code {code}")


def reason(error: str, said: str) -> str:
    """Return one line: the runtime's reason for refusing a file, without what differs from run to run.

    Args:
        error: the text of its exception.
        said: what it wrote to the standard streams meanwhile.
    """
    lines = [line.strip() for line in (*error.splitlines(), *said.splitlines())]
    lines = [line for line in lines if line and not line.startswith(("INFO", "WARNING"))]
    telling = [line for line in lines if not line.startswith("TFLM failed")]
    text = (telling or lines or ["no reason given"])[0]
    for pattern, instead in CUTS:
        text = pattern.sub(instead, text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
