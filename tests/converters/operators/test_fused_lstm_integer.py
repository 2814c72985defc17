"""The fused LSTM of tf_keras in integers: what the file holds, what it computes, and that a wrong file is refused."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import tfq_fine
from support.emitted import File, Operator, schema
from support.fused_lstms import BIASES, CODE, STEPS, WEIGHTS, content, lstm, operands, run, sequences
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.reading import read
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import ABSENT, Graph, Tensor
from tfq_converters.operators.lstm import unusual
from tfq_converters.quantized import ActivationEncoding
from tfq_converters.reading.reader import read_model
from tfq_converters.realize import recurrent, rewrites
from tfq_converters.realize.realized import REALIZATIONS
from tfq_converters.runtime.runner import Kernels
from tfq_fine.api import Result
from tfq_fine.calibration.statistics import Statistics
from tfq_fine.numerics import affine

HIDDEN, CELL = 18, 19
BOTH: tuple[Kernels, ...] = ("default", "reference")
# Every step rounds h to the nearest code. The kernel's own errors, of some 2^-12 in the sums of gates, move those that
# lie near the middle between two codes to the other one, which the next step reads.
STEPS_OFF = 1.51


@cache
def quantized(recipe: str = "full_int8", prefer: str = "size") -> Result:
    return tfq_fine.quantize(content(), recipe, data=sequences(20), prefer=prefer)


def operator(file: File) -> Operator:
    (op,) = [op for op in file.ops if op.code == CODE]
    return op


def expected(file: File, x: np.ndarray) -> np.ndarray:
    """The last h, of an LSTM over the weights of `file` that reads x and h in the file's encodings."""
    op, weights, biases = operands(file)
    source, form = file.affine(op.inputs[0]), file.affine(op.outputs[0])
    rounded = [source.seen(sequence) for sequence in x]
    return np.stack([lstm(sequence, weights, biases, form.seen) for sequence in rounded])


def test_all_of_it_is_in_integers() -> None:
    result = quantized()
    file = File(result.content)
    assert [op.code for op in file.ops] == ["QUANTIZE", CODE, "STRIDED_SLICE", "DEQUANTIZE"]
    (row,) = [row for row in result.report.rows if row.code == CODE]
    assert (row.mode, row.weights, row.activations) == ("integer", "int8 per-tensor", "int8")


@pytest.mark.parametrize("kernels", BOTH)
def test_it_computes_what_its_numbers_say(kernels: Kernels) -> None:
    file, x = File(quantized().content), sequences(20)
    form = file.affine(operator(file).outputs[0])
    away = np.abs(run(quantized().content, kernels, x) - expected(file, x)) / form.scale
    assert away.max() <= STEPS_OFF
    assert away.max() > 0  # rounded, so that this is no comparison of nothing


def test_states_and_constants_have_the_encodings_that_the_kernel_assumes() -> None:
    file = File(quantized().content)
    op, types = operator(file), schema.TensorType
    states = [file.tensors[op.inputs[slot]] for slot in (HIDDEN, CELL)]
    assert [(state.isVariable, state.type) for state in states] == [(True, types.INT8), (True, types.INT16)]
    assert file.affine(op.inputs[HIDDEN]) == file.affine(op.outputs[0])
    source = file.affine(op.inputs[0]).scale
    for weight, bias in zip(WEIGHTS[:4], BIASES, strict=True):
        stored, scales = file.tensors[op.inputs[bias]], file.tensors[op.inputs[weight]].quantization.scale
        assert stored.type == types.INT32 and len(scales) == 1
        np.testing.assert_allclose(stored.quantization.scale, source * scales, rtol=1e-6)  # a product in float32
    graph = read(quantized().content)
    (emitted,) = [op for op in graph.main.ops if op.code == CODE]
    intermediates = [graph.main.tensors[t] for t in emitted.intermediates]
    assert [tensor.dtype for tensor in intermediates] == ["float32"] * 4 + ["int8"]
    hidden, output = (tensor.quantization for tensor in (intermediates[4], graph.main.tensors[emitted.outputs[0]]))
    assert (hidden.scale, hidden.zero_point) == (output.scale, output.zero_point)


def cells(x: np.ndarray) -> list[float]:
    """The largest |c| of each sequence, over all of its steps."""
    _, weights, biases = operands(File(content()))
    found: list[float] = []
    for sequence in x:
        seen: list[np.ndarray] = []
        lstm(sequence, weights, biases, cells=seen)
        found.append(float(np.abs(seen).max()))
        assert len(seen) == STEPS
    return found


