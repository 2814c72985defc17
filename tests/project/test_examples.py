"""The examples: every recipe gives digits.py a file that classifies as well, and demo.py shows what 4 bits save."""

import ast
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tfq_fine as tfq
from examples import demo as demo_program
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
def example(tmp_path_factory, conversions_once):
    """The rows and the folder of one short run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "output"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("rich.console.Console.print", lambda self, *objects, **_: printed.extend(objects))
        rows = main(folder, epochs=3)
    return rows, folder, printed


@pytest.fixture(scope="module")
def rows(example) -> dict[str, Row]:
    return {row.recipe: row for row in example[0]}


def test_every_recipe_has_a_row(example):
    assert [row.recipe for row in example[0]] == list(tfq.RECIPES)


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
def test_files_are_written(example, rows, recipe):
    _, folder, _ = example
    file = folder / f"{recipe}.tflite"
    assert file.stat().st_size == rows[recipe].bytes
    Runner(str(file))
    page = (folder / f"{recipe}.html").read_text()
    assert "Layers, in graph order" in page and "Bytes of constants" in page


def test_numbers_are_saved(example):
    saved_rows, folder, _ = example
    saved = json.loads((folder / "numbers.json").read_text())
    assert saved["samples"] == TEST
    assert [Row(**numbers) for numbers in saved["recipes"]] == saved_rows
    assert not any(math.isnan(value) for row in saved["recipes"] for value in row.values() if isinstance(value, float))


def test_the_table_is_printed(example):
    _, folder, printed = example
    (table,) = (part for part in printed if not isinstance(part, str))
    recipes = [cell.rstrip(" *") for cell in table.columns[0].cells]
    assert recipes == ["float32", *tfq.RECIPES]
    assert any(str(folder) in part for part in printed if isinstance(part, str))


def test_the_demo_shows_what_4_bits_save(tmp_path, monkeypatch, capsys):
    """Fewer epochs and steps than `make demo`; the last line is a link to a page that is there."""
    steps = [step for step in demo_program.STEPS if step.name in ("full_int8", "w4_fitted")]
    monkeypatch.setattr(demo_program, "STEPS", steps)
    eight, four = demo_program.main(tmp_path / "output", epochs=3)
    assert four.bytes < 0.7 * eight.bytes  # 94 of 153 KB: the stem and the depthwise kernels keep 8 bits
    assert eight.float_top1 > LEARNED and abs(four.drop) < 0.05
    assert four.sqnr_db > 20 and four.latency_ratio < 1.0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.endswith((tmp_path / "output/w4_fitted.html").as_uri())
    assert "Layers, in graph order" in (tmp_path / "output/w4_fitted.html").read_text()


@pytest.mark.parametrize("path", sorted(Path(demo_program.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_an_example_imports_only_what_users_have(path):
    """Public names of tfq_fine and other examples: neither the benchmarks nor the converters."""
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {name.split(".")[0] for name in names} & {"benchmarks", "tests", "support", "tfq_converters"}
    assert not {name for name in names if name.startswith("tfq_fine.")}


def test_examples_run_where_only_the_packages_are(tmp_path):
    """All of them load from a copy of their folder, next to copies of the packages, as a wheel unpacks them."""
    root = Path(demo_program.__file__).parents[1]
    shutil.copytree(root / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/tfq_fine").symlink_to(root / "tfq_fine")
    (tmp_path / "site/tfq_converters").symlink_to(root / "converters/tfq_converters")
    code = f"""
import runpy, sys
for name in {sorted(path.name for path in (root / "examples").glob("*.py"))}:
    runpy.run_path("examples/" + name, run_name="loaded")
assert "benchmarks" not in sys.modules and sys.modules["examples.shown"].__file__.startswith({str(tmp_path)!r})
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
