"""Every Keras layer that TFLite can express, under every recipe: it runs, what stays float is listed, it is close.

The cases of a group are the branches of one model; a branch is judged by itself. Outputs are compared on samples that
calibrated, so that the numbers tell of arithmetic and not of luck with ranges.
"""

from collections.abc import Mapping
from functools import cache

import keras
import numpy as np
import pytest

import tfq_fine
from support import keras_stock
from support.keras_cases import GROUPS, Case
from support.keras_groups import Arrays, branch, data_of, float_ops, input_names, model_of
from support.keras_without_case import ABSTRACT, FOREIGN, IDENTITIES, NEEDS_TENSORFLOW, STRINGS, UNBUILDABLE
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph
from tfq_converters.reading.reader import read_model
from tfq_converters.runtime.runner import Runner
from tfq_fine.api import Result
from tfq_fine.variants.transform_table import TRANSFORMS

COMPARED = 16  # of the calibration samples
# dB of SQNR at an output. One rounding of uniform values to b bits leaves 6.02 b dB, float16 weights some 73 dB.
LEAST = {
    "full_int8": 33.0,  # 48 dB, less 15 dB for up to thirty such errors on the way
    "full_int16x8": 43.0,  # the weights still have 8 bits: 48 dB; loops are computed as in dynamic_int8
    "dynamic_int8": 42.0,  # weights and inputs of 8 bits: 45 dB; attention has four such products in a row
    "weight_only_int8": 46.0,  # 48 dB, for weights that are not quite uniform
    "float16": 70.0,
}
ALL = [(group, case) for group, cases in GROUPS.items() for case in cases]
NAMED = [pytest.param(group, case, id=f"{group}-{case.name}") for group, case in ALL]
# cases where TFLiteConverter's count is no bar, because its file computes something else
GARBAGE = {
    "CategoryEncoding_one_hot": "it moves the class in int8: rounded to steps of 12/255, CAST truncates it to another",
}


@cache
def keras_model(group: str) -> keras.Model:
    return model_of(group, GROUPS[group])


@cache
def data(group: str) -> Arrays:
    return data_of(GROUPS[group], keras_stock.CALIBRATION, keras_stock.SEED)


@cache
def quantized(group: str, recipe: str) -> Result:
    """What `quantize` gives, from Keras once and from the float file that came of it for the other recipes."""
    first = recipe == "full_int8"
    model = keras_model(group) if first else flatbuffer.write(quantized(group, "full_int8").quantized.graph)
    # These take operators out of integers, and would hide what a kernel does to a layer.
    hiding = ("islands", "log_equalization", "explicit_mul")
    transforms = [name for name in TRANSFORMS if name not in hiding]
    return tfq_fine.quantize(model, recipe, data=data(group), prefer="size", threads=1, transforms=transforms)


@cache
def expected(group: str) -> Arrays:
    """What Keras computes; sample by sample, as the batch of recurrent models is fixed."""
    runs = [keras_model(group).predict_on_batch(sample) for sample in _samples(group)]
    return {case.name: np.concatenate([np.asarray(run[case.name]) for run in runs]) for case in GROUPS[group]}


@cache
def found(group: str, recipe: str) -> Arrays:
    result = quantized(group, recipe)
    runner, names = Runner(result.content), result.graph.input_names()
    runs = [runner.run([sample[name] for name in names]) for sample in _samples(group)]
    outputs = zip(result.graph.output_names(), zip(*runs, strict=True), strict=True)
    return {name: np.concatenate(arrays) for name, arrays in outputs}


def _samples(group: str) -> list[Arrays]:
    return [{name: array[n : n + 1] for name, array in data(group).items()} for n in range(COMPARED)]


def sqnr(exact: np.ndarray, close: np.ndarray) -> float:
    error = float(np.square(close.astype(np.float64) - exact).sum())
    return np.inf if error == 0 else 10 * np.log10(float(np.square(exact.astype(np.float64)).sum()) / error)


@pytest.mark.parametrize("recipe", LEAST)
@pytest.mark.parametrize(("group", "case"), NAMED)
def test_output_is_close_to_keras(group: str, case: Case, recipe: str):
    assert case.why or not case.least
    exact, close = expected(group)[case.name], found(group, recipe)[case.name]
    assert close.shape == exact.shape
    assert sqnr(exact, close) >= case.least.get(recipe, LEAST[recipe])


@pytest.mark.parametrize(("group", "case"), NAMED)
def test_no_more_operators_stay_float_than_with_the_stock_converter(group: str, case: Case):
    ours = [op.label for op in float_ops(quantized(group, "full_int8").graph, case.name)]
    if case.stock is not None and case.name not in GARBAGE:
        assert len(ours) <= case.stock, ours