def test_the_scale_of_the_cell_state_is_the_finest_power_of_two_that_holds_it() -> None:
    file = File(quantized().content)
    found, largest = file.affine(operator(file).inputs[CELL]), max(cells(sequences(20)))
    assert found.zero_point == 0 and np.log2(found.scale) % 1 == 0
    assert found.scale * 2**14 < largest <= found.scale * 2**15
    assert largest > 1  # so that it is not the finest of all


def test_calibration_begins_every_sample_without_a_state() -> None:
    """So that what it finds does not depend on their order."""
    x = sequences(6)
    found, reverse = (tfq_fine.calibrate(content(), data) for data in (x, x[::-1].copy()))
    assert found.ranges == reverse.ranges
    (strain,) = found.strains.values()
    np.testing.assert_allclose(strain[0], max(cells(x)), rtol=1e-5)  # float32 sums


def test_statistics_hold_states_when_they_are_saved_and_merged(tmp_path) -> None:
    first, second, all_of_it = (tfq_fine.calibrate(content(), sequences(6)[part]) for part in np.s_[:2, 2:, :])
    assert first != second and first.merge(second).strains.keys() == all_of_it.strains.keys()
    merged = first.merge(second)
    assert all(np.array_equal(merged.strains[key], value) for key, value in all_of_it.strains.items())
    merged.save(tmp_path / "statistics.npz")
    assert Statistics.load(tmp_path / "statistics.npz") == merged


def test_it_keeps_to_dynamic_range_where_that_is_faster() -> None:
    """The integer kernel takes two to eight times as long as the float one; here 20 calls would not matter."""
    long = _longer(read(content()), 50)
    data = np.random.default_rng(1).normal(size=(3, 50, 13)).astype(np.float32)
    rows = {
        prefer: next(row for row in result.report.rows if row.code == CODE)
        for prefer in ("speed", "size")
        for result in [tfq_fine.quantize(write(long), "full_int8", data=data, prefer=prefer)]
    }
    assert (rows["size"].mode, rows["speed"].mode) == ("integer", "dynamic")
    assert "slower than that on floats" in rows["speed"].reason and "prefer='size'" in rows["speed"].reason


def _longer(graph: Graph, steps: int) -> Graph:
    """The same model of longer sequences."""
    tensors = [
        replace(t, shape=(1, steps, t.shape[2])) if len(t.shape) == 3 and not t.is_constant else t
        for t in graph.main.tensors
    ]
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))


def test_int16_activations_have_no_kernel() -> None:
    (row,) = [row for row in quantized("full_int16x8").report.rows if row.code == CODE]
    assert row.mode == "dynamic" and "no int16 kernel" in row.reason


def _with_constants(change: Callable[[int, np.ndarray], np.ndarray]) -> bytes:
    """The float model with other constants; `change` gets the slot of each."""
    graph = read(content())
    (op,) = [op for op in graph.main.ops if op.code == CODE]
    tensors, inputs = list(graph.main.tensors), list(op.inputs)
    for slot in (*WEIGHTS, *BIASES):
        data = change(slot, np.asarray(tensors[inputs[slot]].data))
        tensors.append(replace(tensors[inputs[slot]], data=data.astype(np.float32)))
        inputs[slot] = len(tensors) - 1
    ops = tuple(replace(one, inputs=tuple(inputs)) if one is op else one for one in graph.main.ops)
    return write(replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors), ops=ops),)))


def test_it_keeps_to_dynamic_range_where_sums_would_saturate() -> None:
    """The kernel cuts the sum of the input at 8 before it takes off what the state says."""

    def opposed(slot: int, data: np.ndarray) -> np.ndarray:
        if slot == BIASES[3]:
            return np.full_like(data, 14.0)
        return np.full_like(data, -3.0) if slot == WEIGHTS[7] else np.abs(data)

    made, x = _with_constants(opposed), np.abs(sequences(8))
    result = tfq_fine.quantize(made, "full_int8", data=x, prefer="size")
    (row,) = [row for row in result.report.rows if row.code == CODE]
    assert row.mode == "dynamic" and "saturate at 8" in row.reason
    ((_, off),) = result.statistics.strains.values()
    assert off > 0.05
    _, calm = next(iter(quantized().statistics.strains.values()))
    assert calm < 0.05


