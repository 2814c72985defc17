"""The op table against the kernels: what a row claims is true, and what it warns of is really wrong.

Answers are within a step of the float operator on the dequantized inputs, encoded in numpy; those of kernels with
coarse tables run here, and are compared in `test_kernel_arithmetic`.
"""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import single_op
from benchmarks.op_cases import BASE, case, ints, options, weights
from benchmarks.single_op import Case, Job, measure_all
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Tensor
from tfq_converters.kernels.arithmetic.emulated import KERNELS as EMULATED
from tfq_converters.operators.integer_kernels import OPS, KernelRow, misfits
from tfq_converters.quantized import ActivationEncoding, OpEncoding, QuantizedGraph
from tfq_converters.realize.realized import realize
from tfq_converters.runtime.runner import Kernels, Runner

KERNELS: tuple[Kernels, ...] = ("default", "optimized", "reference")
X = (2, 5, 7, 9)
SMALL = {
    "FULLY_CONNECTED": (5, 33, 7),
    "BATCH_MATMUL": (6, 5, 33, 7),
    "CONV_2D": (2, 5, 7, 9, 11, 3),
    "DEPTHWISE_CONV_2D": (2, 5, 7, 9, 3),
    "TRANSPOSE_CONV": (2, 5, 7, 9, 4, 3),
}
SUM = options("AddOptions", potScaleInt16=False)
PRODUCT = options("MulOptions")
DROP, KEEP = options("ReducerOptions", keepDims=False), options("ReducerOptions", keepDims=True)
DEEP, DEEPER = (2, 1, 3, 2, 5), (2, 4, 3, 2, 1)
FULL = options("BatchMatMulOptions", adjX=True, adjY=True)
VARIANTS: dict[str, Case] = {
    "add channels": case("ADD", X, weights(9), o=SUM),
    "add rank 5": case("ADD", DEEP, DEEPER, o=SUM),
    "add far scales": case("ADD", X, X, o=SUM, ranges={1: (-0.003, 0.003)}),
    "add wide output": case("ADD", X, X, o=SUM, result_range=(-3000.0, 3000.0)),
    "add relu": case("ADD", X, X, o=options("AddOptions", potScaleInt16=False, fusedActivationFunction=1)),
    "mul broadcast": case("MUL", (2, 5, 1, 9), (1, 5, 7, 1), o=PRODUCT),
    "mul far scales": case("MUL", X, X, o=PRODUCT, ranges={1: (-0.003, 0.003)}),
    "maximum of a constant": case("MAXIMUM", X, weights(9), o=options("MaximumMinimumOptions")),
    "mean over pixels": case("MEAN", X, ints(1, 2), o=DROP),
    "mean rank 5": case("MEAN", DEEP, ints(1, 3), o=KEEP),
    "mean of all": case("MEAN", X, ints(0, 1, 2, 3), o=DROP),
    "sum over pixels": case("SUM", X, ints(1, 2), o=DROP),
    "maximum over pixels": case("REDUCE_MAX", X, ints(1, 2), o=DROP),
    "softmax of one row": case("SOFTMAX", (1, 37), o=options("SoftmaxOptions", beta=0.5)),
    "softmax wide": case("SOFTMAX", (3, 29), o=options("SoftmaxOptions", beta=1.0), low=-9.0, high=9.0),
    "softmax of 512 equals": case("SOFTMAX", (3, 512), o=options("SoftmaxOptions", beta=1.0), low=-0.01, high=0.01),
    "logistic wide": case("LOGISTIC", X, low=-12.0, high=12.0),
    "tanh wide": case("TANH", X, low=-9.0, high=9.0),
    "gelu tanh": case("GELU", X, o=options("GeluOptions", approximate=True)),
    "leaky relu above 1": case("LEAKY_RELU", X, o=options("LeakyReluOptions", alpha=1.7)),
    "prelu of pixels": case("PRELU", X, 0.3 * weights(5, 7, 9)),
    "dense without bias": case("FULLY_CONNECTED", (5, 33), weights(7, 33), None, o=options("FullyConnectedOptions")),
    "dense rank 3": case(
        "FULLY_CONNECTED", (3, 5, 33), weights(7, 33), weights(7), o=options("FullyConnectedOptions", keepNumDims=True)
    ),
    "conv grouped": case(
        "CONV_2D", X, weights(6, 3, 3, 3), weights(6), o=options("Conv2DOptions", strideW=1, strideH=1)
    ),
    "conv strided": case(
        "CONV_2D", X, weights(11, 3, 2, 9), weights(11), o=options("Conv2DOptions", strideW=2, strideH=2, padding=1)
    ),
    "depthwise multiplied": case(
        "DEPTHWISE_CONV_2D",
        X,
        weights(1, 3, 2, 18),
        weights(18),
        o=options("DepthwiseConv2DOptions", strideW=2, strideH=2, depthMultiplier=2),
    ),
    "matmul adjoint": case("BATCH_MATMUL", (2, 3, 33, 5), (2, 3, 7, 33), o=FULL),
    "matmul of a constant": case("BATCH_MATMUL", (2, 3, 5, 33), weights(33, 7), o=options("BatchMatMulOptions")),
    "concatenation of five": case("CONCATENATION", *[(2, 3)] * 5, o=options("ConcatenationOptions", axis=1)),
    "select broadcast": case(
        "SELECT_V2", (5, 1, 9), X, np.array([-1.5], np.float32), o=options("SelectV2Options"), bool_slots=(0,)
    ),
    "slice backwards": case(
        "STRIDED_SLICE", X, ints(1, 4, 6, 8), ints(0, 0, 1, 0), ints(-1, -2, -1, -3), o=options("StridedSliceOptions")
    ),
    "bilinear uneven": case(
        "RESIZE_BILINEAR", X, ints(11, 13), o=options("ResizeBilinearOptions", halfPixelCenters=True)
    ),
    "pad rank 5": case("PAD", DEEP, ints((0, 0), (1, 0), (0, 0), (0, 2), (1, 1)), o=options("PadOptions")),
    "less, scale just fine enough": case("LESS", X, X, low=-0.85, high=0.85),
    "less, scale just below 1": case("LESS", X, X, low=-90.0, high=90.0),
    "equal, scale just fine enough": case("EQUAL", X, X, low=-0.85, high=0.85),
}