@pytest.mark.parametrize(("group", "case"), NAMED)
@pytest.mark.parametrize("recipe", ["full_int8", "full_int16x8"])
def test_what_stays_float_is_listed_with_a_reason(group: str, case: Case, recipe: str):
    result = quantized(group, recipe)
    reasons = {(row.code, row.name): row.reason for row in result.report.rows if row.mode != "integer"}
    floats = float_ops(result.quantized.graph, case.name)
    integers = {row.name for row in result.report.rows if row.mode == "integer"}
    for op in floats:
        name = result.quantized.graph.main.tensors[op.outputs[0]].name
        assert name in integers or reasons.get((op.label, name)), f"{op.label} {name} is not listed"


def test_the_listing_covers_the_file():
    """The test above looks at the float graph; what computes in float in the file is made of what is listed."""
    for group in GROUPS:
        result = quantized(group, "full_int8")
        listed = [row.code for row in result.report.rows if row.mode != "integer"]
        emitted = {op.label for case in GROUPS[group] for op in float_ops(result.graph, case.name)}
        assert emitted <= set(listed)


def test_loop_bodies_run_dynamic_range_and_are_listed():
    result = quantized("recurrent", "full_int8")
    body = [(key, op) for key, op in result.quantized.graph.ops() if key[0] > 0]
    products = [key for key, op in body if op.code in {"FULLY_CONNECTED", "CONV_2D"}]
    assert len(products) > 20
    assert {result.quantized.ops[key].mode for key in products} == {"dynamic"}
    inside = [row for row in result.report.rows if "control-flow body" in row.reason]
    assert {row.mode for row in inside if row.code in {"FULLY_CONNECTED", "CONV_2D"}} == {"dynamic"}
    assert sum(row.mode == "dynamic" for row in inside) >= len(products)
    stored = {t.dtype for s in result.graph.subgraphs[1:] for t in s.tensors if t.is_constant and len(t.shape) > 1}
    assert "int8" in stored


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected:UserWarning")  # of TensorFlow
@pytest.mark.parametrize("name", GARBAGE)
def test_the_stock_file_is_wrong_where_its_count_is_no_bar(name: str):
    ((group, case),) = [(group, case) for group, case in ALL if case.name == name]
    content = keras_stock.stock_file(group, [case])
    runner = Runner(content)
    stock = np.concatenate([runner.run([sample[n] for n in input_names(case)])[0] for sample in _samples(group)])
    exact = expected(group)[name]
    assert sqnr(exact, stock) < 3.0  # half of the signal
    assert sqnr(exact, found(group, "full_int8")[name]) == np.inf


def test_every_layer_has_a_case_or_a_reason():
    classes = {
        layer.__name__
        for layer in vars(keras.layers).values()
        if isinstance(layer, type) and issubclass(layer, keras.layers.Layer)
    }
    tables: list[Mapping] = [ABSTRACT, FOREIGN, IDENTITIES, NEEDS_TENSORFLOW, STRINGS, UNBUILDABLE]
    without = [name for table in tables for name in table]
    cased = {case.layer for _, case in ALL}
    assert len(without) == len(set(without))
    assert cased.isdisjoint(without)
    assert classes == cased | set(without)


@cache
def _uncased(kind: str) -> Graph:
    table = {"identities": IDENTITIES, "tensorflow": NEEDS_TENSORFLOW, "strings": STRINGS}[kind]
    built = {name: build(keras.layers) for name, build in table.items()}
    inputs = [tensor for name in built for tensor in built[name][0]]
    return read_model(keras.Model(inputs, {name: output for name, (_, output) in built.items()})).graph


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_compute_nothing_at_inference(name: str):
    assert float_ops(_uncased("identities"), name) == []


@pytest.mark.parametrize("name", NEEDS_TENSORFLOW)
def test_these_layers_need_operators_of_tensorflow(name: str):
    assert any(op.custom_code.startswith("Flex") for op in branch(_uncased("tensorflow"), name))


@pytest.mark.parametrize("name", STRINGS)
def test_layers_of_strings_hold_no_floats(name: str):
    assert float_ops(_uncased("strings"), name) == []


@pytest.mark.parametrize("name", UNBUILDABLE)
def test_keras_cannot_build_a_model_of_it(name: str):
    build, words = UNBUILDABLE[name]
    with pytest.raises(ValueError, match=words):
        keras.Model(*build(keras.layers))
