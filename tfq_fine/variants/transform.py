"""A transform: one change of a model that keeps what it computes and makes it easier to quantize, as a row."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from tfq_fine.report import TransformRow
from tfq_fine.variants.judging import Measured
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant

BETTER_DB = 0.2  # a gain below this is noise


@dataclass(frozen=True)
class Proposal:
    """The variant that a transform proposes.

    Attributes:
        text: what it does, in words; or why it does nothing.
        variants: the variants that it proposes, the best of which is judged; none where it does nothing.
        before: the variant that they are judged against; None for the one that was given.
        measured: the figures of its only variant, where those of the variant's own file would flatter it.
        row: the decision, where the transform decides by itself; its variant is taken where the row is applied.
    """

    text: str
    variants: tuple[Variant, ...] = ()
    before: Variant | None = None
    measured: Measured | None = None
    row: TransformRow | None = None


Propose = Callable[[Variant, Trial], Proposal]


@dataclass(frozen=True)
class Transform:
    """One row of `transform_table.TRANSFORMS`; what is proposed is kept where its file is measured to be better.

    Attributes:
        description: what it does, in one line.
        propose: where it applies, and what it makes of a variant.
        default: whether `transforms="auto"` has it.
        min_gain_db: the gain that it must bring; negative where it may cost so much, since it makes the file faster.
        enough_db: it is kept at any cost where the file has so much.
        within_noise: it is expected to help, so that a loss within two standard errors does not refuse it.
        rewrites: it rewrites the float graph, whose outputs must stay what they are, and whose ranges are taken anew.
        then: the transform that is measured on top of it before it is refused.
        assumed: what it makes of every variant that is measured before its turn comes.
        is_last: it comes after the check that the finished file is no worse than the one without transforms.
    """

    description: str
    propose: Propose
    default: bool = True
    min_gain_db: float = BETTER_DB
    enough_db: float = inf
    within_noise: bool = False
    rewrites: bool = False
    then: str = ""
    assumed: Callable[[Variant], Variant] = lambda variant: variant
    is_last: bool = False
