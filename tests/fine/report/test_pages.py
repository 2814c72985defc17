"""Pages in a real browser: nothing overflows or is logged, axe-core objects to nothing, tables sort and filter."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.browser import browser, show, violations
from tfq_fine.report import (
    FileSize,
    Latency,
    LayerError,
    Lines,
    OpRow,
    OutputError,
    OutputVerdict,
    Provenance,
    QuantizationReport,
    Report,
    SideBySide,
    TaskResult,
    TransformRow,
    Verdict,
    page,
)
from tfq_fine.report.activations import ActivationRow

pytest.importorskip("matplotlib")
COUNT = 150  # layers
LONG = "efficientnet_lite0/blocks_{k}_expand_conv/batch_normalization_{k}/FusedBatchNormV3;StatefulPartitionedCall:{k}"
RANDOM = np.random.default_rng(4)


def _layers():
    for k in range(COUNT):
        own = float(RANDOM.uniform(20, 60))
        reached = math.nan if k == 7 else math.inf if k == 8 else own - float(RANDOM.uniform(0, 20))
        yield LayerError(LONG.format(k=k), f"blocks_{k}_conv", "CONV_2D", "int8", reached, 0.5, own, own + 3 * (k % 4))


def _activations():
    for k in range(COUNT):
        shares = RANDOM.dirichlet(np.full(64, 0.1))
        yield ActivationRow(LONG.format(k=k), "auto", -3.5, 7.25, -2.0, 5.0 + k / 100, tuple(shares.tolist()))


LAYERS = tuple(_layers())
OPS = tuple(
    OpRow(
        LONG.format(k=k),
        f"blocks_{k}_conv",
        "CONV_2D",
        "integer",
        f"int{4 + 4 * (k % 2)} per-channel",
        "int8",
        "no fast kernel",
        40.0,
        4000,
        1000,
    )
    for k in range(COUNT)
)
ORIGIN = Provenance(
    "models/" + "a_long_folder_name/" * 6 + "model.keras",
    "photos.npz",
    "2026-11-30T12:00:00+00:00",
    {"tfq_fine": "0.1.0"},
    "tfq-fine quantize " + "--option value " * 20,
)
QUANTIZATION = QuantizationReport(
    OPS,
    "full_w4a8",
    1_234_567,
    9_876_543,
    ("made at batch 1",),
    activations=tuple(_activations()),
    transforms=(TransformRow("cross_layer", True, "two layers " * 20, 18.5, 24.5, 64),),
    verdict=Verdict((OutputVerdict("scores", 28.5, 0.953125),), 64),
    layers=LAYERS,
    warnings=("a sample is unlike the others",),
    provenance=ORIGIN,
)
VERIFICATION = Report(
    64,
    (OutputError("scores", 41.25, 0.0125, 0.99, 0.98, 1.0, 2),),
    FileSize(9_876_543, {"float32": 9_000_000}),
    FileSize(1_234_567, {"int8": 1_000_000, "int4": 200_000}),
    TaskResult("top1", 0.9, 0.89, 0.01, drop_low=-0.01, drop_high=0.03, samples=64),
    LAYERS,
    LAYERS[:9],
    8,
    Latency(1.5, 0.6, 0.4, 301, 1, 2),
    provenance=ORIGIN,
    max_drop="1%",
)


def _save_lines(place: Path) -> None:
    lines = Lines(
        "Error against size",
        ("size, %", "SQNR, dB"),
        {"<8> bits": [(25, 40), (27, 44)], "4 bits": [(14, 20)]},
        "What it shows.",
    )
    place.write_text(page("A figure", [lines]))


PAGES = {
    "quantization": QUANTIZATION.save_html,
    "verification": VERIFICATION.save_html,
    "compared": SideBySide(VERIFICATION, dataclasses.replace(VERIFICATION, layers=LAYERS[5:])).save_html,
    "figure": _save_lines,
}


@pytest.fixture(scope="module")
def driver():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pages")
    for name, save in PAGES.items():
        save(place / f"{name}.html")
    return place


def test_pages_of_150_layers_are_small(folder):
    assert max(path.stat().st_size for path in folder.iterdir()) < 1.5e6


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_and_everyone_can_use_them(driver: Any, folder, name, width, scheme):
    driver.get_log("browser")
    show(driver, folder / f"{name}.html", width, scheme)
    assert driver.execute_script("return innerWidth") == width
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    assert violations(driver) == []
    assert driver.get_log("browser") == []
    # No cell that is shown is so narrow that words break between letters.
    narrow = (
        "return [...document.querySelectorAll('td, th')].filter((c) => c.offsetParent && c.clientWidth < 20).length"
    )
    assert driver.execute_script(narrow) == 0


def _cells(driver: Any, column: int) -> list[str]:
    script = """const rows = [...document.querySelectorAll('table.sortable')[0].tBodies[0].rows];
        return rows.filter((row) => !row.hidden).map((row) => row.cells[arguments[0]].innerText.trim())"""
    return driver.execute_script(script, column)


def _click(driver: Any, column: int) -> None:
    driver.execute_script(
        "document.querySelectorAll('table.sortable')[0].tHead.rows[0].cells[arguments[0]].querySelector('button').click()",
        column,
    )


def test_tables_sort_by_number_and_go_back(driver: Any, folder):
    show(driver, folder / "quantization.html", 1280, "light")
    before = _cells(driver, 0)
    _click(driver, 1)
    values = _cells(driver, 1)
    numbers = [float(value) for value in values if value not in ("exact", "nan")]
    assert numbers == sorted(numbers)
    assert (values[0], values[-1]) == ("nan", "exact")  # NaN is the worst, equal the best
    heading = driver.execute_script(
        "return document.querySelectorAll('table.sortable thead th')[1].getAttribute('aria-sort')"
    )
    assert heading == "ascending"
    _click(driver, 1)
    assert _cells(driver, 1)[0] == "exact"
    _click(driver, 1)
    assert _cells(driver, 0) == before == [f"blocks_{k}_conv" for k in range(COUNT)]


def test_tables_filter_by_text(driver: Any, folder):
    show(driver, folder / "quantization.html", 1280, "light")
    field = driver.find_element("css selector", "input[type=search]")
    field.send_keys("BLOCKS_14")
    assert _cells(driver, 0) == [f"blocks_{k}_conv" for k in (14, *range(140, 150))]
    count = driver.find_element("css selector", "[data-count]").text
    assert count == "11 of 150 rows"


def test_the_head_of_a_table_stays_in_sight(driver: Any, folder):
    show(driver, folder / "quantization.html", 1280, "light")
    script = """const table = document.querySelector('.scroll'), head = table.querySelector('thead th');
        table.scrollTop = 2000;
        return [head, table].map((part) => part.getBoundingClientRect().top)"""
    head, table = driver.execute_script(script)
    assert abs(head - table) <= 2  # the border


def test_rules_are_copied(driver: Any, folder):
    show(driver, folder / "quantization.html", 1280, "light")
    button = driver.find_element("css selector", "button.copy")
    assert button.get_attribute("data-copy").startswith("tfq.Rule(")
    driver.execute_script("arguments[0].click()", button)
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    wait(driver, 5).until(lambda _: button.text in ("Copied", "Selected"))
