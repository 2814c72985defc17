"""The kernel table against the runtimes that are here: what it calls right is right, what it calls wrong is wrong.

The sample leaves out cells in which a kernel reads memory that is not its own (scales that are not there): those are
wrong in another way every time.
"""

import json
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Tensor
from tfq_converters.kernels.runtimes import VARIANTS
from tfq_converters.kernels.table import Cell, Run, load, save
from tfq_converters.probe.build import Job, cell_graph, job
from tfq_converters.probe.cases import CELLS, float_cell
from tfq_converters.probe.operands import operands
from tfq_converters.probe.reference import Answer, answer
from tfq_converters.probe.run import present, probe, run_jobs
from tfq_converters.probe.runtimes import installed
from tfq_converters.probe.verdict import crash, judge, reason
from tfq_fine.cli import kernels as kernels_command
from tfq_fine.cli import main

LITE = tuple(variant for variant in VARIANTS if variant != "tflite-micro")
LITERT, TFLITE = LITE[:3], LITE[3:]
MICRO = ("tflite-micro",)
DENSE, CONV, DEPTHWISE = ("FULLY_CONNECTED", ""), ("CONV_2D", "3x3"), ("DEPTHWISE_CONV_2D", "")
TRANSPOSED, MATMUL, LOOKUP = ("TRANSPOSE_CONV", ""), ("BATCH_MATMUL", ""), ("EMBEDDING_LOOKUP", "")
LSTM = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "")

# cell -> the variants that compute it, and those that are silently wrong; the others refuse it or die
SAMPLE: dict[Cell, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Cell(*DENSE, "float", 32, ""): (LITE + MICRO, ()),
    Cell(*DENSE, "dynamic", 8, "per_channel"): (LITE, ()),
    Cell(*DENSE, "dynamic", 4, "blocks"): (LITERT[:2] + TFLITE[:2], (LITERT[2], TFLITE[2])),
    Cell(*DENSE, "dynamic", 2, "per_channel"): (LITE, ()),
    Cell(*DENSE, "dynamic", 2, "blocks"): ((), LITERT[1:] + TFLITE[1:]),
    Cell(*DENSE, "weight_only", 8, "per_tensor"): (LITE + MICRO, ()),
    Cell(*DENSE, "weight_only", 8, "per_channel"): (LITE, MICRO),
    Cell(*DENSE, "weight_only", 4, "blocks"): ((), LITE),
    Cell(*DENSE, "integer8", 4, "per_tensor"): (LITE + MICRO, ()),
    Cell(*DENSE, "integer8", 4, "per_channel"): (LITE, ()),
    Cell(*DENSE, "integer16", 2, "per_channel"): (LITE, ()),
    Cell(*CONV, "dynamic", 8, "per_channel"): (LITE, ()),
    Cell(*CONV, "dynamic", 2, "per_channel"): ((), LITE),
    Cell(*CONV, "integer8", 2, "per_tensor"): ((), TFLITE),
    Cell(*CONV, "integer8", 4, "per_channel"): (LITE + MICRO, ()),
    Cell(*CONV, "integer16", 2, "per_tensor"): ((), LITE),
    Cell("CONV_2D", "1x1", "dynamic", 8, "per_channel"): (LITE, ()),
    Cell("CONV_2D", "grouped", "dynamic", 4, "per_channel"): (LITE, ()),
    Cell(*DEPTHWISE, "integer8", 4, "per_channel"): (LITE + MICRO, ()),
    Cell(*DEPTHWISE, "integer16", 8, "per_channel"): (LITE + MICRO, ()),
    Cell(*DEPTHWISE, "integer16", 4, "per_channel"): ((), LITE),
    Cell(*TRANSPOSED, "integer8", 4, "per_channel"): ((), TFLITE),
    Cell(*TRANSPOSED, "integer8", 8, "per_channel"): (LITE + MICRO, ()),
    Cell(*MATMUL, "integer8", 8, "per_channel"): ((), LITE + MICRO),
    Cell(*MATMUL, "integer16", 8, "per_tensor"): (LITERT, ()),
    Cell(*LOOKUP, "weight_only", 2, "blocks"): (LITERT, ()),
    Cell("DEQUANTIZE", "", "weight_only", 8, "per_channel"): (LITE, MICRO),
    Cell("CONV_3D", "", "weight_only", 4, "per_channel"): (LITE, ()),
    Cell(*LSTM, "dynamic", 8, "per_tensor"): (LITE, MICRO),
    Cell(*LSTM, "dynamic", 8, "per_channel"): ((), LITE + MICRO),
    Cell(*LSTM, "integer8", 8, "per_tensor"): (LITE + MICRO, ()),
    Cell(*LSTM, "integer8", 8, "per_channel"): ((), LITE + MICRO),
}