def _jobs(name: str, given: Case) -> dict[str, Job]:
    row = OPS[given.code]
    if row.int8_zero_point == 0:
        given = replace(given, low=-3.0, high=3.0)
    return {
        f"{name} {dtype} {kernels} {seed}": (given, row, dtype, kernels, seed, True)
        for dtype in ("int8", "int16")
        if row.takes(dtype) and dtype not in row.written
        for kernels in KERNELS
        if kernels not in row.wrong_on
        for seed in (101, 102)
    }


def _true_jobs() -> dict[str, Job]:
    found: dict[str, Job] = {}
    for code, make in BASE.items():
        found |= _jobs(code, make(SMALL.get(code, X)))
    for name, given in VARIANTS.items():
        found |= _jobs(name, given)
    return found


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, float] | str]:
    """What every true job gave; one child process runs them, a crash ends only its own job."""
    jobs = _true_jobs()
    return dict(zip(jobs, measure_all(list(jobs.values())), strict=True))


ELSEWHERE = {"UNIDIRECTIONAL_SEQUENCE_LSTM": "test_fused_lstm_integer.py: it has states, and weights by the dozen"}
NATIVE = [
    code
    for code, row in OPS.items()
    if code not in ELSEWHERE and any(row.takes(d) and d not in row.written for d in ("int8", "int16"))
]
WRITTEN = [(code, dtype) for code, row in OPS.items() for dtype in row.written]


