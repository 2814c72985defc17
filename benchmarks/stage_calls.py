"""How often each stage computes during one `full_int8`, and how long: `python -m benchmarks.stage_calls [MODEL ...]`.

The functions that compute are wrapped wherever a module has imported them. A stage that passes its value on computes
once for a graph, a plan or a variant; a count that grows with the number of variants is work done again.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from benchmarks.tables import Table
from tfq_fine import quantize

MODELS = ("convolutions", "resnet8", "small_mobilenet_v2", "attention")
# stage -> (module, function) that computes, where another one hands on what it made
STAGES: Mapping[str, tuple[str, str]] = {
    "plan": ("tfq_fine.planning.plan", "make_plan"),
    "moved_from": ("tfq_fine.calibration.instrument", "_moved_from"),
    "requested_specs": ("tfq_fine.activations.observed_ranges", "_requested_specs"),
    "calibrate": ("tfq_fine.calibration.run", "calibrate"),
    "instrumented": ("tfq_fine.calibration.instrument", "instrumented"),
    "ranges": ("tfq_fine.activations.search_ranges", "ranged"),
    "numbers": ("tfq_fine.variants.numbers", "choose_numbers"),
    "place": ("tfq_fine.placement.float_islands", "place"),
    "bounded": ("tfq_fine.activations.attention_masks", "bounded"),
    "encodings": ("tfq_fine.activations.choose_encodings", "encodings"),
    "groups": ("tfq_fine.activations.choose_encodings", "_groups"),
    "quantize": ("tfq_fine.weights.assembly", "quantize"),
    "solve": ("tfq_fine.algorithms.table", "solution"),
    "realize": ("tfq_converters.realize.realized", "realize"),
}


@dataclass
class Stage:
    """The calls and seconds of one stage so far."""

    calls: int = 0
    seconds: float = 0.0  # CPU seconds of this process, with what the stage calls itself
    depth: int = 0


@contextmanager
def counted(stages: Mapping[str, tuple[str, str]] = STAGES) -> Iterator[dict[str, Stage]]:
    """Count the calls of functions, given as (module, name), while the block runs."""
    importlib.import_module("tfq_fine.api")
    counts, replaced = {}, []
    for label, (module, name) in stages.items():
        function = getattr(importlib.import_module(module), name)
        counts[label] = Stage()
        wrapped = _counting(function, counts[label])
        for other in list(sys.modules.values()):
            if other.__name__.partition(".")[0] in ("tfq_fine", "tfq_converters"):
                for attribute in [key for key, value in vars(other).items() if value is function]:
                    setattr(other, attribute, wrapped)
                    replaced.append((other, attribute, function))
    try:
        yield counts
    finally:
        for other, attribute, function in replaced:
            setattr(other, attribute, function)


def _counting(function: Callable[..., Any], stage: Stage) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        stage.calls, stage.depth = stage.calls + 1, stage.depth + 1
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            stage.depth -= 1
            if not stage.depth:
                stage.seconds += time.process_time() - start

    return call


def measured(model: str) -> tuple[dict[str, Stage], float]:
    """Return (the stages of one `full_int8` of a model, CPU seconds of all of it in this process)."""
    from benchmarks.same_files import SAMPLES, case_of

    case = case_of(model)
    quantize(case.model, "full_int8", case.calibration[:SAMPLES], progress=False)  # all that is loaded once is loaded
    with counted() as counts:
        start = time.process_time()
        quantize(case.model, "full_int8", case.calibration[:SAMPLES], progress=False)
        return counts, time.process_time() - start


def table(counts: Mapping[str, Mapping[str, Stage]], seconds: Mapping[str, float]) -> Table:
    """Calls and milliseconds of every stage, by model."""
    labels = next(iter(counts.values()))
    rows = [
        (label, *(f"{counts[model][label].calls}x {counts[model][label].seconds * 1000:.0f}" for model in counts))
        for label in labels
    ]
    rows.append(("all of it", *(f"{seconds[model] * 1000:.0f}" for model in counts)))
    notes = ("Calls, and CPU milliseconds of this process; a stage's include those of the stages that it calls.",)
    return Table("Stages of one full_int8", ("stage", *counts), tuple(rows), notes, labels=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"default: {' '.join(MODELS)}")
    results = {model: measured(model) for model in parser.parse_args().models}
    table({m: counts for m, (counts, _) in results.items()}, {m: total for m, (_, total) in results.items()}).show()


if __name__ == "__main__":
    main()