UNUSUAL: dict[str, tuple[dict[int, tuple[int, ...]], dict[str, object]]] = {  # shapes by slot, options
    "": ({}, {}),
    "peepholes": ({9: (7,)}, {}),
    "a projection": ({16: (5, 7)}, {}),
    "layer normalization": ({20: (7,)}, {}),
    "diagonal weights": ({5: (7,)}, {}),
    "another activation than tanh": ({}, {"fusedActivationFunction": 1}),
    "gates without constant weights and biases of their own": ({1: ()}, {}),  # coupled: it has no input gate
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_the_integer_kernel_is_not_written_for_is_named(what: str) -> None:
    graph = read(content())
    (op,) = [op for op in graph.main.ops if op.code == CODE]
    shapes, values = UNUSUAL[what]
    tensors, inputs = list(graph.main.tensors), list(op.inputs)
    for slot, shape in shapes.items():
        tensors.append(Tensor("other", shape, "float32", data=np.ones(shape, np.float32)))
        inputs[slot] = len(tensors) - 1 if shape else ABSENT
    assert op.options is not None
    options = replace(op.options, values={**op.options.values, **values})
    found = unusual(replace(op, inputs=tuple(inputs), options=options), replace(graph.main, tensors=tuple(tensors)))
    assert found == (f"no integer kernel for {what}" if what else "")


def wrong_bias_scale(patch: pytest.MonkeyPatch) -> None:
    right = affine.encode_bias
    patch.setattr(affine, "encode_bias", lambda bias, scale, *rest: right(bias, 2 * scale, *rest))


def _other_state(slot: int, change: Callable[[ActivationEncoding], ActivationEncoding]) -> Callable:
    """The file alone holds a state in another encoding."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        right = recurrent.integer_lstm

        def wrong(builder, op, encoding) -> bool:
            inputs = {**encoding.inputs, slot: change(encoding.inputs[slot])}
            return right(builder, op, replace(encoding, inputs=inputs))

        patch.setitem(rewrites.REWRITES, CODE, wrong)

    return broken


def hidden_of_another_scale(patch: pytest.MonkeyPatch) -> None:
    right = recurrent.encoded

    def wrong(tensor, form, *rest):
        return right(tensor, replace(form, scale=1.1 * form.scale) if tensor.shape == (0,) else form, *rest)

    patch.setattr(recurrent, "encoded", wrong)


def gates_swapped(patch: pytest.MonkeyPatch) -> None:
    right = REALIZATIONS["dequantize"]

    def wrong(builder, op, encoding) -> None:
        first, second = WEIGHTS[:2]
        others = {first: encoding.weights[second], second: encoding.weights[first]} if op.code == CODE else {}
        right(builder, op, replace(encoding, weights={**encoding.weights, **others}))

    patch.setitem(REALIZATIONS, "dequantize", wrong)


BROKEN = {
    "wrong bias scale": wrong_bias_scale,
    "cell state too small": _other_state(CELL, lambda form: replace(form, scale=2.0**-15)),
    "cell state of no power of two": _other_state(CELL, lambda form: replace(form, scale=1.5 * form.scale)),
    "state with another zero point": _other_state(HIDDEN, lambda form: replace(form, zero_point=form.zero_point + 9)),
    "hidden of another scale": hidden_of_another_scale,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_file_is_not_handed_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[name](monkeypatch)
    x = sequences(20)
    loud = x[np.argsort(cells(x))[::-1]]  # the file is run on the first one
    with pytest.raises(TfqError, match=r"LSTM.*computes something else|the runtime refuses"):
        tfq_fine.quantize(content(), "full_int8", data=loud, prefer="size")


@pytest.mark.parametrize("recipe", ["weight_only_int8", "float16"])
def test_so_is_one_that_computes_in_float(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gates_swapped(monkeypatch)
    with pytest.raises(TfqError, match=r"LSTM.*computes something else than its numbers say"):
        tfq_fine.quantize(_larger(), recipe)


def _larger() -> bytes:
    """Beyond the 1024 values below which float16 leaves constants alone."""
    import tf_keras

    given = tf_keras.Input((STEPS, 33), batch_size=1)
    return write(read_model(tf_keras.Model(given, tf_keras.layers.LSTM(37)(given)), check=False).graph)
