"""`tfq-fine export-micro`: writes the C++ sources that run a .tflite on TFLite Micro."""

import argparse

from tfq_fine.devices import export_micro


def run(arguments: argparse.Namespace) -> int:
    """Write the sources, and say what they need.

    Raises:
        TfqError: operators that TFLite Micro lacks, a file that it refuses, or a folder that cannot be written.
    """
    made = export_micro(arguments.tflite, arguments.output)
    print(f"{len(made.operators)} operators: {', '.join(made.operators)}")
    print(f"arena: {made.arena_bytes:,} bytes, as TFLite Micro's interpreter measures it on this machine")
    for path in made.files:
        print(f"wrote {path} ({path.stat().st_size:,} bytes)")
    return 0
