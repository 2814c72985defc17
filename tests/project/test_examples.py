"""The digits example from end to end: every recipe yields a file that classifies about as well as the float model."""

import json
import math

import pytest

import tfq_fine as tfq
from examples.digits import TEST, main
from examples.shown import Row
from tfq_converters.runtime.runner import Runner


def _bits(recipe: str) -> str:
    """Bits of the weights, by the recipe's name."""
    return next((bits for bits in "842" if f"int{bits}" in recipe or f"w{bits}" in recipe or f"x{bits}" in recipe), "8")


# A point is 5 of the 500 images. int8 activations move some that lie between two classes, weights alone hardly any.
# 2 bits may leave nothing of a network that is not trained for them.
POINTS = {
    recipe: 0.5 if recipe == "float16" else 100 if "2" in _bits(recipe) else 10 if "4" in _bits(recipe) else 3
    for recipe in tfq.RECIPES
}
# Random guesses are right one time in ten; three epochs give about nine in ten.
LEARNED = 0.7


@pytest.fixture(scope="module")
def demo(tmp_path_factory, conversions_once):
    """The rows and the folder of one short run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "output"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("rich.console.Console.print", lambda self, *objects, **_: printed.extend(objects))
        rows = main(folder, epochs=3)
    return rows, folder, printed


@pytest.fixture(scope="module")
def rows(demo) -> dict[str, Row]:
    return {row.recipe: row for row in demo[0]}


def test_every_recipe_has_a_row(demo):
    assert [row.recipe for row in demo[0]] == list(tfq.RECIPES)


@pytest.mark.parametrize("recipe", POINTS)
def test_numbers_are_sane(rows, recipe):
    row = rows[recipe]
    assert row.float_top1 > LEARNED
    assert abs(row.drop) <= POINTS[recipe] / 100
    assert row.drop == pytest.approx(row.float_top1 - row.top1)
    # 8 bits over a range give about 50 dB for one tensor; five layers of them stay above 20; a bit less is 6 dB
    assert row.sqnr_db > (60 if recipe == "float16" else {"8": 20, "4": 5, "2": -20}[_bits(recipe)])
    assert row.bytes < (0.6 if recipe == "float16" else 0.4) * row.float_bytes
    assert row.latency_ms > 0 and row.latency_ratio == pytest.approx(row.latency_ms / row.float_ms)


@pytest.mark.parametrize("recipe", POINTS)
def test_files_are_written(demo, rows, recipe):
    _, folder, _ = demo
    file = folder / f"{recipe}.tflite"
    assert file.stat().st_size == rows[recipe].bytes
    Runner(str(file))
    page = (folder / f"{recipe}.html").read_text()
    assert "Layers, in graph order" in page and "Bytes of constants" in page


def test_numbers_are_saved(demo):
    saved_rows, folder, _ = demo
    saved = json.loads((folder / "numbers.json").read_text())
    assert saved["samples"] == TEST
    assert [Row(**numbers) for numbers in saved["recipes"]] == saved_rows
    assert not any(math.isnan(value) for row in saved["recipes"] for value in row.values() if isinstance(value, float))


def test_the_table_is_printed(demo):
    _, folder, printed = demo
    (table,) = (part for part in printed if not isinstance(part, str))
    recipes = [cell.rstrip(" *") for cell in table.columns[0].cells]
    assert recipes == ["float32", *tfq.RECIPES]
    assert any(str(folder) in part for part in printed if isinstance(part, str))
