"""Every cell that the kernel table calls correct is one that a Keras layer is quantized to in some test."""

import pytest

import tfq_fine
from support.cell_checks import asked_of, problems, sheets
from support.cells import KINDS, Cell, Kind, cells, model_and_recipe
from support.emitted import File
from support.fused_lstms import CODE as LSTM
from support.fused_lstms import INTEGER_CELL, LSTM_CELLS
from tfq_converters.kernels.queries import Target
from tfq_converters.kernels.table import Cell as TableCell
from tfq_converters.kernels.table import load
from tfq_converters.probe.cases import BLOCK
from tfq_fine.request.granularity import Blocks, Granularity, PerChannel, PerTensor
from tfq_fine.request.specs import WeightSpec

LITERT = Target(("litert", "litert-reference"))


def cells_of_litert_alone(kind: Kind) -> list[Cell]:
    """The ways to quantize a layer that tf.lite does not compute."""
    return [cell for cell in cells(kind) if asked_of(kind, cell, LITERT)[1].works and not asked_of(kind, cell)[1].works]


def test_every_cell_that_litert_alone_computes() -> None:
    """Refused for tf.lite, which most files are for too. One test: whose layers they are takes a conversion of each."""
    alone = {kind: some for kind in KINDS if (some := cells_of_litert_alone(kind))}
    assert alone
    every = [(kind, sheet) for kind, some in alone.items() for sheet in sheets(kind, some, LITERT)]
    found = [f"{kind.name}: {wrong}" for kind, sheet in every for _, wrong in problems(sheet)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()], ids=repr)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_lone_dequantize(bits: int, granularity: Granularity) -> None:
    """Of an Embedding whose rows are gathered from the table that it makes: no kernel takes it along."""
    kind = next(kind for kind in KINDS if kind.name == "embedding")
    (cell,) = (
        cell
        for cell in cells(kind)
        if cell.spec.mode == "weight_only"
        and cell.spec.weights == WeightSpec(bits, granularity, False, "round_to_nearest", False)
    )
    content, recipe = model_and_recipe(kind, [cell])
    file = File(tfq_fine.quantize(content, recipe, prefer="size").content)
    (op,) = (op for op in file.ops if op.code == "DEQUANTIZE")
    scales = file.tensors[op.inputs[0]].quantization.scale
    assert file.is_constant(op.inputs[0]) and file.bits(op.inputs[0]) == bits
    assert len(scales) == (1 if granularity == PerTensor() else 13)
    # that both kernels compute it is part of `test_every_possible_cell`, whose cells these are
    assert asked_of(kind, cell)[1].works


# (operator, form) of the kernel table -> the layer that is written with it
LAYERS = {
    ("FULLY_CONNECTED", ""): "dense",
    ("CONV_2D", "3x3"): "conv",
    ("CONV_2D", "1x1"): "pointwise",
    ("CONV_2D", "grouped"): "grouped",
    ("DEPTHWISE_CONV_2D", ""): "depthwise",
    ("TRANSPOSE_CONV", ""): "transposed",
    ("BATCH_MATMUL", ""): "einsum",
    ("EMBEDDING_LOOKUP", ""): "embedding",
    ("GATHER", ""): "embedding",
    ("DEQUANTIZE", ""): "embedding",  # see `test_a_lone_dequantize`
    ("CONV_3D", ""): "conv_three_dimensions",
}


def test_every_cell_that_the_table_calls_correct_has_a_layer() -> None:
    """On whatever runtime, and in whatever form its file holds it; those that no test builds are listed."""
    correct = [cell for cell, runs in load().cells.items() if any(run.status == "correct" for run in runs.values())]
    assert len(correct) > 80
    assert not [cell for cell in correct if not _has_layer(cell)]
    assert not _has_layer(TableCell("CONV_2D", "3x3", "dynamic", 2, "per_channel"))  # which no kernel computes


def _has_layer(cell: TableCell) -> bool:
    if cell.op == LSTM:
        return cell.mode == "float" or any(_is(given, cell) for given in (*LSTM_CELLS, INTEGER_CELL))
    kind = next(kind for kind in KINDS if kind.name == LAYERS[cell.op, cell.form])
    if cell.mode == "float":
        return True  # `float_graph` compares it with nothing, but the tests of reading do, for every layer
    return any(_is(given, cell) for given in cells(kind) if asked_of(kind, given, LITERT)[1].works)


def _is(given: Cell, cell: TableCell) -> bool:
    """Whether a way to quantize a layer is that of a cell of the table."""
    weights, activations = given.spec.weights, given.spec.activations
    assert weights is not None
    size = weights.granularity.size if isinstance(weights.granularity, Blocks) else 0
    kind = (
        "blocks" if size == BLOCK else {PerTensor(): "per_tensor", PerChannel(): "per_channel"}.get(weights.granularity)
    )
    mode = f"{given.spec.mode}{activations.bits if activations else ''}"
    same_mode = mode == cell.mode or (cell.op == "GATHER" and (mode, cell.mode) == ("dynamic", "weight_only"))
    symmetric = weights.symmetric or cell.op == "DEQUANTIZE"
    return same_mode and (weights.bits, kind) == (cell.bits, cell.granularity) and symmetric
