"""The tables of the benchmarks of fine-tuning and of `simulate`."""

import numpy as np

from benchmarks import fine_tuning, parity
from benchmarks.zoo import Case
from examples.fine_tune import Row
from support.wrapped_models import images, small_cnn


def test_the_share_that_fine_tuning_won_back():
    row = Row("full_w4a8", 91.0, 88.0, 90.4, 90.5, 90_896)
    assert abs(row.recovered - 2.5 / 3) < 1e-9
    assert "| full_w4a8 | 91.00 | 88.00 | 90.40 | 90.50 | 90,896 |" in fine_tuning.table([row]).markdown()


def test_parity_is_measured_on_the_file():
    case = Case("cnn", small_cnn(), images(), images(), None, 5)
    found = parity.parity(case, "full_int8", 8)
    assert found["same top-1"] == 1.0 and found["equal"] > 0.9 and found["sqnr_db"] > 40
    different = {"same top-1": 0.9, "sqnr_db": 21.04, "equal": 0.5}
    equal = {"same top-1": 1.0, "sqnr_db": np.inf, "equal": 1.0}
    text = parity.table({"full_int8": {"cnn": different, "other": equal}}).markdown()
    assert "| full_int8 | 21 (top-1 90.0 %) | equal |" in text
