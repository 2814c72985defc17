"""Weights that are fitted to what earlier operators compute: whether the file is better than with stand-ins."""

from dataclasses import replace

import numpy as np

from tfq_fine.report import TransformRow
from tfq_fine.request import WeightedSpec
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import RequestedSpecs, Variant

NAME = "fitted_weights"  # in the report
THOROUGH, USUAL = "best", "balanced"  # algorithms
FITTED = "weights are fitted, layer by layer, to what the quantized layers before them compute"


def with_fitted_weights(variant: Variant, trial: Trial) -> tuple[Variant, TransformRow]:
    """Return (the variant with fitted weights, unless its file is worse on samples kept apart; a line on it).

    What "best" finds may suit new samples less than what "balanced" finds: its file is tried, too.
    """
    trial = trial.on_all_apart()
    after = replace(variant, fitted=True)
    usual = None if _is_interrupted(after, trial) else _as_usual(variant.requested)
    candidates = [after] if usual is None else [after, replace(after, requested=usual)]
    before_db, count = trial.measured(variant).db, len(trial.samples)
    problems = [trial.measured(each).problem for each in candidates]
    decibels = [-np.inf if trial.measured(each).problem else trial.measured(each).db for each in candidates]
    n = int(np.argmax(np.nan_to_num(decibels, nan=-np.inf)))  # the first of equal ones
    if problems[n] or not decibels[n] >= before_db:
        why = problems[n] or f"the file has {decibels[n]:.1f} dB, that without {before_db:.1f} dB"
        return variant, TransformRow(NAME, False, f"off: {why}", before_db, decibels[n], count)
    told = ", ".join(f"{name!r} {db:.1f} dB" for name, db in zip((THOROUGH, USUAL), decibels, strict=False))
    text = FITTED if usual is None else f"{FITTED}: {told}"
    return candidates[n], TransformRow(NAME, True, text, before_db, decibels[n], count)


def _is_interrupted(variant: Variant, trial: Trial) -> bool:
    """Return whether Ctrl-C ended the fitting of a variant's weights: the user does not wait for another one."""
    return any(each.algorithm.endswith("interrupted") for each in trial.numbers(variant).quantized.ops.values())


def _as_usual(requested: RequestedSpecs) -> RequestedSpecs | None:
    """Return requests of "best" as those of "balanced"; None where there are none."""
    thorough = {
        key: spec.with_weights(algorithm=USUAL, options=())
        for key, spec in requested.items()
        if isinstance(spec, WeightedSpec) and spec.weights.algorithm == THOROUGH
    }
    return {**requested, **thorough} if thorough else None
