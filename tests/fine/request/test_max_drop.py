"""A limit of a metric is never read as a hundred times what was meant."""

import pytest

from tfq_converters.errors import TfqError
from tfq_fine.report import FileSize, Report, TaskResult
from tfq_fine.request.max_drop import MaxDrop


def _report(name: str, before: float, after: float, higher: bool = True) -> Report:
    task = TaskResult(name, before, after, before - after if higher else after - before, higher)
    return Report(1, (), FileSize(1), FileSize(1), task)


@pytest.mark.parametrize("given", ["1%", "1.0 %", "0.01", 0.01, MaxDrop(1.0, True)])
def test_one_percent_point(given):
    assert _report("top1", 0.9, 0.89).passed(given)
    assert not _report("top1", 0.9, 0.889).passed(given)


def test_a_loss_of_70_points_is_no_drop_of_1():
    report = _report("top1", 0.9, 0.2)
    for given in (1, "1", 1.0, "0.51"):
        with pytest.raises(TfqError, match="percent points; write"):
            report.passed(given)
    assert not report.passed("1%") and report.passed("70%") and not report.passed(0.5)


@pytest.mark.parametrize("given", [-0.01, "-1%", "nan", float("nan"), "inf", "", "%", "one", None])
def test_what_is_no_limit(given):
    with pytest.raises(TfqError, match="max_drop: expected a number from 0"):
        _report("top1", 0.9, 0.9).passed(given)


def test_metrics_that_are_no_share_keep_their_unit():
    """3 of a mean error of 40 is 3; percent are those of the float model's value."""
    error = _report("mae", 40.0, 43.0, higher=False)
    assert error.passed(3) and not error.passed(2.9) and error.passed("7.5%") and not error.passed("7.4%")
    decibels = _report("psnr", 35.0, 34.0)
    assert decibels.passed(1.0) and not decibels.passed("1%")


def test_zero_allows_nothing():
    assert _report("top1", 0.9, 0.9).passed(0) and not _report("top1", 0.9, 0.899).passed("0%")
