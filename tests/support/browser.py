"""A headless Chromium for tests of pages, and axe-core, which finds what people with aids cannot use.

Both are programs that pip does not install; `.ci/run` installs them. Where they are missing, the tests that need them
are skipped.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AXE = Path(os.environ.get("TFQ_AXE", ROOT / ".browser")) / "node_modules/axe-core/axe.min.js"
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a Selenium driver of Chromium; skip the test where there is none."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("needs chromium and chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        yield opened
    finally:
        opened.quit()


def show(driver: Any, page: Path, width: int, scheme: str) -> None:
    """Open a page in a window of that width in pixels, in the "light" or the "dark" scheme."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(page.as_uri())


def violations(driver: Any) -> list[str]:
    """Return what axe-core objects to on the page that is shown; skip the test where it is not installed."""
    if not AXE.exists():
        pytest.skip("needs axe-core")
    driver.execute_script(AXE.read_text())
    found = driver.execute_async_script(
        "const done = arguments[0]; axe.run().then((r) => done(JSON.stringify(r.violations)))"
    )
    return [f"{item['id']}: {item['nodes'][0]['html'][:200]}" for item in json.loads(found)]
