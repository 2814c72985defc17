"""Every operator with weights, in every mode, at 8, 4, 2 bits and between, at every granularity, against plain numpy.

A file holds one layer for each cell of an operator, so that one call of `quantize` covers them all.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from keras import layers

import tfq_fine
from support.cell_checks import asked_of, may_get_less, problems, sheets
from support.cells import KINDS, Cell, Kind, cells, inputs, model_and_recipe
from tfq_converters.check import comparison
from tfq_converters.errors import TfqError
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.runtime.runner import Runner
from tfq_fine.request.specs import ActivationSpec


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_possible_cell(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    difference = comparison._difference

    def recorded(quantized: QuantizedGraph, o: int, *given: Any) -> str:
        op = quantized.graph.main.ops[o]
        judged.extend([op.layer] if op.code == kind.code else [])
        return difference(quantized, o, *given)

    monkeypatch.setattr(comparison, "_difference", recorded)
    wanted = [cell for cell in cells(kind) if asked_of(kind, cell)[1].works or _is_comparable(cell)]
    found = [wrong for sheet in sheets(kind, wanted) for _, wrong in problems(sheet)]
    assert not found, "\n".join(found)
    unseen = {cell.name for cell in wanted} - {name for name, times in Counter(judged).items() if times == 2}
    assert not unseen, "the run check skipped some on the default or the other kernels"


def _is_comparable(cell: Cell) -> bool:
    """Whether a cell that gets another mode is: in int16, a QUANTIZE after it clips what calibration did not see."""
    return may_get_less(cell) and cell.spec.activations != ActivationSpec(16)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_impossible_cell_is_refused(kind: Kind) -> None:
    """One error lists all of them, each with its layer, its reason and what would work."""
    answers = {cell: asked_of(kind, cell)[1] for cell in cells(kind)}
    refused = {cell: a.note for cell, a in answers.items() if not a.works and not may_get_less(cell)}
    if not refused:
        return
    content, recipe = model_and_recipe(kind, list(refused))
    with pytest.raises(TfqError) as error:
        tfq_fine.quantize(content, recipe, data=inputs(kind, 1), prefer="size", transforms=None)
    lines = str(error.value).splitlines()[1:] or [str(error.value)]
    assert len(lines) == len(refused)
    for cell, line in zip(refused, lines, strict=True):
        assert f"{cell.name} ({kind.code}): " in line
        assert "; nearest: " in line


SINGLE = {
    "dense": lambda: layers.Dense(1, "relu"),
    "conv": lambda: layers.Conv2D(1, 3, padding="same"),
    "pointwise": lambda: layers.Conv2D(1, 1),
    "transposed": lambda: layers.Conv2DTranspose(1, 3, strides=2, padding="same"),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_layer_of_one_channel(name: str) -> None:
    """One scale per channel is one scale, which kernels and versions must not take for one per tensor."""
    kind = replace(next(kind for kind in KINDS if kind.name == name), layer=SINGLE[name])
    possible = [cell for cell in cells(kind) if asked_of(kind, cell)[1].works]
    content, recipe = model_and_recipe(kind, possible)
    result = tfq_fine.quantize(content, recipe, data=inputs(kind, 4), prefer="size", transforms=None)
    assert all(row.mode != "float" for row in result.report.rows if row.layer in {cell.name for cell in possible})


@pytest.mark.parametrize("depth", [35, 36])
def test_tables_whose_rows_end_within_a_byte(depth: int) -> None:
    """Ids of two unknown dimensions: their table is gathered from, and dequantized then, or before."""
    kind = replace(KINDS[-2], shape=(None,), layer=lambda: layers.Embedding(13, depth), inputs_of=depth)
    possible = [cell for cell in cells(kind) if cell.spec.mode == "dynamic"]
    content, recipe = model_and_recipe(kind, possible)
    ids = np.random.default_rng(0).integers(0, 13, (3, 7)).astype(np.int32)
    result = tfq_fine.quantize(content, recipe, data=ids, prefer="size", transforms=None)
    tables = [encoding.weights[0] for encoding in result.quantized.ops.values() if encoding.weights]
    for table, y in zip(tables, Runner(result.content, "reference").run([ids]), strict=True):
        np.testing.assert_allclose(y, table.dequantize()[ids], rtol=1e-6)  # float32 products
