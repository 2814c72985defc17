"""Runs in a process of its own: opens a file on TFLite Micro, whose interpreter prints what it allocates."""

import sys
from pathlib import Path


def main(tflite: str) -> None:
    """Print the allocations for a file."""
    from tflite_micro import runtime

    runtime.Interpreter.from_bytes(Path(tflite).read_bytes()).print_allocations()


if __name__ == "__main__":
    main(sys.argv[2])
