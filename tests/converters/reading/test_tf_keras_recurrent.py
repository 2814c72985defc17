"""Which LSTMs of tf_keras become a fused operator and which do not, against TFLiteConverter's int8 file."""

from functools import cache

import pytest

import tfq_fine
from support.keras_groups import branch, float_ops
from support.tf_keras_lstms import FUSED, LOOPS, STOCK, fused_model, model_of, samples, sqnrs
from tfq_fine.api import Result

CODE = "UNIDIRECTIONAL_SEQUENCE_LSTM"
LEAST = 33.0  # dB: 48 of 8 bits that are filled, less the 15 that `test_keras_layers` allows for a deep model
NOT_WORSE = 1.0  # dB, of either file's luck with roundings
TWICE_AS_CLOSE = 6.0  # dB


@cache
def ours() -> Result:
    return tfq_fine.quantize(fused_model(), "full_int8", data=samples(), prefer="size")


@cache
def close() -> dict[str, float]:
    return sqnrs(ours().content)


@pytest.mark.parametrize("name", FUSED)
def test_no_more_operators_stay_float_than_with_the_stock_converter(name: str) -> None:
    graph = ours().graph
    assert CODE in {op.code for op in branch(graph, name)}
    assert len(float_ops(graph, name)) <= STOCK[name].floats
    assert float_ops(ours().quantized.graph, name)  # so that the line above can fail


@pytest.mark.parametrize("name", FUSED)
def test_outputs_are_as_close_as_those_of_the_stock_file(name: str) -> None:
    assert close()[name] >= max(LEAST, STOCK[name].sqnr - NOT_WORSE)


@pytest.mark.parametrize("name", ["both_ways", "both_ways_sequences"])
def test_both_directions_share_the_scale_that_their_concatenation_needs(name: str) -> None:
    graph = ours().graph
    lstms = [op for op in branch(graph, name) if op.code == CODE]
    tensors = [graph.main.tensors[t] for op in lstms for t in (op.inputs[18], *op.outputs)]
    forms = {(float(t.quantization.scale[0]), int(t.quantization.zero_point[0])) for t in tensors}
    assert (len(lstms), len(forms)) == (2, 1)
    assert close()[name] > STOCK[name].sqnr + TWICE_AS_CLOSE


@pytest.mark.parametrize("name", LOOPS)
def test_what_becomes_a_loop_runs_dynamic_range(name: str) -> None:
    model = model_of({name: LOOPS[name]})
    result = tfq_fine.quantize(model, "full_int8", data=samples()[:4], prefer="size")
    products = [row for row in result.report.rows if row.code == "FULLY_CONNECTED"]
    assert products and {row.mode for row in products} == {"dynamic"}
    assert all("control-flow body" in row.reason for row in products)
