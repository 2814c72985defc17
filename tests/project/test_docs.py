"""The pages: their Python runs, links lead somewhere, messages and options are those of the code, the site builds."""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from markdown.extensions.toc import slugify

import tfq_fine as tfq

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ALONE = (
    "README.md",
    "docs/index.md",
    "docs/concepts.md",
    *(f"docs/how_to/{p.name}" for p in (DOCS / "how_to").glob("*")),
)
WITH_A_MODEL = (
    "docs/supported.md",
    "docs/transforms.md",
    *(f"docs/migration/{p.name}" for p in (DOCS / "migration").glob("*")),
)
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
FENCE = re.compile(r"^( *)```(\w*).*?\n(.*?)^ *```", re.M | re.S)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of one language on a page, in order."""
    text = (ROOT / page).read_text()
    return [textwrap.dedent(body) for _, name, body in FENCE.findall(text) if name == language]


def example() -> dict[str, Any]:
    """The names that pages which are no programs of their own take for granted."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((9, 7, 3)),
            layers.Conv2D(5, 3, activation="relu", name="stem_conv"),
            layers.Conv2D(70, 1, activation="relu", name="wide"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(6, name="head"),
        ]
    )
    images = np.random.default_rng(0).normal(size=(20, 9, 7, 3)).astype(np.float32)
    return {"model": model, "images": images, "test_images": images}


@pytest.mark.parametrize("page", [*ALONE, *WITH_A_MODEL])
def test_the_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for index, text in enumerate(blocks(page, "json")):
        Path("recipe.json" if index == 0 else f"recipe_{index}.json").write_text(text)
    programs = blocks(page, "python")
    assert programs
    names: dict[str, Any] = {} if page in ALONE else {"tfq": tfq, "np": np} | example()
    for program in programs:
        exec(compile(program, page, "exec"), names)
    if page == "docs/supported.md":
        rows = {row.layer: row for row in names["result"].report.rows if row.code in ("CONV_2D", "FULLY_CONNECTED")}
        assert rows["head"].weights == "int4 blocks of 64" and rows["head"].form == "blockwise"
        assert rows["stem_conv"].mode == "float" and rows["wide"].mode == "integer"


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in PAGES])
def test_other_code_is_python(page: str) -> None:
    for program in blocks(page, "python"):
        ast.parse(program)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


# ------------------------------------------------------------------------------------------------ links


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    return {slugify(re.sub(r"[`*]", "", title), "-") for title in re.findall(r"^#+ (.+)$", text, re.M)}


def dead_links(path: Path, text: str) -> list[str]:
    """The links of a page, not to the web, to files or headings that are not there."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path, path.read_text()) == []


def test_dead_links_would_be_seen() -> None:
    text = "[a](docs/index.md#quickstart) [b](docs/absent.md) [c](docs/index.md#absent) ![d](docs/granularity.svg)"
    assert dead_links(ROOT / "README.md", text) == ["docs/absent.md", "docs/index.md#absent"]


# ------------------------------------------------------------------------------------------------ facts


@cache
def templates() -> str:
    """Every text in the packages, with … for what is filled in, one line each."""
    lines = []
    for folder in (ROOT / "tfq_fine", ROOT / "converters/tfq_converters"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
                    lines.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    lines.append(node.value)
    return "\n".join(" ".join(line.split()) for line in lines)


def messages(text: str) -> list[str]:
    """The messages that a page quotes: the first column of its tables, where that is code."""
    return re.findall(r"^\| `([^|`]*)` \|", text, re.M)


def test_messages_are_those_of_the_code() -> None:
    quoted = messages((DOCS / "troubleshooting.md").read_text())
    assert len(quoted) > 20
    pieces = {message: [piece.strip() for piece in message.split("…") if len(piece.strip()) > 3] for message in quoted}
    assert [m for m, parts in pieces.items() if not parts or not all(part in templates() for part in parts)] == []


def test_every_key_of_a_recipe_is_documented() -> None:
    text = (DOCS / "how_to/recipe_json.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", text, re.M)
    classes = (tfq.Recipe, tfq.Rule, tfq.OpSpec, tfq.WeightSpec, tfq.ActivationSpec)
    assert sorted(documented) == sorted(field.name for each in classes for field in dataclasses.fields(each))
    (recipe,) = blocks("docs/how_to/recipe_json.md", "json")
    assert json.loads(recipe)["name"] == tfq.Recipe.from_json(recipe).name


def test_options_of_litert_quantizer_are_its_own() -> None:
    """Each recipe, granularity and algorithm that it has is on the page, and no other."""
    pytest.importorskip("litert_quantizer")
    from litert_quantizer import qtyping, quantizer, recipe
    from litert_quantizer.algorithm_manager import AlgorithmName

    text = (DOCS / "migration/litert_quantizer.md").read_text()
    recipes = {name for name in vars(recipe) if re.match(r"(dynamic|weight_only|static)_", name)}
    assert set(re.findall(r"^\| `(\w+)\(\)` \|", text, re.M)) == recipes
    named = text.replace("`_64`, `_128`, `_256`", "`BLOCKWISE_64`, `BLOCKWISE_128`, `BLOCKWISE_256`")
    for kind in (qtyping.QuantGranularity, AlgorithmName):
        assert [member.name for member in kind if not re.search(rf"\b{member.name}\b", named)] == []
    methods = re.findall(r"^\| `(\w+)\(", text, re.M)
    assert [
        name for name in methods if not hasattr(quantizer.Quantizer, name) and name not in ("Quantizer", *recipes)
    ] == []


def test_options_of_the_converter_are_its_own() -> None:
    import tensorflow as tf

    text = (DOCS / "migration/tflite_converter.md").read_text()
    converter = tf.lite.TFLiteConverter([])
    cells = " ".join(re.findall(r"^\| ([^|]*) \|", text, re.M))
    names = set(re.findall(r"`(\w+)", cells)) - {"TFLiteConverter"}
    known = {
        *dir(converter),
        *dir(tf.lite),
        *tf.lite.OpsSet.__members__,
        *tf.lite.Optimize.__members__,
        "QuantizationDebugger",
        "QuantizationDebugOptions",
    }
    assert {"inference_input_type", "from_saved_model"} <= names
    assert names - known == set()


# ------------------------------------------------------------------------------------------------ site


def test_the_site_builds(tmp_path: Path) -> None:
    """In strict mode a page that no menu has, a dead link or an unknown name is an error."""
    pytest.importorskip("mkdocs")
    command = [
        sys.executable,
        "-P",
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site/reference/index.html").read_text()
    assert all(f'id="tfq_fine.{name}"' in page for name in tfq.__all__ if not name.startswith("_"))