@pytest.fixture(scope="module")
def measured() -> Mapping[str, Mapping[Cell, Run]]:
    """variant -> cell -> what came of it here."""
    jobs = {cell: job(cell) for cell in SAMPLE}
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda variant: run_jobs(jobs, [variant]), present())
        return {
            v: {cell: runs[v] for cell, runs in by_cell.items()} for v, by_cell in zip(present(), found, strict=True)
        }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_shipped_table_says_what_is_measured_here(variant: str, measured):
    package = VARIANTS[variant].distribution
    if installed().get(package) != load().cells_on[package]:
        pytest.skip(f"the table is of {package} {load().cells_on[package]}, found {installed().get(package, 'none')}")
    shipped = {cell: load().cells[cell][variant] for cell in SAMPLE}
    found = measured[variant]
    assert {c: (run.status, run.delegated) for c, run in found.items()} == {
        c: (run.status, run.delegated) for c, run in shipped.items()
    }


@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_the_shipped_table_knows_what_is_right_and_what_is_silently_wrong(cell: Cell):
    right, wrong = SAMPLE[cell]
    runs = load().cells[cell]
    assert {v for v, run in runs.items() if run.status == "correct"} == set(right)
    assert {v for v, run in runs.items() if run.status == "wrong"} == set(wrong)


def test_the_shipped_table_has_every_cell_on_every_variant():
    assert list(load().cells) == list(CELLS)
    assert all(tuple(runs) == tuple(VARIANTS) for runs in load().cells.values())


def test_times_are_relative_to_the_float_operator():
    for cell, runs in load().cells.items():
        timed = {v for v, run in runs.items() if run.ratio is not None}
        fit = {v for v, run in load().cells[float_cell(cell)].items() if run.status == "correct"}
        assert timed == {v for v, run in runs.items() if run.status == "correct"} & fit
    fast = load().cells[Cell(*DENSE, "dynamic", 8, "per_channel")]["litert"].ratio
    assert fast is not None
    assert fast < 0.5


# ------------------------------------------------------------------------------------- what the probe would notice


def _scales(tensor: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    quantization = tensor.quantization
    assert quantization is not None
    return replace(tensor, quantization=replace(quantization, scale=change(quantization.scale.copy())))


def _one_code(tensor: Tensor) -> Tensor:
    codes = np.array(tensor.data)
    place = np.unravel_index(np.abs(codes).argmax(), codes.shape)
    codes[place] = -codes[place]
    return replace(tensor, data=codes)


def _one_scale(scales: np.ndarray) -> np.ndarray:
    scales[np.unravel_index(scales.argmax(), scales.shape)] *= np.float32(1.1)
    return scales


BREAKS: dict[str, Callable[[Tensor], Tensor]] = {
    "one weight has the other sign": _one_code,
    "one scale is a tenth too large": lambda tensor: _scales(tensor, _one_scale),
    "scales are in the reverse order": lambda tensor: _scales(tensor, lambda scales: scales[::-1]),
    "neighbours are swapped": lambda tensor: replace(
        tensor, data=np.asarray(tensor.data).reshape(-1, 2)[:, ::-1].reshape(tensor.shape)
    ),
}
BROKEN = [
    Cell(*DENSE, "dynamic", 4, "blocks"),
    Cell(*DENSE, "dynamic", 8, "per_channel"),
    Cell(*CONV, "dynamic", 4, "per_channel"),
    Cell(*CONV, "weight_only", 2, "per_channel"),
    Cell(*DEPTHWISE, "integer8", 8, "per_channel"),
    Cell(*TRANSPOSED, "integer16", 8, "per_channel"),
    Cell(*LOOKUP, "weight_only", 4, "per_channel"),
    Cell("CONV_3D", "", "weight_only", 8, "per_channel"),
]


def _broken(cell: Cell, change: Callable[[Tensor], Tensor]) -> Job:
    """The file with another weight than the answer was computed with."""
    form, given = CELLS[cell], job(cell)
    numbers = operands(cell, form)
    graph = cell_graph(cell, form, numbers, answer(cell, form, numbers))
    tensors = tuple(change(tensor) if tensor.name == "w0" else tensor for tensor in graph.main.tensors)
    content = flatbuffer.write(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),)))
    assert content != given.content
    return replace(given, content=content)


def test_a_file_with_other_numbers_is_found_wrong():
    """Each break, in each mode, on the default kernels; unbroken, the same files are right."""
    whole = {cell: job(cell) for cell in BROKEN}
    assert {runs["litert"].status for runs in run_jobs(whole, ["litert"]).values()} == {"correct"}
    for change in BREAKS.values():
        found = run_jobs({cell: _broken(cell, change) for cell in BROKEN}, ["litert"])
        assert {cell: runs["litert"].status for cell, runs in found.items()} == dict.fromkeys(BROKEN, "wrong")


def test_a_file_that_ends_the_process_does_not_spoil_the_others():
    cells = [
        Cell(*DENSE, "dynamic", 8, "per_channel"),
        Cell(*DENSE, "weight_only", 8, "blocks"),
        Cell(*DENSE, "integer8", 8, "per_channel"),
    ]
    steps: list[str] = []
    found = run_jobs({cell: job(cell) for cell in cells}, ["litert"], progress=steps.append)
    assert [found[cell]["litert"].status for cell in cells] == ["correct", "crashes", "correct"]
    assert found[cells[1]]["litert"].message == "SIGSEGV"
    assert steps == ["litert"] * 3


