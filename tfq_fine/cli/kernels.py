"""`tfq-fine kernels`: how each runtime computes every kind of quantized weight, as shipped or measured here."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console

from tfq_converters.errors import TfqError
from tfq_converters.kernels import ABSENT, VARIANTS, Cell, KernelTable, Run, families, load, save
from tfq_converters.probe import CELLS, present, probe
from tfq_fine.cli.outputs import places
from tfq_fine.cli.terminal import counted
from tfq_fine.report import Grid, Paragraph, Section, plain_text, rich_group

MARKS = {"correct": "ok", "refuses": "refuses", "wrong": "WRONG", "crashes": "crash", "absent": "-"}
WIDTH = 132  # columns of plain text: seven runtime variants
LEGEND = (
    "ok: computes correctly; WRONG: runs, and is silently wrong; refuses: with an error; crash: ends the process; "
    "-: not measured. *: the fast delegate takes it. The number is the time relative to the float operator on the same "
    "runtime: below 1 is faster."
)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, measured again if that is asked.

    Raises:
        TfqError: an option without its other one, a runtime that is not installed, or a file that cannot be written.
    """
    variants = _variants(arguments.runtime)
    if not arguments.probe:
        if arguments.output:
            raise TfqError("--output writes what --probe measures; give both")
        table = load(arguments.table)
        _show(describe(table, [variant for variant in variants if variant in table.variants]))
        return 0
    if arguments.table:
        raise TfqError("--table shows a saved table, --probe measures a new one; give one of them")
    with places({"output": arguments.output}, []) as targets:
        table = _measured(variants)
        if "output" in targets:
            save(table, targets["output"])
        _show(describe(table, variants))
    return 0


def _variants(runtimes: Sequence[str] | None) -> list[str]:
    """Return the variants of the named runtimes, all by default: `litert` stands for all of its variants."""
    variants = families()
    named = {variant for name in runtimes or variants for variant in variants[name]}
    return [variant for variant in VARIANTS if variant in named]


def _measured(wanted: Sequence[str]) -> KernelTable:
    installed = present(wanted)
    if not installed:
        packages = ", ".join(dict.fromkeys(VARIANTS[variant].distribution for variant in wanted))
        raise TfqError(f"none of the runtimes is installed; install {packages}")
    with counted(len(installed) * len(CELLS), "probing") as advance:
        return probe(load(), installed, progress=advance)


def describe(table: KernelTable, variants: Sequence[str]) -> list[Section]:
    """Return the legend, what was measured, and a grid for each operator.

    Args:
        table: what was measured.
        variants: the columns.
    """
    on = ", ".join(f"{name} {value}" for name, value in table.cells_on.items())
    headings = [variant.replace("-no-", " no-").replace("-ref", " ref") for variant in variants]
    sections: list[Section] = [Paragraph(LEGEND), Paragraph(f"measured on: {on}")]
    for op, form in dict.fromkeys((cell.op, cell.form) for cell in table.cells):
        rows = [
            (cell.mode, _weights(cell), *_columns(runs.get(variant, ABSENT) for variant in variants))
            for cell, runs in table.cells.items()
            if (cell.op, cell.form) == (op, form)
        ]
        sections.append(Grid(f"{op} {form}".strip(), ("mode", "weights", *headings), rows))
    return sections


def _weights(cell: Cell) -> str:
    return "float32" if cell.mode == "float" else f"int{cell.bits} {cell.granularity.replace('_', '-')}"


def _columns(runs: Iterator[Run]) -> Iterator[str]:
    for run in runs:
        ratio = "" if run.ratio is None else f" {run.ratio:.2g}"
        yield MARKS[run.status] + ("*" if run.delegated else "") + ratio


def _show(sections: Sequence[Section]) -> None:
    if sys.stdout.isatty():
        Console().print(rich_group(sections))
    else:
        print(plain_text(sections, WIDTH))
