"""The kernel table as a value: which cells each runtime computes, and what operators cost. `kernels.json` is one."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tfq_converters.errors import TfqError
from tfq_converters.files import Place, from_plain, parsed, to_plain, write_file

Status = Literal["correct", "refuses", "wrong", "crashes", "absent"]
FORMAT = 1  # the graph of the file


@dataclass(frozen=True, order=True)
class Cell:
    """One way of computing one operator, as the file stores it.

    In mode "weight_only" a DEQUANTIZE makes the weights float; "float" is the operator itself, for comparison.
    """

    op: str
    form: str  # "3x3", "1x1" or "grouped" for convolutions; "" where one form stands for all
    mode: str  # "float", "weight_only", "dynamic", "integer8" or "integer16"
    bits: int  # bits of the weights
    granularity: str  # "per_tensor", "per_channel" or "blocks"; "" in mode "float"


@dataclass(frozen=True)
class Run:
    """The answer of one runtime variant for a cell."""

    status: Status
    message: str = ""  # what a runtime says that refuses or dies; for a wrong answer, how far off it is
    delegated: bool = False  # whether the fast delegate took the operator
    ratio: float | None = None  # time relative to the float operator on the same variant; None: not measured


ABSENT = Run("absent", "not measured")


@dataclass(frozen=True)
class KernelTable:
    """The measurements, and the machine and versions they were made with."""

    cells: Mapping[Cell, Mapping[str, Run]]  # cell -> runtime variant -> run
    cells_on: Mapping[str, Any]  # versions of the runtimes, and the machine
    costs_on: Mapping[str, Any]  # the same for what follows
    partition_ns: float  # one more call of the delegate
    cost: Mapping[str, Any]  # operator -> type -> how its time grows
    chains: Mapping[str, Any]  # operators between two that the delegate takes

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """The runtime variants that were measured, in the order of the file."""
        return tuple(dict.fromkeys(variant for runs in self.cells.values() for variant in runs))


def load(path: str | os.PathLike[str] | None = None) -> KernelTable:
    """Return the table in the file `path`; the shipped one when None.

    Raises:
        TfqError: the file cannot be read, or is not a kernel table.
    """
    return _shipped() if path is None else _parsed(path)


@cache
def _shipped() -> KernelTable:
    return _table(resources.files("tfq_converters.kernels").joinpath("kernels.json").read_text())


def _parsed(path: str | os.PathLike[str]) -> KernelTable:
    try:
        return _table(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise TfqError(f"kernel table {os.fspath(path)} cannot be read: {error}") from error
    except TfqError as error:
        written = "`tfq-fine kernels --probe` writes one"
        raise TfqError(f"{os.fspath(path)} is not a kernel table: {error}; {written}") from error


@dataclass(frozen=True)
class _Row:
    """A cell and its runs, as the file stores them."""

    op: str
    form: str
    mode: str
    bits: int
    granularity: str
    runs: Mapping[str, Run]


@dataclass(frozen=True)
class _File:
    """The content of the file; the fields are those of `KernelTable`."""

    format: int
    cells_on: Mapping[str, Any]
    costs_on: Mapping[str, Any]
    partition_ns: float
    cost: Mapping[str, Any]
    chains: Mapping[str, Any]
    cells: tuple[_Row, ...]


def _table(text: str) -> KernelTable:
    plain = parsed(text, "it")
    if isinstance(plain, dict) and plain.get("format", FORMAT) != FORMAT:
        raise TfqError(f"expected format {FORMAT}, found {plain['format']}")
    content = from_plain(plain, _File, "it")
    cells = {Cell(row.op, row.form, row.mode, row.bits, row.granularity): row.runs for row in content.cells}
    return KernelTable(cells, content.cells_on, content.costs_on, content.partition_ns, content.cost, content.chains)


def save(table: KernelTable, place: Place) -> None:
    """Write `table` to a path or open descriptor, one line for each cell and for each type of each operator.

    Raises:
        TfqError: the place cannot be written.
    """
    cells = [
        to_plain(cell) | {"runs": {name: _brief(run) for name, run in runs.items()}}
        for cell, runs in table.cells.items()
    ]
    rest = {field.name: to_plain(getattr(table, field.name)) for field in fields(KernelTable)[1:]}
    record = {"format": FORMAT, **rest, "cells": cells}
    write_file(place, [_dumps(record).encode() + b"\n"])


def _brief(run: Run) -> dict[str, Any]:
    """Keep only what differs from the defaults."""
    plain = to_plain(run)
    return {field.name: plain[field.name] for field in fields(Run) if getattr(run, field.name) != field.default}


def _dumps(value: Any, depth: int = 3) -> str:
    """Return JSON with line breaks down to `depth` levels of objects; the entries of a long list have a line each."""
    margin = " " * (4 - depth)
    if isinstance(value, list) and depth == 2:
        lines = [margin + json.dumps(item) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + margin[1:] + "]"
    if depth == 0 or not isinstance(value, Mapping):
        return json.dumps(value)
    lines = [f"{margin}{json.dumps(key)}: {_dumps(item, depth - 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + margin[1:] + "}"
