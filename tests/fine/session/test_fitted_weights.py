"""Which of the files with fitted weights is handed over."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tfq_converters.quantized import OpEncoding
from tfq_fine.request import OpSpec, WeightSpec
from tfq_fine.variants.fitting import with_fitted_weights
from tfq_fine.variants.variant import Variant


@dataclass
class Measured:
    db: float
    problem: str = ""


class Trial:
    """Knows the decibels of variants: without fitted weights, fitted by "best", by "balanced"."""

    samples = (1, 2, 3)

    def __init__(self, plain: float, best: float, balanced: float, how: str = "comq") -> None:
        self.decibels, self.how = {"plain": plain, "best": best, "balanced": balanced}, how
        self.asked: list[str] = []
        self.is_apart = False

    def on_all_apart(self) -> "Trial":
        self.is_apart = True
        return self

    def measured(self, variant: Variant) -> Measured:
        assert self.is_apart  # weights are fitted to some of the samples that other variants are tried on
        name = variant.requested[0, 0].weights.algorithm if variant.fitted else "plain"  # type: ignore[union-attr]
        self.asked.append(name)
        return Measured(self.decibels[name])

    def numbers(self, variant: Variant) -> Any:
        ops = {(0, 0): OpEncoding("weight_only", algorithm=self.how)}
        return type("Numbers", (), {"quantized": type("Quantized", (), {"ops": ops})})


VARIANT = Variant(None, {(0, 0): OpSpec("weight_only", WeightSpec(4, algorithm="best")), (0, 1): None})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decibels", "chosen"),
    [
        ((10, 20, 15), "best"),
        ((10, 20, 21), "balanced"),
        ((10, 20, 20), "best"),
        ((30, 20, 21), "plain"),
        ((10, np.nan, 12), "balanced"),
        ((10, np.nan, np.nan), "plain"),
    ],
)
def test_the_best_file_is_taken(decibels: tuple[float, float, float], chosen: str) -> None:
    found, row = with_fitted_weights(VARIANT, Trial(*decibels))  # type: ignore[arg-type]
    algorithm = found.requested[0, 0].weights.algorithm  # type: ignore[union-attr]
    assert (algorithm if found.fitted else "plain") == chosen
    assert row.applied == (chosen != "plain")
    if chosen != "plain":
        assert f"'best' {decibels[1]:.1f} dB, 'balanced' {decibels[2]:.1f} dB" in row.text


def test_after_an_interruption_nothing_else_is_fitted() -> None:
    trial = Trial(10, 20, 30, "mse_clip: interrupted")
    found, _ = with_fitted_weights(VARIANT, trial)  # type: ignore[arg-type]
    assert found.fitted and "balanced" not in trial.asked
