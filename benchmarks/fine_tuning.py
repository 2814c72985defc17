"""Few-bit weights on Fashion-MNIST: post-training quantization against one epoch of fine-tuning.

`python -m benchmarks.fine_tuning --output fine_tuning.json` runs examples/fine_tune.py and writes its table as Markdown
next to the JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.tables import Table
from examples.fine_tune import Row, main

HEADER = ("recipe", "float %", "post-training %", "fine-tuned, Keras %", "fine-tuned, file %", "bytes")


def table(rows: list[Row]) -> Table:
    """Return the rows as a table."""
    cells = tuple(
        (
            row.recipe,
            f"{row.float_accuracy:.2f}",
            f"{row.post_training:.2f}",
            f"{row.tuned_keras:.2f}",
            f"{row.tuned_file:.2f}",
            f"{row.bytes:,}",
        )
        for row in rows
    )
    notes = ("One epoch with learned scales (LSQ) on 60,000 images; accuracy on 10,000 others.",)
    return Table("Fine-tuning", HEADER, cells, notes, labels=1)


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("fine_tuning.json"))
    parser.add_argument("--epochs", type=int, default=2, help="of the float training")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = main(folder, arguments.epochs)
    arguments.output.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    arguments.output.with_suffix(".md").write_text(table(rows).markdown())
    table(rows).show()


if __name__ == "__main__":
    run()
