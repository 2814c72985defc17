"""One case of every operator of the op table as a function of a shape: small for tests, large for timings."""

from collections.abc import Callable

import numpy as np

from benchmarks.single_op import Case, Operand
from tfq_converters.graph import Options

Shape = tuple[int, ...]
Make = Callable[[Shape], Case]
_UNARY = ["ABS", "EXP", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ELU", "TANH", "LOGISTIC", "HARD_SWISH"]
_POSITIVE = ["LOG", "SQRT", "RSQRT"]
_COMPARE = ["EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"]
_REDUCE = ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"]


def options(kind: str, **values: object) -> Options:
    """Return the options table `kind`, other fields at their defaults."""
    return Options(kind, values)


def ints(*values: int | tuple[int, int]) -> np.ndarray:
    """Return a constant of shapes, axes or paddings."""
    return np.array(values, np.int32)


def weights(*shape: int) -> np.ndarray:
    """Return a float constant of standard normal values, the same for the same shape."""
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def case(code: str, *inputs: Operand | float, o: Options | None = None, **fields: object) -> Case:
    """Return a case whose plain integer operands are int32 scalars, and floats float32 scalars."""
    kinds = {int: np.int32, float: np.float32}
    operands = tuple(np.array(i, kinds[type(i)]) if type(i) in kinds else i for i in inputs)
    return Case(code, operands, o, **fields)  # type: ignore[arg-type]


def _over(code: str, operands: int = 1, axis: Operand = None, o: Options | None = None, **fields: float) -> Make:
    """Return an operator on `operands` tensors of the given shape, and a constant after them."""
    after = () if axis is None else (axis,)
    return lambda s: case(code, *[s] * operands, *after, o=o, **fields)


def _linear() -> dict[str, Make]:
    """Return the linear operators, made from shapes.

    FULLY_CONNECTED (rows, inputs, outputs), BATCH_MATMUL (batch, rows, inner, columns), convolutions (batch, height,
    width, inputs, outputs, kernel), depthwise without outputs.
    """
    unit = {"strideW": 1, "strideH": 1}
    dw = options("DepthwiseConv2DOptions", **unit, depthMultiplier=1)
    twice = options("TransposeConvOptions", strideW=2, strideH=2)
    return {
        "FULLY_CONNECTED": lambda s: case(
            "FULLY_CONNECTED", s[:2], weights(s[2], s[1]), weights(s[2]), o=options("FullyConnectedOptions")
        ),
        "CONV_2D": lambda s: case(
            "CONV_2D", s[:4], weights(s[4], s[5], s[5], s[3]), weights(s[4]), o=options("Conv2DOptions", **unit)
        ),
        "DEPTHWISE_CONV_2D": lambda s: case(
            "DEPTHWISE_CONV_2D", s[:4], weights(1, s[4], s[4], s[3]), weights(s[3]), o=dw
        ),
        "TRANSPOSE_CONV": lambda s: case(
            "TRANSPOSE_CONV",
            ints(s[0], 2 * s[1], 2 * s[2], s[4]),
            weights(s[4], s[5], s[5], s[3]),
            s[:4],
            weights(s[4]),
            o=twice,
        ),
        "BATCH_MATMUL": lambda s: case(
            "BATCH_MATMUL", s[:3], (s[0], s[2], s[3]), o=options("BatchMatMulOptions", adjX=False, adjY=False)
        ),
    }


def _elementwise() -> dict[str, Make]:
    exact = {"potScaleInt16": False}
    sum_options = {"ADD": options("AddOptions", **exact), "SUB": options("SubOptions", **exact)}
    limits = options("MaximumMinimumOptions")
    makers = {code: _over(code) for code in _UNARY}
    makers |= {code: _over(code, low=0.1, high=5.0) for code in _POSITIVE}
    makers |= {code: _over(code, 2) for code in (*_COMPARE, "SQUARED_DIFFERENCE")}
    makers |= {code: _over(code, 2, o=sum_options[code]) for code in sum_options}
    makers |= {code: _over(code, 2, o=limits) for code in ("MAXIMUM", "MINIMUM")}
    makers |= {code: _over(code) for code in ("SQUARE", "NEG", "ZEROS_LIKE")}
    return makers | {
        "MUL": lambda s: case("MUL", s, s, o=options("MulOptions")),
        "DIV": lambda s: case("DIV", s, s, o=options("DivOptions"), ranges={1: (2.0, 3.0)}, result_range=(-2, 2)),
        "GELU": lambda s: case("GELU", s, o=options("GeluOptions")),
        "LEAKY_RELU": lambda s: case("LEAKY_RELU", s, o=options("LeakyReluOptions", alpha=0.2)),
        "PRELU": lambda s: case("PRELU", s, 0.3 * weights(1, 1, s[-1])),
        "SOFTMAX": lambda s: case("SOFTMAX", s, o=options("SoftmaxOptions", beta=1.0)),
        "LOG_SOFTMAX": lambda s: case("LOG_SOFTMAX", s, o=options("LogSoftmaxOptions")),
        "L2_NORMALIZATION": lambda s: case("L2_NORMALIZATION", s, o=options("L2NormOptions")),
        "SELECT": lambda s: case("SELECT", s, s, s, o=options("SelectOptions"), bool_slots=(0,)),
        "SELECT_V2": lambda s: case("SELECT_V2", s, s, s, o=options("SelectV2Options"), bool_slots=(0,)),
    }


def _reducing() -> dict[str, Make]:
    keep = options("ReducerOptions", keepDims=True)
    pool = options("Pool2DOptions", strideW=2, strideH=2, filterWidth=3, filterHeight=2)
    makers = {code: _over(code, axis=ints(-1), o=keep) for code in _REDUCE}
    return makers | {
        "ARG_MAX": lambda s: case("ARG_MAX", s, -1, o=options("ArgMaxOptions", outputType=2)),
        "ARG_MIN": lambda s: case("ARG_MIN", s, -1, o=options("ArgMinOptions", outputType=2)),
        "TOPK_V2": lambda s: case("TOPK_V2", s, 4, o=options("TopKV2Options"), results=2),
        "MAX_POOL_2D": lambda s: case("MAX_POOL_2D", s, o=pool),
        "AVERAGE_POOL_2D": lambda s: case("AVERAGE_POOL_2D", s, o=pool),
    }


def _moving() -> dict[str, Make]:
    padding = ints((0, 0), (1, 2), (2, 1), (0, 0))
    padv2 = options("PadV2Options")
    half = {"halfPixelCenters": True}
    return {
        "RESIZE_BILINEAR": lambda s: case(
            "RESIZE_BILINEAR", s, ints(2 * s[1], 2 * s[2]), o=options("ResizeBilinearOptions", **half)
        ),
        "RESIZE_NEAREST_NEIGHBOR": lambda s: case(
            "RESIZE_NEAREST_NEIGHBOR", s, ints(2 * s[1], 2 * s[2]), o=options("ResizeNearestNeighborOptions", **half)
        ),
        "RESHAPE": lambda s: case("RESHAPE", s, ints(s[0], -1), o=options("ReshapeOptions", newShape=[s[0], -1])),
        "SQUEEZE": lambda s: case("SQUEEZE", (1, *s), o=options("SqueezeOptions", squeezeDims=[0])),
        "EXPAND_DIMS": lambda s: case("EXPAND_DIMS", s, 1, o=options("ExpandDimsOptions")),
        "TRANSPOSE": lambda s: case("TRANSPOSE", s, ints(0, 3, 1, 2), o=options("TransposeOptions")),
        "CONCATENATION": lambda s: case("CONCATENATION", s, s, o=options("ConcatenationOptions", axis=3)),
        "PACK": lambda s: case("PACK", s, s, o=options("PackOptions", valuesCount=2, axis=1)),
        "UNPACK": lambda s: case("UNPACK", s, o=options("UnpackOptions", num=s[1], axis=1), results=s[1]),
        "SPLIT": lambda s: case("SPLIT", 1, s, o=options("SplitOptions", numSplits=s[1]), results=s[1]),
        "SPLIT_V": lambda s: case(
            "SPLIT_V", s, ints(s[1] - 1, 1), 1, o=options("SplitVOptions", numSplits=2), results=2
        ),
        "SLICE": lambda s: case(
            "SLICE", s, ints(0, 1, 1, 0), ints(-1, s[1] - 1, s[2] - 2, -1), o=options("SliceOptions")
        ),
        "STRIDED_SLICE": lambda s: case(
            "STRIDED_SLICE", s, ints(0, 1, 0, 0), ints(*s), ints(1, 2, 1, 1), o=options("StridedSliceOptions")
        ),
        "GATHER": lambda s: case("GATHER", s, ints(*range(s[1])), o=options("GatherOptions", axis=1)),
        "GATHER_ND": lambda s: case("GATHER_ND", s, ints(*((0, i) for i in range(s[1]))), o=options("GatherNdOptions")),
        "PAD": lambda s: case("PAD", s, padding, o=options("PadOptions")),
        "PADV2": lambda s: case("PADV2", s, padding, np.array([1.3], np.float32), o=padv2),
        "MIRROR_PAD": lambda s: case("MIRROR_PAD", s, padding, o=options("MirrorPadOptions", mode=0)),
        "TILE": lambda s: case("TILE", s, ints(1, 1, 1, 2), o=options("TileOptions")),
        "BROADCAST_TO": lambda s: case("BROADCAST_TO", (1, *s[1:]), ints(2, *s[1:]), o=options("BroadcastToOptions")),
        "REVERSE_V2": lambda s: case("REVERSE_V2", s, ints(1), o=options("ReverseV2Options")),
        "REVERSE_SEQUENCE": lambda s: case(
            "REVERSE_SEQUENCE", s, ints(*[s[1]] * s[0]), o=options("ReverseSequenceOptions", seqDim=1, batchDim=0)
        ),
        "DEPTH_TO_SPACE": lambda s: case(
            "DEPTH_TO_SPACE", (*s[:3], 4 * s[3]), o=options("DepthToSpaceOptions", blockSize=2)
        ),
        "SPACE_TO_DEPTH": lambda s: case(
            "SPACE_TO_DEPTH", (s[0], 2 * s[1], 2 * s[2], s[3]), o=options("SpaceToDepthOptions", blockSize=2)
        ),
        "BATCH_TO_SPACE_ND": lambda s: case(
            "BATCH_TO_SPACE_ND",
            (4 * s[0], *s[1:]),
            ints(2, 2),
            ints((1, 0), (0, 1)),
            o=options("BatchToSpaceNDOptions"),
        ),
        "SPACE_TO_BATCH_ND": lambda s: case(
            "SPACE_TO_BATCH_ND", s, ints(2, 2), ints((0, s[1] % 2), (s[2] % 2, 0)), o=options("SpaceToBatchNDOptions")
        ),
        "DYNAMIC_UPDATE_SLICE": lambda s: case(
            "DYNAMIC_UPDATE_SLICE", s, (s[0], 1, *s[2:]), ints(0, 2, 0, 0), o=options("DynamicUpdateSliceOptions")
        ),
        "MATRIX_SET_DIAG": lambda s: case(
            "MATRIX_SET_DIAG", s, (*s[:2], min(s[2:])), o=options("MatrixSetDiagOptions")
        ),
        "MATRIX_DIAG": lambda s: case("MATRIX_DIAG", s, o=options("MatrixDiagOptions"), low=-3.0, high=3.0),
        "SCATTER_ND": lambda s: case(
            "SCATTER_ND",
            ints(3, 0).reshape(2, 1),
            (2, *s[1:]),
            ints(5, *s[1:]),
            o=options("ScatterNdOptions"),
        ),
        "SPARSE_TO_DENSE": lambda s: case(
            "SPARSE_TO_DENSE",
            ints((0, 3), (1, 0), (2, 2)),
            ints(3, s[-1]),
            (3,),
            np.array(0.7, np.float32),
            o=options("SparseToDenseOptions", validateIndices=True),
        ),
        "FILL": lambda s: case("FILL", ints(*s), (), o=options("FillOptions")),
        "ONE_HOT": lambda s: case("ONE_HOT", ints(*range(s[1])), s[3], 1.0, 0.0, o=options("OneHotOptions", axis=-1)),
    }


BASE: dict[str, Make] = _linear() | _elementwise() | _reducing() | _moving()
