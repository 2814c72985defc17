"""The fused LSTM of tf_keras, in every way that the kernel table calls correct, against plain numpy."""

import numpy as np
import pytest

import tfq_fine
from support.cell_checks import DYNAMIC_TOLERANCE, FLOAT_TOLERANCE, float_difference, not_nearest
from support.cells import Cell, grid
from support.emitted import File
from support.fused_lstms import LSTM_CELLS, WEIGHTS, content, lstm, model, operands, run, sequences
from tfq_converters.runtime.runner import Kernels
from tfq_fine.request.recipe import Recipe


def test_numpy_computes_what_the_layer_computes() -> None:
    x = sequences(3)
    _, weights, biases = operands(File(content()))
    expected = np.stack([lstm(sequence, weights, biases) for sequence in x])
    found = np.concatenate([model()(sequence[None]).numpy() for sequence in x])
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 sums and approximations of exp


@pytest.mark.parametrize("cell", LSTM_CELLS, ids=lambda cell: cell.name)
def test_every_possible_cell(cell: Cell) -> None:
    made = tfq_fine.quantize(content(), Recipe("cell", cell.spec), prefer="size").content
    file, spec, x = File(made), cell.spec.weights, sequences(3)
    assert spec is not None
    op, weights, biases = operands(file)
    _, floats, _ = operands(File(content()))
    for slot, stored, weight in zip(WEIGHTS, weights, floats, strict=True):
        assert file.bits(file.stored(op.inputs[slot])) == spec.bits
        assert file.is_constant(op.inputs[slot]) == (cell.spec.mode == "dynamic")
        assert not not_nearest(stored, weight, grid(weight, spec, 0, 1))
    expected = np.stack([lstm(sequence, weights, biases) for sequence in x])
    tolerance = DYNAMIC_TOLERANCE if cell.spec.mode == "dynamic" else FLOAT_TOLERANCE
    both: tuple[Kernels, ...] = ("default", "reference")
    for kernels in both:
        assert not float_difference(run(made, kernels, x), expected, float(np.abs(expected).max()), tolerance)
