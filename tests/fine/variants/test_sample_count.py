"""Which samples files are judged on, and which weights are fitted to."""

import numpy as np
import pytest

from support.graphs import small_cnn
from tfq_fine.variants import SplitSamples, number_of_samples

GRAPH = small_cnn()


@pytest.mark.parametrize("count", [3, 5, 23, 100, 512, 701])
def test_no_weight_is_fitted_to_what_it_is_judged_on(count: int):
    """A quarter at most is kept apart, and variants, whose weights are not fitted, may be tried on all samples."""
    samples = [(np.array([n]),) for n in range(count)]
    split = SplitSamples.of(GRAPH, samples, fits=True)
    fitted, apart = ([int(x[0]) for (x,) in part] for part in (split.fitted, split.apart))
    assert len(split.tried) == min(count, number_of_samples(GRAPH))
    if count < 4:
        assert fitted == list(range(count))  # too few to keep any apart
        return
    assert sorted(fitted + apart) == list(range(count)) and len(apart) == min(count // 4, 128)
    assert split.judged == split.apart[: len(split.tried)]


def test_all_samples_may_be_tried_where_nothing_is_fitted():
    samples = [(np.array([n]),) for n in range(100)]
    split = SplitSamples.of(GRAPH, samples, fits=False)
    assert split.tried == split.apart == split.judged == tuple(samples[: number_of_samples(GRAPH)])
