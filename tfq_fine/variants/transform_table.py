"""The table of transforms, in the order in which they are decided on."""

from dataclasses import replace

from tfq_fine.variants.explicit_mul import multiplied
from tfq_fine.variants.islands import mended
from tfq_fine.variants.log_equalization import equalized_by_logarithm
from tfq_fine.variants.proposals import corrected, equalized, folded_batch_norm, masked
from tfq_fine.variants.rotation import rotated_channels
from tfq_fine.variants.smoothing import (
    scaled_for_weights,
    shifted_to_middle,
    smoothed_by_alpha,
)
from tfq_fine.variants.transform import BETTER_DB, Proposal, Transform
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant

# Channels that are scaled to one range all reach its ends, beyond which values of new samples are cut off. The samples
# that files are judged on are among those that ranges come from, and do not show that.
EVEN_DB = 0.5
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
        min_gain_db=EVEN_DB,
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
        min_gain_db=EVEN_DB,
        rewrites=True,
    ),
    "explicit_mul": Transform(
        "outlier channels that no constant can scale are divided by a MUL, and the weights that read them multiplied",
        multiplied,
        default=False,
        rewrites=True,
    ),
    "awq": Transform(
        "weights of less than 8 bits are scaled up where they meet large activations (AWQ)",
        scaled_for_weights,
        default=False,
        rewrites=True,
    ),
    "rotate": Transform(
        "residual streams with RMS norms, and the values of attention, are turned by Hadamard matrices (QuaRot)",
        rotated_channels,
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
