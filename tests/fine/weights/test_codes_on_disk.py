"""Fitted codes on disk: the same file with and without them, and what makes them those of another job."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import small_cnn
from tfq_converters import flatbuffer
from tfq_fine.algorithms import Solution
from tfq_fine.weights import codes_on_disk, reconstruct, solving

CONTENT = flatbuffer.write(small_cnn())
DATA = np.random.default_rng(5).normal(size=(23, *small_cnn().main.tensors[small_cnn().main.inputs[0]].shape[1:]))
LAYERS = 3  # of the small CNN, with weights


def quantized(folder: Path | None, data: Any = DATA, quality: Any = "balanced", bits: int = 4, **options: Any) -> Any:
    recipe = tfq.Recipe("w", tfq.OpSpec("integer", tfq.WeightSpec(bits), tfq.ActivationSpec(8)), flexible=True)
    samples = data.astype(np.float32)
    return tfq.quantize(
        CONTENT, recipe, samples, quality=quality, prefer="size", transforms=None, cache_dir=folder, **options
    )


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the weights that were fitted, in order, since they were on no disk."""
    shapes, real = [], solving.solution

    def recorded(spec: Any, problem: Any) -> Solution:
        if problem.inputs.values is not None:
            shapes.append(problem.weight.shape)
        return real(spec, problem)

    monkeypatch.setattr(solving, "solution", recorded)
    return shapes


def test_the_second_run_fits_nothing_and_gives_the_same_file(tmp_path: Path, fitted: list[tuple[int, ...]]):
    alone = quantized(None)
    first = quantized(tmp_path / "new" / "folder")
    assert len(fitted) == 2 * LAYERS
    second = quantized(tmp_path / "new" / "folder")
    assert len(fitted) == 2 * LAYERS
    assert alone.content == first.content == second.content
    assert [row.algorithm for row in first.report.rows] == [row.algorithm for row in second.report.rows]


def test_other_settings_and_other_data_are_other_entries(tmp_path: Path, fitted: list[tuple[int, ...]]):
    quantized(tmp_path)
    for changes in ({"bits": 3}, {"data": DATA[:-3]}, {"data": DATA * 1.001}):
        before = len(fitted)
        quantized(tmp_path, **changes)
        assert len(fitted) == before + LAYERS, changes


def test_a_layer_after_a_changed_one_is_fitted_anew(tmp_path: Path, fitted: list[tuple[int, ...]]):
    """The inputs of the first layers are the same: their codes are found."""
    recipe = tfq.RECIPES["weight_only_int4"]
    options = {"data": DATA.astype(np.float32), "transforms": None, "cache_dir": tmp_path, "prefer": "size"}
    tfq.quantize(CONTENT, recipe, **options)
    assert len(fitted) == LAYERS
    changed = recipe.with_rules(tfq.Rule(tfq.OpSpec("weight_only", tfq.WeightSpec(2)), op="DEPTHWISE_CONV_2D"))
    tfq.quantize(CONTENT, changed, **options)
    codes = [op.code for op in small_cnn().main.ops if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert len(fitted) == LAYERS + LAYERS - codes.index("DEPTHWISE_CONV_2D")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive", None])
def test_entries_that_cannot_be_read_are_replaced_and_reported(tmp_path: Path, content: bytes | None):
    expected = quantized(tmp_path).content
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 3] ^= 0xFF
        path.write_bytes(bytes(damaged) if content is None else content)
    again = quantized(tmp_path)
    assert again.content == expected
    assert sum("cannot be read, and its content was computed anew" in note for note in again.report.notes) == LAYERS
    assert not any("cannot be read" in note for note in quantized(tmp_path).report.notes)


def test_after_an_interrupt_the_second_run_goes_on(
    tmp_path: Path, fitted: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
):
    counted = solving.solution

    def interrupted(spec: Any, problem: Any) -> Solution:
        solved: Solution = counted(spec, problem)
        if problem.inputs.values is not None and len(fitted) == LAYERS - 1:
            raise KeyboardInterrupt
        return solved

    with monkeypatch.context() as patch:
        patch.setattr(solving, "solution", interrupted)
        first = quantized(tmp_path)
    assert any("interrupted" in row.algorithm for row in first.report.rows)
    assert len(list(tmp_path.iterdir())) == LAYERS - 2
    fitted.clear()
    second = quantized(tmp_path)
    assert len(fitted) == 2  # the one that was interrupted, and the last one
    assert second.content == quantized(None).content != first.content


def test_what_was_used_least_recently_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    quantized(tmp_path)
    sizes = {path: path.stat().st_size for path in tmp_path.iterdir()}
    oldest, *others = sizes
    for n, path in enumerate(sizes):
        os.utime(path, ns=(n, n))
    quantized(tmp_path)  # which uses them all
    os.utime(oldest, ns=(1, 1))
    monkeypatch.setattr(codes_on_disk, "MOST_BYTES", sum(sizes.values()))
    cache = codes_on_disk.CodesOnDisk(tmp_path)
    some = np.zeros((2, 3), np.int8)
    codes = codes_on_disk.WeightCodes(some, np.ones((2, 1), np.float32), np.zeros((2, 1), np.int64), 4, (1, 3))
    cache.keep("another", codes_on_disk.arrays_of(codes_on_disk.FittedCodes(codes, "by hand", None)))
    assert set(tmp_path.iterdir()) == {*others, tmp_path / "another.codes.npz"}
    assert cache.taken_notes() == []


def test_what_gradients_learn_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Codes and biases of blocks, which take the most time."""
    recipe = tfq.RECIPES["weight_only_int2"].with_algorithm("reconstruct:steps=100")
    blocks, real = list[Any](), reconstruct.learned

    def recorded(subgraph: Any, block: Any, *others: Any) -> Any:
        blocks.append(block)
        return real(subgraph, block, *others)

    def made(folder: Path | None, data: Any = DATA) -> Any:
        samples = data.astype(np.float32)
        return tfq.quantize(CONTENT, recipe, samples, prefer="size", transforms=None, cache_dir=folder)

    alone = made(None)
    monkeypatch.setattr(reconstruct, "learned", recorded)
    first, count = made(tmp_path), len(blocks)
    second = made(tmp_path)
    assert 0 < count == len(blocks)
    assert alone.content == first.content == second.content
    assert any("reconstructed" in row.algorithm for row in second.report.rows)
    made(tmp_path, DATA[:5])
    assert len(blocks) == 2 * count


def test_a_folder_that_cannot_be_one_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(tfq.TfqError, match=r"cache_dir=.*file.* cannot be a folder"):
        quantized(tmp_path / "file")


def test_a_folder_that_cannot_be_written_costs_no_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise tfq.TfqError("no space is left")

    monkeypatch.setattr(codes_on_disk, "write_file", full)
    result = quantized(tmp_path)
    assert sum("no space is left" in note for note in result.report.notes) == 1
    assert result.content == quantized(None).content
