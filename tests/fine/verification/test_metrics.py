"""Error sums, agreement of classifiers, and task metrics, against numpy, scikit-learn and Keras."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss, mean_squared_error, r2_score, roc_auc_score, top_k_accuracy_score

from tfq_converters.check.noise import sqnr as quick_sqnr
from tfq_converters.check.noise import sqnr_db
from tfq_converters.errors import TfqError
from tfq_fine.numerics.errors import Agreement, ErrorSums, in_top, is_classes
from tfq_fine.verification.task_metrics import METRICS, Score, TaskMetric, task_metric

RNG = np.random.default_rng(0)
# values whose sums and products are exact in float64, so that merging in any order gives the same bits
EXACT = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=1, max_size=40)


def _pairs(found: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.array(found, np.float32).T
    return x, y


# ------------------------------------------------------------------------------------------------ error sums


def test_sqnr_cosine_and_maximum_are_their_formulas():
    x = RNG.normal(size=(7, 5, 3)).astype(np.float32)
    y = (x + 0.01 * RNG.normal(size=x.shape)).astype(np.float32)
    sums = ErrorSums.of(x, y)
    x64, y64 = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    # 1e-9: float64 sums of 105 terms, in another order
    assert sums.sqnr_db == pytest.approx(10 * np.log10(np.mean(x64**2) / np.mean((x64 - y64) ** 2)), rel=1e-9)
    assert sums.cosine == pytest.approx(x64 @ y64 / np.linalg.norm(x64) / np.linalg.norm(y64), rel=1e-9)
    assert sums.max_error == np.abs(x64 - y64).max()
    assert sums.count == 105


def test_uniform_rounding_noise_has_the_sqnr_of_theory():
    """Noise of rounding to steps of s is uniform in [-s/2, s/2], of power s²/12 (Widrow and Kollár 2008)."""
    x = RNG.uniform(-1, 1, 200_000)
    step = 2 / 256
    measured = ErrorSums.of(x, np.rint(x / step) * step).sqnr_db
    assert measured == pytest.approx(10 * math.log10((1 / 3) / (step**2 / 12)), abs=0.05)  # 0.05: 200,000 samples


@given(EXACT, EXACT)
def test_sums_of_batches_are_those_of_the_whole(first, second):
    (x1, y1), (x2, y2) = _pairs(first), _pairs(second)
    whole = ErrorSums.of(np.concatenate([x1, x2]), np.concatenate([y1, y2]))
    assert ErrorSums.of(x1, y1) + ErrorSums.of(x2, y2) == whole
    assert ErrorSums() + whole == whole


@pytest.mark.parametrize(
    ("x", "y", "sqnr", "cosine", "largest"),
    [
        ([1.0, 2.0], [1.0, 2.0], math.inf, 1.0, 0.0),
        ([0.0, 0.0], [0.0, 0.0], math.inf, 1.0, 0.0),
        ([0.0, 0.0], [0.0, 1.0], -math.inf, 0.0, 1.0),
        ([1.0, 2.0], [0.0, 0.0], 0.0, 0.0, 2.0),
        ([1.0, 2.0], [1.0, math.inf], -math.inf, math.nan, math.inf),
        ([1.0, 2.0], [1.0, math.nan], math.nan, math.nan, math.nan),
        ([math.nan, 2.0], [math.nan, 2.0], math.nan, math.nan, math.nan),
        ([-math.inf, 2.0], [-math.inf, 2.0], math.inf, 1.0, 0.0),
        ([-math.inf, 2.0], [math.inf, 2.0], -math.inf, math.nan, math.inf),
    ],
    ids=["equal", "zeros", "no signal", "all lost", "inf", "nan", "nan twice", "same inf", "opposite inf"],
)
@pytest.mark.filterwarnings("error")
def test_limits(x, y, sqnr, cosine, largest):
    sums = ErrorSums.of(np.array(x), np.array(y))
    assert sums.sqnr_db == pytest.approx(sqnr, nan_ok=True)
    assert quick_sqnr([(np.array(x, np.float32), np.array(y, np.float32))]) == pytest.approx(sqnr, nan_ok=True)
    assert sums.cosine == pytest.approx(cosine, nan_ok=True)
    assert sums.max_error == pytest.approx(largest, nan_ok=True)


@pytest.mark.parametrize("mask", [0.0, np.finfo(np.float32).min, -np.inf], ids=["none", "lowest", "infinite"])
def test_the_quick_sums_of_the_run_check_agree_with_the_exact_ones(mask):
    x = RNG.normal(size=(3, 10_001)).astype(np.float32)  # several chunks, and a last one that is shorter
    y = x + np.float32(0.01) * RNG.normal(size=x.shape).astype(np.float32)
    x[1, :7] = y[1, :7] = mask  # whose squares float32 cannot hold
    # 1e-4 dB: float32 sums of 8192 terms, each rounded to 2**-24, are off by a relative 1e-5 at most
    assert quick_sqnr(zip(x, y, strict=True)) == pytest.approx(ErrorSums.of(x, y).sqnr_db, abs=1e-4)


def test_a_ratio_of_energies_may_be_beyond_a_double():
    assert sqnr_db(1e200, 1e-200) == pytest.approx(4000.0)
    assert sqnr_db(1e-200, 1e200) == pytest.approx(-4000.0)


@pytest.mark.parametrize("order", [0, 1])
def test_a_nan_is_not_lost_when_sums_are_added(order):
    bad, good = ErrorSums.of(np.ones(2), np.array([1, np.nan])), ErrorSums.of(np.ones(2), np.zeros(2))
    total = bad + good if order else good + bad
    assert math.isnan(total.sqnr_db)
    assert math.isnan(total.max_error)


def test_integers_and_complex_numbers_do_not_overflow_or_lose_a_part():
    assert ErrorSums.of(np.array([127], np.int8), np.array([-128], np.int8)).max_error == 255
    assert ErrorSums.of(np.array([1 + 2j]), np.array([1 + 1j])).noise == 1.0
    assert ErrorSums.of(np.array([True, False]), np.array([True, True])).noise == 1.0


# ------------------------------------------------------------------------------------------------- agreement


@given(st.integers(0, 2**32 - 1), st.integers(2, 13), st.integers(1, 6))
def test_in_top_is_the_place_in_a_stable_sort(seed, classes, k):
    scores = np.random.default_rng(seed).integers(0, 4, (11, classes)).astype(np.float32)  # many ties
    wanted = np.random.default_rng(seed + 1).integers(0, classes, 11)
    order = np.argsort(-scores, axis=1, kind="stable")
    assert in_top(scores, wanted, k).tolist() == [w in row[:k] for w, row in zip(wanted, order, strict=True)]


def test_agreement_counts_and_adds_up():
    x = np.array([[0.1, 0.9, 0, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7]], np.float32)
    y = np.array([[0.2, 0.8, 0, 0, 0, 0, 0], [0.1, 0.9, 0, 0, 0, 0, 0], [7, 6, 5, 4, 3, 2, 1]], np.float32)
    assert Agreement.of(x, y) == Agreement(top1=1, top5=2, count=3)
    assert Agreement.of(x[:2], y[:2]) + Agreement.of(x[2:], y[2:]) == Agreement.of(x, y)


def test_a_tie_goes_to_the_lowest_class_and_nan_agrees_with_nothing():
    x = np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    assert Agreement.of(x, np.array([[0.5, 0.5], [np.nan, 1.0]], np.float32)).top1 == 0
    assert Agreement.of(x[:, ::-1], np.array([[0.5, 0.5], [1.0, np.nan]], np.float32)).top1 == 1


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (np.zeros((3, 2), np.float32), True),
        (np.zeros((3, 1), np.float32), False),
        (np.zeros((3, 2, 2), np.float32), False),
        (np.zeros((3, 2), np.int32), False),
    ],
    ids=["scores", "one probability", "maps", "integers"],
)
def test_what_counts_as_scores_of_classes(output, expected):
    assert is_classes(output) is expected


# ---------------------------------------------------------------------------------------------- task metrics


def _score(metric, outputs, labels, cut=None):
    """The metric through `Score`, in one batch or cut in two."""
    score = Score(task_metric(metric))
    for part in (slice(0, cut), slice(cut, None)) if cut else (slice(None),):
        score.add({"output": outputs[part]}, labels[part])
    return score.result()


SCORES = RNG.normal(size=(97, 7)).astype(np.float32)
CLASSES = RNG.integers(0, 7, 97)


@pytest.mark.parametrize("cut", [None, 13], ids=["one batch", "two batches"])
@pytest.mark.parametrize(
    "labels",
    [CLASSES, CLASSES[:, None], CLASSES.astype(np.float32), np.eye(7)[CLASSES]],
    ids=["classes", "column", "float classes", "one-hot"],
)
@pytest.mark.parametrize(("name", "k"), [("top1", 1), ("accuracy", 1), ("top5", 5)])
def test_top_k_is_that_of_scikit_learn(name, k, labels, cut):
    expected = top_k_accuracy_score(CLASSES, SCORES, k=k)
    assert 0 < expected < 1
    assert _score(name, SCORES, labels, cut) == pytest.approx(expected, rel=1e-12)  # a ratio of counts


@pytest.mark.parametrize("shape", [(97,), (97, 1)], ids=["flat", "column"])
@pytest.mark.parametrize("cut", [None, 13], ids=["one batch", "two batches"])
def test_binary_outputs(shape, cut):
    outputs, labels = RNG.uniform(size=97).round(1).astype(np.float32), RNG.integers(0, 2, 97)
    assert _score("accuracy", outputs.reshape(shape), labels, cut) == pytest.approx(np.mean((outputs > 0.5) == labels))
    expected = roc_auc_score(labels, outputs)  # rounded to one digit above: many ties
    assert _score("auc", outputs.reshape(shape), labels, cut) == pytest.approx(expected, rel=1e-12)
    assert _score(roc_auc_score, outputs.reshape(shape), labels, cut) == expected
    two = np.stack([1 - outputs, outputs], axis=1)
    assert _score("auc", two, labels, cut) == pytest.approx(expected, rel=1e-12)


def test_classes_per_position():
    outputs, labels = RNG.normal(size=(5, 4, 3)), RNG.integers(0, 3, (5, 4))
    assert _score("top1", outputs, labels) == np.mean(outputs.argmax(-1) == labels)


@pytest.mark.parametrize("cut", [None, 13], ids=["one batch", "two batches"])
def test_perplexity_is_that_of_scikit_learn(cut):
    outputs, labels = 3 * RNG.normal(size=(97, 13, 7)).astype(np.float32), RNG.integers(0, 7, (97, 13))
    expected = np.exp(log_loss(labels.reshape(-1), softmax(outputs.astype(np.float64), axis=-1).reshape(-1, 7)))
    assert _score("perplexity", outputs, labels, cut) == pytest.approx(expected, rel=1e-9)
    assert _score("perplexity", outputs + 1e4, labels, cut) == pytest.approx(expected, rel=1e-2)  # float32 near 1e4
    assert METRICS["perplexity"].drop(20.0, 21.0) == 1.0


@pytest.mark.parametrize("cut", [None, 13], ids=["one batch", "two batches"])
def test_mean_errors(cut):
    outputs, labels = RNG.normal(size=(97, 1)).astype(np.float32), RNG.normal(size=97)
    difference = outputs[:, 0] - labels
    assert _score("mae", outputs, labels, cut) == pytest.approx(np.abs(difference).mean(), rel=1e-12)
    assert _score("mse", outputs, labels, cut) == pytest.approx((difference**2).mean(), rel=1e-12)


def test_nan_is_never_right():
    assert _score("top1", np.full((4, 3), np.nan), np.zeros(4, int)) == 0
    assert _score("accuracy", np.full((4, 1), np.nan), np.zeros(4, int)) == 0
    assert math.isnan(_score("auc", np.full((4, 1), np.nan), np.array([0, 1, 0, 1])))


def test_a_function_of_scikit_learn_is_called_with_labels_first():
    outputs, labels = RNG.normal(size=(97, 1)), RNG.normal(size=97)
    assert task_metric(r2_score).higher_is_better and not task_metric(mean_squared_error).higher_is_better
    assert _score(r2_score, outputs, labels) == r2_score(labels, outputs[:, 0]) != r2_score(outputs[:, 0], labels)


@pytest.mark.parametrize(("name", "worse"), [("top1", 0.1), ("top5", 0.1), ("accuracy", 0.1), ("auc", 0.1)])
def test_a_drop_is_positive_when_scores_fall(name, worse):
    assert METRICS[name].drop(0.9, 0.9 - worse) == pytest.approx(worse)


@pytest.mark.parametrize("name", ["mae", "mse"])
def test_a_drop_is_positive_when_errors_rise(name):
    assert METRICS[name].drop(0.5, 0.75) == 0.25


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "message"),
    [
        ("top1", SCORES, CLASSES[:3], r"classes of shape \(97,\) or one-hot of shape \(97, 7\), found \(3,\)"),
        ("top1", SCORES, CLASSES + 1, "classes 0 to 6, found 7"),
        ("top1", SCORES, CLASSES - 1, "classes 0 to 6, found -1"),
        ("top1", SCORES, CLASSES + 0.5, "classes 0 to 6, found"),
        ("top5", SCORES[:, :1], CLASSES, "scores of several classes"),
        ("perplexity", SCORES[:, :1], CLASSES, "logits of several classes"),
        ("perplexity", SCORES, CLASSES + 1, "classes 0 to 6, found 7"),
        ("accuracy", SCORES[:, :1], CLASSES, "expected 0 or 1"),
        ("accuracy", SCORES[:, :1], CLASSES[:3], "one 0 or 1 per output"),
        ("mae", SCORES, CLASSES, "as many values as outputs"),
        ("auc", SCORES[:, :1], np.ones(97), "labels of both classes"),
    ],
)
def test_labels_that_do_not_fit(name, outputs, labels, message):
    with pytest.raises(TfqError, match=message):
        _score(name, outputs, labels)


def test_unknown_metrics_are_named():
    with pytest.raises(TfqError, match="unknown metric 'top3'; known: top1, top5, accuracy, mae, mse, auc"):
        task_metric("top3")
    with pytest.raises(TfqError, match="found int"):
        task_metric(3)


def test_a_function_sees_everything_once():
    calls = []

    def share(outputs, labels):
        calls.append((outputs.shape, labels.shape))
        return 0.25

    assert _score(share, SCORES, CLASSES, cut=13) == 0.25
    assert calls == [((97, 7), (97,))]
    assert task_metric(share).name == "share"
    assert task_metric(share).higher_is_better


def test_a_function_gets_several_outputs_by_name_and_a_named_metric_refuses_them():
    outputs = {"a": SCORES, "b": SCORES[:, :1]}
    score = Score(task_metric(lambda found, labels: sum(array.shape[1] for array in found.values())))
    score.add(outputs, CLASSES)
    assert score.result() == 8
    with pytest.raises(TfqError, match="outputs a, b"):
        Score(METRICS["top1"]).add(outputs, CLASSES)


@pytest.mark.parametrize("value", [[0.5, 0.25], None, "good"])
def test_a_metric_must_give_one_number(value):
    with pytest.raises(TfqError, match="expected one number"):
        _score(lambda outputs, labels: value, SCORES, CLASSES)


def test_a_metric_can_say_that_lower_is_better():
    metric = TaskMetric("distance", lambda outputs, labels: 3.0, higher_is_better=False)
    assert task_metric(metric) is metric
    assert metric.drop(1.0, 3.0) == 2.0


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_keras_metrics(library):
    keras = pytest.importorskip(library)
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    accuracy.update_state(np.zeros(5), np.eye(7, dtype=np.float32)[np.ones(5, int)])  # left over from training
    expected = np.mean(SCORES.argmax(1) == CLASSES)
    # 1e-6: Keras sums in float32
    assert _score(accuracy, SCORES, CLASSES, cut=13) == pytest.approx(expected, abs=1e-6)
    assert _score(accuracy, SCORES, CLASSES) == pytest.approx(expected, abs=1e-6), "state remained"
    assert task_metric(accuracy).higher_is_better
    assert not task_metric(keras.metrics.RootMeanSquaredError()).higher_is_better
    score = Score(task_metric(accuracy))
    score.add({"a": SCORES, "b": SCORES}, CLASSES)
    with pytest.raises(TfqError, match="outputs a, b"):
        score.result()


def test_labels_may_be_overwritten_between_batches():
    """Data sources may reuse their arrays."""
    labels = np.array([0, 1])
    score = Score(task_metric("auc"))
    for wanted in ([0, 1], [1, 0]):
        labels[:] = wanted
        score.add({"output": np.array([0.1, 0.9])}, labels)
    assert score.result() == 0.5


def test_ties_of_either_side_are_counted_apart():
    x = np.array([[0, 1, 1], [0, 1, 2], [0, 1, 2], [np.nan, 1, 1]], np.float32)
    y = np.array([[0, 1, 2], [0, 2, 2], [0, 1, 2], [0, 1, 2]], np.float32)
    assert Agreement.of(x, y).tied == 2
    assert (Agreement.of(x, y) + Agreement.of(y, x)).tied == 4
