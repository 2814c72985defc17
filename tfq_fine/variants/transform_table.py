"""The table of transforms, in the order in which they are decided on."""

from dataclasses import replace

from tfq_fine.variants.islands import mended
from tfq_fine.variants.proposals import corrected, equalized, folded_batch_norm, masked
from tfq_fine.variants.smoothing import (
    equalized_by_logarithm,
    scaled_for_weights,
    shifted_to_middle,
    smoothed_by_alpha,
)
from tfq_fine.variants.transform import BETTER_DB, Proposal, Transform
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant

FINE_DB = 20.0  # a file that has so much may have lost anything to bounded masks


def _with_islands(variant: Variant, trial: Trial) -> Proposal:
    after, row = mended(variant, trial)
    return Proposal(row.text, (after,), row=row)


TRANSFORMS: dict[str, Transform] = {
    "fold_batch_norm": Transform(
        "batch norm after an activation is folded into the weights around it",
        folded_batch_norm,
        min_gain_db=-BETTER_DB,
        rewrites=True,
        then="cross_layer",
    ),
    "shift": Transform(
        "the middle of each channel's range is moved from an activation into the biases that follow (Outlier "
        "Suppression+)",
        shifted_to_middle,
        default=False,
        rewrites=True,
    ),
    "cross_layer": Transform(
        "channels of an activation are scaled to one range, and the weights that read them divided",
        equalized,
        rewrites=True,
    ),
    "log_equalization": Transform(
        "channels shrink to the logarithm of their range, or an activation is rounded token by token (FPTQ)",
        equalized_by_logarithm,
        default=False,
        rewrites=True,
    ),
    "smooth_quant": Transform(
        "outlier channels of an activation are divided, and the weights that read them multiplied (SmoothQuant)",
        smoothed_by_alpha,
        rewrites=True,
    ),
    "awq": Transform(
        "weights of less than 8 bits are scaled up where they meet large activations (AWQ)",
        scaled_for_weights,
        default=False,
        rewrites=True,
    ),
    "bounded_masks": Transform(
        "attention masks reach no further than SOFTMAX can tell",
        masked,
        min_gain_db=-1.0,  # masked scores would be float otherwise, and slower
        enough_db=FINE_DB,
        assumed=lambda variant: replace(variant, bounded_masks=True),
    ),
    "bias_correction": Transform(
        "biases take back what rounded weights do to the mean of the outputs", corrected, within_noise=True
    ),
    "islands": Transform(
        "operators whose results are hopeless in 8 bits are kept in float, with what feeds them",
        _with_islands,
        is_last=True,
    ),
}
