"""Layers on other executors, and what is known of layers on disk: the same plan, and no work twice."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.executors import dask_cluster, processes
from support.graphs import images, small_cnn, wide_cnn
from tfq_converters import flatbuffer
from tfq_converters.runtime import file_runs
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.mixed_precision import fitting
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.exploration import Explored, explored
from tfq_fine.mixed_precision.sensitivity import RestOfModel
from tfq_fine.mixed_precision.units import Unit, candidates_of
from tfq_fine.progress import Stages
from tfq_fine.variants import Trial

GRAPH, DATA = wide_cnn(), images(23)
CONTENT = flatbuffer.write(GRAPH)
LAYERS, NAMES = 3, ("float", "full_int8", "weight_only_int4")


def found(
    executor: Executor | None = None, folder: Path | None = None, names: Sequence[str] = NAMES, data: Any = DATA
) -> Explored:
    conditions = Conditions(executor=executor, cache_dir=folder)
    with file_runs() as files:
        material = Representative(CalibrationData(data))
        made = explored(GRAPH, material, candidates_of(names), conditions, files, Stages(), len(CONTENT))
        made.plans.decibels(made.most_exact())
        return made


def same(mine: Explored, expected: Explored) -> None:
    """Compare noise, bytes and codes bit for bit."""
    assert mine.loss == expected.loss and mine.bytes == expected.bytes and mine.base_bytes == expected.base_bytes
    for c in expected.candidates:
        codes = expected.plans.fitted[c].codes
        assert mine.plans.fitted[c].codes.keys() == codes.keys()
        for place, each in mine.plans.fitted[c].codes.items():
            np.testing.assert_array_equal(each.codes, codes[place].codes)
            np.testing.assert_array_equal(each.scale, codes[place].scale)


@pytest.fixture(scope="module")
def alone() -> Explored:
    return found()


def threads() -> Executor:
    return ThreadPoolExecutor(2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("pool", [threads, processes, dask_cluster])
def test_layers_are_the_same_on_any_executor(alone: Explored, pool: Callable[[], AbstractContextManager[Executor]]):
    with pool() as executor:
        same(found(executor), alone)


def test_a_search_takes_an_executor():
    options: dict[str, Any] = {"max_bytes": 0.4, "candidates": NAMES, "quality": "fast"}
    with threads() as executor:
        result = tfq.search(CONTENT, DATA, executor=executor, **options)
    assert result.content == tfq.search(CONTENT, DATA, **options).content


def test_an_executor_that_fails_names_the_layer(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> list[float]:
        raise tfq.TfqError("planted")

    monkeypatch.setattr(RestOfModel, "mean_losses", fail)
    with threads() as executor, pytest.raises(tfq.TfqError, match=r"layer conv \(CONV_2D\): planted"):
        tfq.analyze(CONTENT, DATA, executor=executor)


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """Count the calls of a method: a list that grows."""
    calls, real = list[str](), getattr(owner, name)

    def call(*given: Any) -> Any:
        calls.append(name)
        return real(*given)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_nothing_that_is_known_of_layers_is_computed_again(
    alone: Explored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    same(found(folder=tmp_path), alone)
    runs, inputs = (
        counted(monkeypatch, RestOfModel, "mean_losses"),
        counted(monkeypatch, fitting._FloatInputs, "inputs_of"),
    )
    files = counted(monkeypatch, Trial, "measure")
    same(found(folder=tmp_path), alone)
    assert not runs and not inputs and not files
    found(folder=tmp_path, names=(*NAMES, "weight_only_int2"))
    assert len(runs) == LAYERS and len(inputs) > 0  # the new candidate of each
    found(folder=tmp_path, data=DATA + 1)
    assert len(runs) == 2 * LAYERS  # of other data nothing is known


def test_layers_that_share_a_constant_are_fitted_together():
    graph = small_cnn()
    ops = (*graph.main.ops, graph.main.ops[0])
    tied = replace(graph, subgraphs=(replace(graph.main, ops=ops),))
    units = [Unit(str(o), ops[o].code, ((0, o),)) for o in (0, 1, 3, len(ops) - 1)]
    assert fitting._shares(tied, units) == [[units[0], units[3]], [units[1]], [units[2]]]
