"""The cells of the kernel table, as data: which operators, on which shapes, in which modes, at which weights.

Sides are no multiples of each other wherever the operator leaves a choice, so that swapped axes are noticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tfq_converters.graph import Options
from tfq_converters.kernels import Cell

BLOCK = 32  # inputs that share a scale in granularity "blocks"
BITS = (8, 4, 2)
GRANULARITIES = ("per_tensor", "per_channel", "blocks")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """One operator on given shapes. `channel` and `inputs` are axes of the weight, as in `weights.WeightAxes`."""

    data: Shape  # the shape of the activation, or of the ids for a table
    weight: Shape
    channel: int
    inputs: int | None  # None: no axis that blocks could cut
    options: Options | None = None
    output: Shape | None = None  # where the operator is told


def _options(kind: str, **values: object) -> Options:
    return Options(kind, values)


_UNIT = {"strideW": 1, "strideH": 1}
_CONV = _options("Conv2DOptions", **_UNIT)
FORMS: dict[tuple[str, str], Form] = {
    ("FULLY_CONNECTED", ""): Form(
        (3, 480), (250, 480), 0, 1, _options("FullyConnectedOptions", asymmetricQuantizeInputs=True)
    ),
    ("CONV_2D", "3x3"): Form((2, 9, 7, 64), (27, 3, 3, 64), 0, 3, _CONV),
    ("CONV_2D", "1x1"): Form((2, 13, 9, 96), (54, 1, 1, 96), 0, 3, _CONV),
    ("CONV_2D", "grouped"): Form((2, 9, 7, 64), (54, 3, 3, 32), 0, 3, _CONV),
    ("DEPTHWISE_CONV_2D", ""): Form(
        (2, 13, 9, 96), (1, 3, 3, 96), 3, None, _options("DepthwiseConv2DOptions", **_UNIT, depthMultiplier=1)
    ),
    ("TRANSPOSE_CONV", ""): Form(
        (2, 7, 5, 64), (27, 3, 3, 64), 0, 3, _options("TransposeConvOptions", strideW=2, strideH=2), (2, 14, 10, 27)
    ),
    ("BATCH_MATMUL", ""): Form((2, 11, 192), (192, 108), 1, 0, _options("BatchMatMulOptions")),
    ("EMBEDDING_LOOKUP", ""): Form((37,), (29, 96), 0, 1),
    ("GATHER", ""): Form((37,), (29, 96), 0, 1, _options("GatherOptions")),
    ("DEQUANTIZE", ""): Form((54, 96), (54, 96), 0, 1, _options("AddOptions")),  # read by an ADD
    ("CONV_3D", ""): Form(
        (1, 4, 7, 5, 32), (3, 3, 3, 32, 18), 4, 3, _options("Conv3DOptions", **_UNIT, strideD=1)
    ),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", ""): Form(
        (2, 5, 32), (64, 32), 0, 1,
        _options("UnidirectionalSequenceLSTMOptions", fusedActivationFunction=4, asymmetricQuantizeInputs=True),
    ),
}  # fmt: skip

ALL_MODES = ("weight_only", "dynamic", "integer8", "integer16")
MODES: dict[str, tuple[str, ...]] = {
    "FULLY_CONNECTED": ALL_MODES,
    "CONV_2D": ALL_MODES,
    "DEPTHWISE_CONV_2D": ALL_MODES,
    "TRANSPOSE_CONV": ALL_MODES,
    "BATCH_MATMUL": ALL_MODES,
    "EMBEDDING_LOOKUP": ("weight_only",),  # its result is float: nothing is computed in integers
    "GATHER": ("weight_only", "integer8"),  # rows as codes, and made float after it
    "DEQUANTIZE": ("weight_only",),
    "CONV_3D": ("weight_only",),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("weight_only", "dynamic", "integer8"),  # TFLite has no int16 kernel
}
ONE_SCALE = frozenset({"GATHER"})  # the result has the table's scale, so there can be only one
INTEGER_BITS = {"GATHER": (8,)}  # where the result has the type of the weight


def float_cell(cell: Cell) -> Cell:
    """Return the cell that times are relative to."""
    return Cell(cell.op, cell.form, "float", 32, "")


def _cells() -> Mapping[Cell, Form]:
    cells = {}
    for (op, form), form_case in FORMS.items():
        cells[Cell(op, form, "float", 32, "")] = form_case
        for mode in MODES[op]:
            for bits in INTEGER_BITS.get(op, BITS) if mode == "integer8" else BITS:
                for granularity in GRANULARITIES[:1] if op in ONE_SCALE else GRANULARITIES:
                    if granularity != "blocks" or form_case.inputs is not None:
                        cells[Cell(op, form, mode, bits, granularity)] = form_case
    return cells


CELLS: Mapping[Cell, Form] = _cells()
