"""The distance of `simulate` from the file that it simulates, for every recipe and three trained models.

`python -m benchmarks.parity --output parity.json` writes its table as Markdown next to the JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import tfq_fine as tfq
from benchmarks.tables import Table
from benchmarks.zoo import CASES
from tfq_converters.runtime import Runner
from tfq_fine.numerics import ErrorSums

MODELS = ("resnet8", "efficientnet_lite0_cifar10", "text_transformer")


def parity(case: Any, recipe: str, samples: int) -> dict[str, float]:
    """Return {"same top-1": share, "sqnr_db": of the outputs, "equal": share of outputs that are equal bit for bit}."""
    result = tfq.quantize(case.model, recipe, data=case.calibration)
    data = case.test[:samples]
    simulated = tfq.simulate(case.model, result).predict(data, batch_size=50, verbose=0)
    runner = Runner(result.content)
    expected = np.concatenate([runner.run([sample[None]])[0] for sample in data])
    return {
        "same top-1": float(np.mean(simulated.argmax(-1) == expected.argmax(-1))),
        "sqnr_db": ErrorSums.of(expected, simulated).sqnr_db,
        "equal": float(np.mean(simulated == expected)),
    }


def table(rows: dict[str, dict[str, dict[str, float]]]) -> Table:
    """Recipes down, models across."""
    models = list(next(iter(rows.values())))
    cells = tuple((recipe, *(_cell(by_model[model]) for model in models)) for recipe, by_model in rows.items())
    return Table("simulate compared with the file", ("recipe", *models), cells, labels=1)


def _cell(found: dict[str, float]) -> str:
    equal = "equal" if found["equal"] == 1 else f"{found['sqnr_db']:.0f}"
    return equal if found["same top-1"] >= 0.995 else f"{equal} (top-1 {100 * found['same top-1']:.1f} %)"


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("parity.json"))
    parser.add_argument("--cases", nargs="+", default=MODELS, choices=list(CASES))
    parser.add_argument("--recipes", nargs="+", default=list(tfq.RECIPES))
    parser.add_argument("--test", type=int, default=200, help="samples")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, dict[str, float]]] = {recipe: {} for recipe in arguments.recipes}
    for name in arguments.cases:
        case = CASES[name]()
        for recipe in arguments.recipes:
            rows[recipe][name] = parity(case, recipe, arguments.test)
            print(name, recipe, rows[recipe][name], flush=True)
    arguments.output.write_text(json.dumps(rows, indent=1))
    arguments.output.with_suffix(".md").write_text(table(rows).markdown())
    table(rows).show()


if __name__ == "__main__":
    run()