def test_a_file_that_is_none_is_refused():
    cell = Cell(*DENSE, "dynamic", 8, "per_channel")
    (run,) = run_jobs({cell: replace(job(cell), content=b"TFL3" * 9)}, ["litert"])[cell].values()
    assert run.status == "refuses"


EXACT = Answer((np.array([1.0, -2.0]), np.array([1.1, -2.0])), 0.001)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([1.0, -2.0], ""),
        ([1.1, -2.0], ""),
        ([1.0, -2.002], "off by 0.1 % of the largest value"),
        ([1.0, np.nan], "not a number"),
        ([1.0], "shape [1], expected [2]"),
    ],
)
def test_judge(found, problem):
    assert judge(np.array(found, np.float32), EXACT) == problem


def test_a_crash_is_named():
    assert crash(-signal.SIGSEGV) == Run("crashes", "SIGSEGV")
    assert crash(-signal.SIGALRM) == Run("crashes", "no answer in 60 seconds")
    assert crash(70) == Run("crashes", "exit code 70")


@pytest.mark.parametrize(
    ("error", "said", "expected"),
    [
        (
            "the runtime fails on its default kernels: tflite/kernels/conv.cc:384 a != b (2 != 1)Node number 0 "
            "(CONV_2D) failed to prepare.",
            "",
            "conv.cc:384 a != b (2 != 1)",
        ),
        (
            "TFLM failed to allocate tensors",
            "Hybrid models are not supported\nNode X",
            "Hybrid models are not supported",
        ),
        ("", "", "no reason given"),
    ],
)
def test_reasons_are_brief(error, said, expected):
    assert reason(error, said) == expected


def test_blocks_are_stored_with_scales_that_every_kernel_reads_alike():
    cell = Cell(*DENSE, "dynamic", 4, "blocks")
    (weight,) = operands(cell, CELLS[cell]).weights
    assert weight.quantization is not None
    assert weight.quantization.block_size == 32
    assert weight.quantization.scale.shape == (250, 15)
    assert not (weight.quantization.scale.view(np.uint32) & 0xFFFF).any()  # bfloat16


# ------------------------------------------------------------------------------------------------------- the file


def test_a_table_survives_the_file(tmp_path):
    save(load(), tmp_path / "t.json")
    assert load(tmp_path / "t.json") == load()


EMPTY = {"format": 1, "cells_on": {}, "costs_on": {}, "partition_ns": 1.0, "cost": {}, "chains": {}, "cells": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not a kernel table"),
        ("[]", "is not a kernel table"),
        ('{"format": 2}', "expected format 1, found 2"),
        ('{"format": 1, "cells": []}', "missing fields cells_on, chains"),
        (json.dumps(EMPTY | {"cells": [{"op": "ADD"}]}), "cells.0: missing fields bits, form"),
    ],
)
def test_what_is_no_table_is_refused(content, message, tmp_path):
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TfqError, match=message):
        load(path)


# ----------------------------------------------------------------------------------------------- the command line


def _printed(capsys, *arguments: str) -> list[str]:
    with pytest.raises(SystemExit) as stopped:
        main(["kernels", *arguments])
    assert stopped.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_the_command_shows_every_cell(capsys):
    lines = _printed(capsys, "--runtime", "tflite-micro")
    assert "FULLY_CONNECTED" in lines
    rows = [line.split() for line in lines]
    assert ["integer8", "int4", "per-channel", "refuses"] in rows
    assert ["DEQUANTIZE"] in rows
    assert ["weight_only", "int8", "per-channel", "WRONG"] in rows
    modes = {cell.mode for cell in CELLS}
    assert sum(bool(row) and row[0] in modes for row in rows) == len(CELLS)


def test_the_command_measures(capsys, tmp_path, monkeypatch):
    cells = list(CELLS)[:2]
    monkeypatch.setattr(kernels_command, "CELLS", cells)
    monkeypatch.setattr(kernels_command, "probe", lambda *given, **named: probe(*given, cells=cells, **named))
    path = str(tmp_path / "mine.json")
    lines = _printed(capsys, "--probe", "--output", path, "--runtime", "litert")
    mine = load(path)
    assert list(mine.cells) == cells
    assert mine.variants == LITERT
    assert mine.cells_on["ai-edge-litert"] == installed()["ai-edge-litert"]
    assert {run.status for runs in mine.cells.values() for run in runs.values()} == {"correct"}
    assert mine.cost == load().cost
    assert _printed(capsys, "--table", path) == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "t.json"], "give both"),
        (["--probe", "--table", "t.json"], "give one of them"),
        (["--probe", "--output", "no/t.json"], "no folder"),
        (["--table", "no.json"], "no.json cannot be read"),
        (["--runtime", "onnx"], "invalid choice: 'onnx'"),
    ],
)
def test_bad_usage_of_the_command(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["kernels", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
