"""Algorithms and transforms that are passed as objects, and the example in docs/algorithms.md."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.linear_operators import correlated, dense
from tfq_converters.graph import Graph
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms import ALGORITHMS, Algorithm, WeightProblem, solution
from tfq_fine.numerics import CodeFormat
from tfq_fine.request.granularity import PerChannel
from tfq_fine.variants.transform_table import TRANSFORMS

pytestmark = pytest.mark.usefixtures("conversions_once")
DOCS = (Path(__file__).parents[3] / "docs" / "algorithms.md").read_text()
IMAGES = np.random.default_rng(0).normal(size=(40, 13)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    parts = [layers.Input((13,)), layers.Dense(11, activation="relu", name="first"), layers.Dense(7, name="second")]
    return keras.Sequential(parts)


def recipe(algorithm: Any, **options: float) -> tfq.Recipe:
    spec = tfq.WeightSpec(4, algorithm=algorithm, options=options)  # type: ignore[arg-type]
    return tfq.Recipe("mine", tfq.OpSpec("weight_only", spec), flexible=True)


def test_the_example_of_the_docs_runs(model: Any):
    section = DOCS[DOCS.index("## An algorithm of your own") :]
    names: dict[str, Any] = {"model": model, "images": IMAGES}
    algorithm, transform = re.findall(r"```python\n(.*?)```", section, re.S)
    exec(algorithm, names)
    (first, *_) = names["result"].report.rows
    assert first.algorithm == "three_sigma"
    weight = np.asarray(model.get_layer("first").kernel).T
    codes = next(iter(names["result"].quantized.ops.values())).weights[1]
    reach = np.minimum(1.5 * weight.std(axis=1), np.abs(weight).max(axis=1))
    np.testing.assert_allclose(codes.scale[:, 0], reach / 7, rtol=1e-5)
    assert (reach < np.abs(weight).max(axis=1)).all()
    exec(transform, names)
    assert {row.name: row.text for row in names["result"].report.transforms}["as_it_is"] == "nothing to change"


@pytest.mark.parametrize("given", [ALGORITHMS["comq"], ALGORITHMS["octav"].solve], ids=["row", "function"])
def test_an_object_does_what_its_name_does(model: Any, given: Any):
    name = "comq" if isinstance(given, Algorithm) else "octav"
    made, named = (tfq.quantize(model, recipe(each), IMAGES, transforms=None) for each in (given, name))
    assert made.content == named.content
    assert [row.algorithm for row in made.report.rows] == [row.algorithm for row in named.report.rows]
    assert "algorithm" in made.report.to_json()  # whose names are texts


def test_two_functions_of_one_name_are_two_algorithms():
    def made() -> Any:
        def mine(problem: WeightProblem) -> WeightCodes:
            return ALGORITHMS["octav"].solve(problem)  # type: ignore[return-value]

        return mine

    one, other = made(), made()
    assert tfq.WeightSpec(4, algorithm=one) == tfq.WeightSpec(4, algorithm=one)
    assert hash(tfq.WeightSpec(4, algorithm=one)) == hash(tfq.WeightSpec(4, algorithm=one))
    assert tfq.WeightSpec(4, algorithm=one) != tfq.WeightSpec(4, algorithm=other)
    assert tfq.WeightSpec(4, algorithm=one) != tfq.WeightSpec(4, algorithm="mine")
    spec = tfq.WeightSpec(4, algorithm=one)
    assert copy.deepcopy(spec) == spec


def test_a_recipe_with_an_object_cannot_be_saved():
    def mine(problem: WeightProblem) -> WeightCodes:
        raise NotImplementedError

    with pytest.raises(tfq.TfqError, match=r"'mine' is given as an object, which JSON cannot hold: save a recipe that"):
        recipe(mine).to_json()
    with pytest.raises(tfq.TfqError, match=r"algorithm 'mine' has no option 'sigmas'; it has none"):
        solution(tfq.WeightSpec(4, algorithm=mine, options={"sigmas": 2.0}), problem_of())  # type: ignore[arg-type]
    with pytest.raises(tfq.TfqError, match=r"algorithm=7: expected a name, a function or a row of its table"):
        tfq.WeightSpec(4, algorithm=7)  # type: ignore[arg-type]


def problem_of() -> WeightProblem:
    linear = dense(13, 7, rows=5)
    return linear.problem(linear.inputs(correlated(linear.data, 2)), CodeFormat(4), PerChannel())


WRONG = {
    r"returned a int; return WeightCodes or a Solution": lambda codes: 7,
    r"returned codes of shape \(13, 7\); expected \(7, 13\)": lambda codes: replace(codes, codes=codes.codes.T),
    r"returned blocks of shape \(7, 13\); expected \(1, 13\)": lambda codes: replace(codes, block=(7, 13)),
    r"returned codes from -7 to 9; expected -7 to 7": lambda codes: replace(
        codes, codes=np.where(codes.codes == 7, np.int8(9), codes.codes)
    ),
    r"returned scales that are not above 0": lambda codes: replace(codes, scale=-codes.scale),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_an_own_algorithm_returns_is_checked(message: str):
    def mine(problem: WeightProblem) -> Any:
        codes: Any = ALGORITHMS["octav"].solve(problem)
        codes.codes[0, :2] = -7, 7
        return WRONG[message](codes)

    with pytest.raises(tfq.TfqError, match=rf"algorithm 'mine' {message}"):
        solution(tfq.WeightSpec(4, algorithm=mine), problem_of())  # type: ignore[arg-type]


def test_an_own_transform_is_judged_by_the_file_that_it_gives(model: Any):
    """One that spoils the weights is off, one that changes what the model computes too; wrong results are errors."""

    def scaled(graph: Graph, factor: float) -> Graph:
        tensors = [
            replace(t, data=t.data * np.float32(factor)) if t.data is not None and t.dtype == "float32" else t
            for t in graph.main.tensors
        ]
        return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))

    def doubled(graph: Graph) -> Graph:
        return scaled(graph, 2.0)

    def emptied(graph: Graph) -> Graph:
        return replace(graph, subgraphs=(replace(graph.main, ops=graph.main.ops[:1]),))

    def forgotten(graph: Graph) -> Any:
        return None

    result = tfq.quantize(model, "full_int8", IMAGES, transforms=[doubled, TRANSFORMS["bias_correction"]])
    rows = {row.name: row for row in result.report.transforms}
    assert not rows["doubled"].applied and "corrected" in rows
    with pytest.raises(tfq.TfqError, match="transform 'forgotten' returned a NoneType; expected a Graph"):
        tfq.quantize(model, "full_int8", IMAGES, transforms=forgotten)
    with pytest.raises(tfq.TfqError, match="transform 'emptied' returned a graph of other operators"):
        tfq.quantize(model, "full_int8", IMAGES, transforms=[emptied])
    with pytest.raises(tfq.TfqError, match="unknown transforms halved; known: fold_batch_norm"):
        tfq.quantize(model, "full_int8", IMAGES, transforms=["auto", "halved"])
