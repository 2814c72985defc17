"""Layers on other executors, and what is known of layers on disk: the same plan, and no work twice."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tfq_fine as tfq
from support.executors import dask_cluster, processes
from support.graphs import images, small_cnn, wide_cnn
from tfq_converters import flatbuffer
from tfq_fine.mixed_precision import fitting
from tfq_fine.mixed_precision.result import SearchResult
from tfq_fine.mixed_precision.sensitivity import RestOfModel
from tfq_fine.mixed_precision.units import Unit

CONTENT, DATA = flatbuffer.write(wide_cnn()), images(23)
OPTIONS: dict[str, Any] = {"max_bytes": 0.4, "candidates": ("float", "full_int8", "weight_only_int4")}
BUDGET = {**OPTIONS, "max_bytes": 0.5}


@pytest.fixture(scope="module")
def alone() -> SearchResult:
    return tfq.search(CONTENT, DATA, **OPTIONS)


def threads() -> Executor:
    return ThreadPoolExecutor(2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("pool", [threads, processes, dask_cluster])
def test_the_plan_is_the_same_on_any_executor(
    alone: SearchResult, pool: Callable[[], AbstractContextManager[Executor]]
):
    with pool() as executor:
        found = tfq.search(CONTENT, DATA, executor=executor, **OPTIONS)
    assert found.content == alone.content and found.layers == alone.layers


def test_an_executor_that_fails_names_the_layer(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> list[float]:
        raise tfq.TfqError("planted")

    monkeypatch.setattr(RestOfModel, "noise", fail)
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


def test_another_budget_runs_no_layer_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = tfq.search(CONTENT, DATA, **BUDGET)
    tfq.search(CONTENT, DATA, cache_dir=tmp_path, **OPTIONS)
    runs, inputs = counted(monkeypatch, RestOfModel, "noise"), counted(monkeypatch, fitting._FloatInputs, "inputs_of")
    assert tfq.search(CONTENT, DATA, cache_dir=tmp_path, **BUDGET).content == expected.content
    assert not runs and not inputs
    more = {**BUDGET, "candidates": (*BUDGET["candidates"], "weight_only_int2")}
    assert tfq.search(CONTENT, DATA, cache_dir=tmp_path, **more).content == tfq.search(CONTENT, DATA, **more).content
    assert 0 < len(runs) <= 2 * 3  # in the search without a folder all layers, in the other one the new candidate
    before = len(runs)
    tfq.search(CONTENT, DATA + 1, cache_dir=tmp_path, **BUDGET)
    assert len(runs) > before  # other data, other entries


def test_layers_that_share_a_constant_are_fitted_together():
    graph = small_cnn()
    ops = (*graph.main.ops, graph.main.ops[0])
    tied = replace(graph, subgraphs=(replace(graph.main, ops=ops),))
    units = [Unit(str(o), ops[o].code, ((0, o),)) for o in (0, 1, 3, len(ops) - 1)]
    assert fitting._shares(tied, units) == [[units[0], units[3]], [units[1]], [units[2]]]