@pytest.mark.parametrize("code", NATIVE)
def test_row_holds_on_its_kernels(code, answers):
    jobs = {name: job for name, job in _true_jobs().items() if job[0].code == code}
    assert jobs, f"no case for {code}"
    wrong = []
    for name, (_, _, dtype, *_) in jobs.items():
        answer = answers[name]
        if isinstance(answer, str) or (answer[0] > 1 and (code, dtype) not in EMULATED):
            wrong.append(f"{name}: {answer}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("code", "dtype"), WRITTEN)
def test_a_written_operator_holds(code, dtype, kernels):
    """What `realize.rewrites` makes of the operators that have no right kernel."""
    given, row = BASE[code](X), OPS[code]
    for seed in (101, 102):
        operands = single_op.encode(given, row, dtype, seed)
        (exact,) = single_op.float_run(given, operands.values, ["float32"])
        (form,) = single_op.output_encodings(row, operands, dtype, [exact])
        graph = single_op.float_graph(given, operands.values, [Tensor("out", exact.shape, "float32")])
        ends = dict(zip(graph.main.inputs + graph.main.outputs, (operands.encodings[0], form), strict=True))
        encoding = OpEncoding("integer", inputs={0: operands.encodings[0]}, outputs={0: form})
        quantized = QuantizedGraph(graph, {(0, 0): encoding}, {(0, t): end for t, end in ends.items()})
        (found,) = Runner(write(realize(quantized).graph), kernels).run([operands.codes[0]])
        gap = np.abs(found.astype(int) - form.encode(exact).astype(int)).max()
        assert gap <= 1


def _wrong(given: Case, row: KernelRow, dtype: str, kernels: Kernels = "default") -> Job:
    return given, row, dtype, kernels, 101, True


WRONG: dict[str, Job] = {
    "sum on the reference kernels": _wrong(BASE["SUM"](X), OPS["SUM"], "int8", "reference"),
    "maximum of two scales": _wrong(BASE["MAXIMUM"](X), replace(OPS["MAXIMUM"], scales="free"), "int8"),
    "less at a fine scale": _wrong(case("LESS", X, X, low=-0.01, high=0.01), OPS["LESS"], "int8"),
    "less at scale 2": _wrong(case("LESS", X, X, low=-256.0, high=256.0), OPS["LESS"], "int8"),
    "equal int16": _wrong(case("EQUAL", X, X, low=-0.1, high=0.1), replace(OPS["EQUAL"], int16=True), "int16"),
    "prelu int16": _wrong(BASE["PRELU"](X), OPS["PRELU"], "int16"),
    "neg": _wrong(case("NEG", X), OPS["NEG"], "int8"),
    "division of small numerators": _wrong(
        case("DIV", X, X, o=options("DivOptions"), ranges={0: (-0.05, 0.05), 1: (0.1, 3.0)}, result_range=(-9, 9)),
        OPS["DIV"],
        "int8",
    ),
    "division int16 of small numerators": _wrong(
        case("DIV", X, X, o=options("DivOptions"), ranges={0: (-2e-4, 2e-4), 1: (0.1, 3.0)}, result_range=(-30, 30)),
        OPS["DIV"],
        "int16",
    ),
    "diagonal with a zero point": _wrong(
        case("MATRIX_DIAG", X, o=options("MatrixDiagOptions"), low=-1.0, high=3.0), OPS["MATRIX_DIAG"], "int8"
    ),
    "product of a row": _wrong(case("REDUCE_PROD", X, ints(1, 3), o=KEEP, high=1.1), OPS["REDUCE_PROD"], "int8"),
    "scatter with a zero point": _wrong(
        case("SCATTER_ND", ints((2, 2)).reshape(2, 1), (2, 5, 7), ints(4, 5, 7), o=options("ScatterNdOptions")),
        OPS["SCATTER_ND"],
        "int8",
    ),
    "scatter of repeated indices": _wrong(
        case("SCATTER_ND", ints(2, 2).reshape(2, 1), (2, 5, 7), ints(4, 5, 7), o=options("ScatterNdOptions")),
        OPS["SCATTER_ND"],
        "int8",
    ),
    "matmul with a scale per column": _wrong(
        case("BATCH_MATMUL", (3, 5, 33), weights(33, 7), o=options("BatchMatMulOptions"), weight=(1, 1)),
        OPS["BATCH_MATMUL"],
        "int8",
    ),
}
REFUSED: dict[str, Job] = {
    "elu on the reference kernels": _wrong(BASE["ELU"](X), OPS["ELU"], "int8", "reference"),
    "softmax of 600 on the reference kernels": _wrong(
        case("SOFTMAX", (3, 600), o=options("SoftmaxOptions", beta=1.0), low=-0.01, high=0.01),
        OPS["SOFTMAX"],
        "int8",
        "reference",
    ),
    "reverse sequence": _wrong(BASE["REVERSE_SEQUENCE"](X), OPS["REVERSE_SEQUENCE"], "int8"),
    "hard swish int16": _wrong(BASE["HARD_SWISH"](X), OPS["HARD_SWISH"], "int16"),
    "log softmax int16": _wrong(
        BASE["LOG_SOFTMAX"](X), replace(OPS["LOG_SOFTMAX"], fixed={"int16": (2**-11, 0)}), "int16"
    ),
    "tile version 3 on the reference kernels": _wrong(
        BASE["TILE"](X), replace(OPS["TILE"], version_int8=3), "int8", "reference"
    ),
}


def test_what_is_called_wrong_is_wrong():
    """A tenth of a range, or a hundredth of the answers of a comparison: nothing that rounding explains."""
    found = dict(zip(WRONG, measure_all(list(WRONG.values())), strict=True))
    fine = []
    for name, answer in found.items():
        assert not isinstance(answer, str), f"{name}: {answer}"
        row, dtype = WRONG[name][1:3]
        if answer[0] < (1 if row.outputs == () else 25 if dtype == "int8" else 3000) and answer[1] < 0.5:
            fine.append(f"{name}: {answer}")
    assert not fine, fine


def test_what_is_called_refused_is_refused():
    found = dict(zip(REFUSED, measure_all(list(REFUSED.values())), strict=True))
    assert not [name for name, answer in found.items() if not isinstance(answer, str)]


def test_every_row_has_a_case():
    without = {code for code, row in OPS.items() if (row.int8 or row.int16) and code not in {*BASE, *ELSEWHERE}}
    assert not without


@pytest.mark.parametrize(
    ("code", "dtype", "shape", "inputs", "outputs", "expected"),
    [
        ("ADD", "int8", X, [(0.1, 3), (0.2, -7)], [(0.3, 0)], None),
        ("MAXIMUM", "int8", X, [(0.1, 3), (0.1, 3)], [(0.1, 3)], None),
        ("MAXIMUM", "int8", X, [(0.1, 3), (0.1, 4)], [(0.1, 3)], "share one scale"),
        ("SELECT_V2", "int16", X, [(0.1, 0), (0.2, 0)], [(0.1, 0)], "share one scale"),
        ("SOFTMAX", "int8", X, [(0.1, 3)], [(1 / 256, -128)], None),
        ("SOFTMAX", "int8", X, [(0.1, 3)], [(1 / 256, 0)], "scale and zero point"),
        ("LESS", "int8", X, [(0.001, 3), (0.001, 3)], [], "input scale 0.001"),
        ("LESS", "int8", X, [(1.5, 3), (1.5, 3)], [], "input scale 1.5"),
        ("LESS", "int16", X, [(0.001, 0), (0.001, 0)], [], None),
        ("DIV", "int8", X, [(0.02, 0), (0.01, -128)], [(0.04, 0)], "at least 64"),
        ("DIV", "int8", X, [(0.02, 0), (0.01, -128)], [(0.03, 0)], None),
        ("BATCH_MATMUL", "int8", (1,) * 6, [(0.1, 0), (0.1, 0)], [(0.1, 0)], "rank 6"),
        ("MATRIX_DIAG", "int8", X, [(0.1, 5)], [(0.1, 5)], "zero point must be 0"),
        ("LOG", "int16", X, [(0.1, 0)], [(0.1, 0)], None),
        ("PRELU", "int16", X, [(0.1, 0), (0.1, 0)], [(0.1, 0)], "no right int16 kernel"),
        ("SIN", "int8", X, [(0.1, 0)], [(0.1, 0)], "no right int8 kernel"),
    ],
)
def test_misfits(code, dtype, shape, inputs, outputs, expected):
    encodings = [[ActivationEncoding(dtype, *pair) for pair in side] for side in (inputs, outputs)]
    found = misfits(code, dtype, shape, *encodings)
    assert (found == []) if expected is None else (len(found) == 1 and expected in found[0])


@pytest.mark.parametrize(("lowest", "fits"), [(0.1, True), (0.01, False), (0.0, False)])
def test_int16_logarithms_are_right_away_from_zero(lowest, fits):
    form = ActivationEncoding("int16", 1 / 32767, 0)
    assert (misfits("LOG", "int16", X, [form], [form], lowest) == []) == fits


def test_a_division_within_its_limit_is_a_case():
    """The DIV case must lie inside the limit that the row states, or the row would be tested outside its claim."""
    built = single_op.encode(BASE["DIV"](X), OPS["DIV"], "int8", 101)
    output = single_op.encoding(-2, 2, "int8", 0.95)
    assert misfits("DIV", "int8", X, list(built.encodings.values()), [output]) == []


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("code", "high"), [("RELU", 2.7), ("RELU6", 6.0)])
def test_a_clamp_is_a_requantization(code, high, kernels):
    """As the notes of the rows say, for every code: the same ends, and between them a step where halves round apart."""
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    ends = (
        single_op.activation("i", codes.shape, single_op.encoding(-5.1, 8.3, "int8")),
        single_op.activation("o", codes.shape, single_op.encoding(0.0, high, "int8")),
    )
    clamp, plain = (single_op.one_op_graph(c, ends, v) for c, v in ((code, 2), ("QUANTIZE", 1)))
    (expected,), (found,) = (Runner(write(graph), kernels).run([codes]) for graph in (clamp, plain))
    assert expected.min() == -128
    assert expected.max() == 127
    np.testing.assert_allclose(found.astype(int), expected.astype(int), rtol=0, atol=1)
    np.testing.assert_array_equal(found == -128, expected == -128)
