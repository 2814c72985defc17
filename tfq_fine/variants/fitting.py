"""Weights that are fitted to what earlier operators compute: whether the file is better than with stand-ins."""

from dataclasses import replace

from tfq_fine.report import TransformRow
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant

NAME = "fitted_weights"  # in the report


def with_fitted_weights(variant: Variant, trial: Trial) -> tuple[Variant, TransformRow]:
    """Return (the variant with fitted weights, unless its file is worse on samples kept apart; a line on it)."""
    after = replace(variant, fitted=True)
    before_db, measured, count = trial.measured(variant).db, trial.measured(after), len(trial.samples)
    if measured.problem or not measured.db >= before_db:
        why = measured.problem or f"the file has {measured.db:.1f} dB, that without {before_db:.1f} dB"
        return variant, TransformRow(NAME, False, f"off: {why}", before_db, measured.db, count)
    text = "weights are fitted, layer by layer, to what the quantized layers before them compute"
    return after, TransformRow(NAME, True, text, before_db, measured.db, count)
