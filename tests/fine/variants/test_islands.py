"""Operators whose results are hopeless as they are rounded get an island, with what feeds them; others do not."""

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import DENSE, RELU
from support.nets import Net
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Options
from tfq_converters.runtime.runner import Runner
from tfq_fine.variants.islands import POOR_DB, worthless
from tfq_fine.variants.judging import CLASSES, VALUES, Apart, Measured, decibels_of

ADD = {"fusedActivationFunction": 0, "potScaleInt16": True}


def power(count: int, seed: int = 0) -> np.ndarray:
    """Spectra whose loudness differs by seven orders of magnitude, as audio has them."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, 1, (count, 13)) ** 4 * 10 ** rng.uniform(-7, 0, (count, 1))).astype(np.float32)


def log_mel() -> Graph:
    """Spectrum, square, a positive matrix, logarithm, and two layers on top of it."""
    net = Net(1, 13)
    squared = net.add("MUL", (0, 0), (1, 13), Options("MulOptions", {"fusedActivationFunction": 0}))
    bands = net.constant(net.rng.uniform(0, 1, (7, 13)).astype(np.float32))
    x = net.add("FULLY_CONNECTED", (squared, bands, -1), (1, 7), dense_options())
    x = net.add("ADD", (x, net.constant(np.float32([1e-14]))), (1, 7), Options("AddOptions", ADD))
    x = net.add("LOG", (x,), (1, 7))
    x = net.add("ADD", (x, net.constant(np.float32([20.0]))), (1, 7), Options("AddOptions", ADD))  # about its mean
    return net.graph(net.dense(net.dense(x, 11, RELU), 5))


def dense_options() -> Options:
    return Options("FullyConnectedOptions", DENSE | {"fusedActivationFunction": 0, "keepNumDims": True})


def unlike_parts() -> Graph:
    """Values up to 1 next to others up to 80, in one concatenation; a layer that reads the former alone."""
    net = Net(1, 9)
    halves = [net.constant(np.eye(9, dtype=np.float32)[:6]), net.constant(np.eye(9, dtype=np.float32)[6:] * 80)]
    parts = tuple(
        net.add("FULLY_CONNECTED", (0, w, -1), (1, n), dense_options()) for w, n in zip(halves, (6, 3), strict=True)
    )
    x = net.add(
        "CONCATENATION", parts, (1, 9), Options("ConcatenationOptions", {"axis": 1, "fusedActivationFunction": 0})
    )
    weight = net.rng.normal(size=(5, 9)).astype(np.float32)
    weight[:, 6:] *= 1e-5
    y = net.add("FULLY_CONNECTED", (x, net.constant(weight), -1), (1, 5), dense_options())
    return net.graph(y)


def decibels(content: bytes, graph: Graph, data: np.ndarray) -> float:
    """The mean over samples that nothing was calibrated on."""
    files = Runner(write(graph)), Runner(content)
    found = [decibels_of(*(file.run([row[None]]) for file in files)) for row in data]
    return float(np.mean([db for db in found if db is not None]))


@pytest.mark.parametrize("prefer", ["speed", "size"])
@pytest.mark.parametrize("recipe", ["full_int8", "full_int16x8"])
def test_a_logarithm_gets_an_island_with_what_feeds_it(recipe: str, prefer: str) -> None:
    graph, given, fresh = log_mel(), power(64), power(100, seed=1)
    without = tfq.quantize(write(graph), recipe, given, prefer=prefer, transforms=None)
    result = tfq.quantize(write(graph), recipe, given, prefer=prefer)
    row = next(row for row in result.report.transforms if row.name == "islands")
    assert decibels(without.content, graph, fresh) + 8 < decibels(result.content, graph, fresh)
    assert row.applied and row.before is not None and row.after is not None and row.after > row.before + 3
    assert decibels(result.content, graph, fresh) > 30
    reasons = {r.code: r.reason for r in result.report.rows if "on the samples as it was rounded" in r.reason}
    assert "MUL" in reasons  # the square before the matrix
    assert result.report.rows[-1].mode == "integer"  # what comes later stays as it was


def test_parts_of_unlike_size_get_an_island() -> None:
    graph = unlike_parts()
    given, fresh = (np.random.default_rng(s).uniform(-1, 1, (64, 9)).astype(np.float32) for s in (0, 1))
    without = tfq.quantize(write(graph), "full_int8", given, prefer="size", transforms=None)
    result = tfq.quantize(write(graph), "full_int8", given, prefer="size", transforms="islands")
    assert decibels(without.content, graph, fresh) < POOR_DB
    assert decibels(result.content, graph, fresh) > 30
    assert "CONCATENATION" in {r.code for r in result.report.rows if r.reason}


def test_a_good_file_has_no_islands() -> None:
    net = Net(1, 6, 9, 3)
    graph = net.graph(net.dense(net.mean(net.conv(0, 7, RELU)), 5))
    data = np.random.default_rng(0).normal(size=(24, 6, 9, 3)).astype(np.float32)
    result = tfq.quantize(write(graph), "full_int8", data, prefer="size")
    row = next(row for row in result.report.transforms if row.name == "islands")
    assert not row.applied and row.text.endswith("that is enough")
    assert all(r.mode == "integer" for r in result.report.rows)


def measured(each: tuple[float, ...], off: float | None = None) -> Measured:
    """A file with so much SQNR on every sample, whose one output of values is so many points off; None: of classes."""
    if off is None:
        return Measured(each, apart=(Apart(CLASSES),))
    return Measured(each, apart=(Apart(VALUES, error=off, count=100, low=0.0, high=1.0),))


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (measured((14.0, 15.0)), measured((16.0, 17.0)), "it brings 2.0 dB"),  # classes: decibels alone decide
        (measured((14.0, 15.0)), measured((18.0, 19.0)), ""),
        (measured((14.0, 15.0)), measured((13.0, 23.0)), "it brings 3.5 dB"),  # no more than its standard error
        (measured((18.0, 19.0), 0.4), measured((19.0, 20.0), 0.3), "it brings 1.0 dB"),  # they were not off
        (measured((21.0, 21.0), 2.0), measured((22.0, 22.0), 0.3), ""),  # they are mended
        (measured((21.0, 21.0), 2.0), measured((22.0, 22.0), 1.0), "it brings 1.0 dB"),
        (measured((21.0, 21.0), 2.0), Measured((-np.inf,) * 2, "it dies"), "it dies"),
    ],
)
def test_islands_must_be_worth_their_time(start: Measured, end: Measured, why: str) -> None:
    assert worthless(start, end) == why


def test_a_compiler_gets_no_float() -> None:
    """Ethos-U takes none; the report says what that leaves. Equalized parts need none: the file is good without."""
    given = np.random.default_rng(0).uniform(-1, 1, (64, 9)).astype(np.float32)
    for transforms, text in (("islands", "a compiler takes no float operators"), ("auto", "that is enough")):
        options = {"prefer": "size", "runtimes": "ethos-u", "transforms": transforms}
        result = tfq.quantize(write(unlike_parts()), "full_int8", given, **options)
        row = next(row for row in result.report.transforms if row.name == "islands")
        assert not row.applied and text in row.text
        assert all(r.mode == "integer" for r in result.report.rows)
