"""What must hold for a file with one layer for each way to quantize it.

Its numbers are the nearest of the grid that was asked for, and both kernels compute what numpy computes of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

import tfq_fine
from support.cells import Cell, Grid, Kind, bias_of, float_graph, grid, inputs, linear_op, model_and_recipe, weight_of
from support.emitted import File, Linear
from tfq_converters.kernels.queries import Target
from tfq_converters.kernels.realizations import Answer, Fineness, form_of
from tfq_converters.quantized import Form
from tfq_converters.runtime.runner import Kernels, Runner
from tfq_fine.api import Result
from tfq_fine.request.granularity import Blocks, PerChannel, PerTensor
from tfq_fine.request.specs import GRANULARITIES, OpSpec, WeightSpec
from tfq_fine.variants.transform_table import TRANSFORMS

FLOAT_TOLERANCE = 1e-5  # of the largest sum: float32 sums of up to 315 products, in another order
DYNAMIC_TOLERANCE = 2e-2  # of the largest sum: kernels quantize the activations to 8 bits, over a row or an image
INT16_MULTIPLIER = 2.0**-15  # of the value: these kernels rescale by factors of 15 bits, at least half of which is used
TIE = 1e-4  # of a step: float32 divisions round values that lie so near the middle of two codes either way


def asked_of(kind: Kind, cell: Cell, target: Target | None = None) -> tuple[OpSpec, Answer]:
    """What the planner has to find a form for, and the form that there is."""
    spec = cell.spec
    weights = spec.weights
    assert weights is not None
    if kind.code == "GATHER" and spec.activations is not None:
        if weights.bits == spec.activations.bits == 8 and weights.granularity in (PerTensor(), PerChannel()):
            weights = replace(weights, granularity=PerTensor())  # rows are activations
            spec = replace(spec, weights=weights)
        else:  # rows are read in float, and quantized then
            spec = OpSpec("dynamic", weights)
    name = next(name for name, cls in GRANULARITIES.items() if isinstance(weights.granularity, cls))
    size = weights.granularity.size if isinstance(weights.granularity, Blocks) else 0
    bits = spec.activations.bits if spec.activations else None
    graph = float_graph(kind)
    wanted = Fineness(spec.mode, weights.stored_bits, name, size, bits, weights.symmetric)
    return spec, form_of(linear_op(graph, kind.code), graph.main, wanted, target)


def may_get_less(cell: Cell) -> bool:
    """A rigid recipe holds to fewer bits than 8 and to blocks; 8 bits are given in another mode where they have to."""
    weights = cell.spec.weights
    return weights is not None and weights.bits == 8 and not isinstance(weights.granularity, Blocks)


@dataclass(frozen=True)
class Sheet:
    """A file with a layer for each cell."""

    kind: Kind
    cells: list[Cell]
    result: Result
    weights: list[np.ndarray]  # float, of each cell
    biases: list[np.ndarray | None]
    slow: Kernels  # the kernels besides the default ones
    target: Target

    @property
    def batch(self) -> int:
        return self.kind.batch or 3


def sheets(kind: Kind, wanted: Sequence[Cell], target: Target = Target()) -> list[Sheet]:  # noqa: B008
    """Files with all of `wanted`.

    Blockwise forms are apart: the reference kernels skip their weights without a word, so that those run on the
    optimized ones.
    """
    ways: dict[Kernels, list[Cell]] = {"reference": [], "optimized": []}
    for cell in wanted:
        ways["optimized" if asked_of(kind, cell, target)[1].form == "blockwise" else "reference"].append(cell)
    found = []
    for slow, some in ways.items():
        if some:
            content, recipe = model_and_recipe(kind, some)
            result = tfq_fine.quantize(
                content,
                recipe,
                data=inputs(kind, 8),
                prefer="size",
                batch_size=kind.batch or 1,
                transforms=[name for name in TRANSFORMS if name != "islands"],  # which would hide what is asked for
                runtimes=target.runtimes,
            )
            graph, every = result.quantized.graph, range(len(some))
            weights, biases = ([of(kind, graph, n) for n in every] for of in (weight_of, bias_of))
            found.append(Sheet(kind, some, result, weights, biases, slow, target))
    return found


def beside_ties(file: File, x: np.ndarray) -> np.ndarray:
    """`x` without the values that the kernels may round either way: to int16, half a step is a matter of float32."""
    forms = [file.affine(op.outputs[0]) for op in file.ops if op.code == "QUANTIZE" and op.inputs[0] in file.inputs]
    while True:
        tie = np.zeros(x.shape, bool)
        for form in forms:
            tie |= np.abs(x / form.scale % 1 - 0.5) < 0.01
        if not tie.any():
            return x
        x = np.where(tie, x * np.float32(0.99), x)


def decision(sheet: Sheet, n: int):  # type: ignore[no-untyped-def]
    """What cell `n` got."""
    ops = [o for o, op in enumerate(sheet.result.quantized.graph.main.ops) if op.code == sheet.kind.code]
    return sheet.result.plan[0, ops[n]]


def stored_weight(kind: Kind, linear: Linear, spec: WeightSpec, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of a layer as its file has it, in the layout of the float weight."""
    if kind.code == "GATHER":
        return _stored_table(linear, spec, shape)
    matrix = linear.code == "FULLY_CONNECTED"
    axis = 1 if matrix else kind.inputs
    found = linear.weight(axis if axis is not None else 0)
    if matrix:
        assert not found[:, shape[-1] :].any(), "what fills up the inputs is not zero"
        found = found[:, : shape[-1]]
    return found.reshape(shape)


def _stored_table(linear: Linear, spec: WeightSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Blocks may be rows of their own; zeros fill rows to whole bytes."""
    rows, depth = shape
    found = linear.weight(0)
    if len(found) != rows:
        assert isinstance(spec.granularity, Blocks)
        found = found[:, : spec.granularity.size].reshape(rows, -1)
    return found[:, :depth]


def grid_of(kind: Kind, weight: np.ndarray, spec: WeightSpec, form: Form) -> Grid:
    blocks = isinstance(spec.granularity, Blocks)
    in_kernel = blocks and (form == "blockwise" or (form == "lookup" and _kernel_reads_blocks(spec, weight.shape[1])))
    multiplied = blocks and form == "dequantize" and spec.symmetric
    stored = ml_dtypes.bfloat16 if in_kernel else np.float16 if multiplied else np.float32
    return grid(weight, spec, kind.channel, kind.inputs, form == "split", stored)


def _kernel_reads_blocks(spec: WeightSpec, depth: int) -> bool:
    assert isinstance(spec.granularity, Blocks)
    return (
        spec.stored_bits == 4 and spec.granularity.size in (32, 64, 128, 256, 512) and not depth % spec.granularity.size
    )


def not_nearest(stored: np.ndarray, weight: np.ndarray, numbers: Grid) -> str:
    """ "" when every stored value is one of the grid, and none of the grid is nearer to the float value."""
    codes = stored / numbers.scale + numbers.zero_point
    off = float(np.abs(codes - np.rint(codes)).max())
    if off > 1e-3:  # scales in float32, times codes of at most 127
        return f"a value lies {off:.2g} steps off the grid"
    if codes.min() < numbers.lowest - 0.5 or codes.max() > numbers.highest + 0.5:
        return f"codes {codes.min():.0f} to {codes.max():.0f}, beyond {numbers.lowest} to {numbers.highest}"
    best = np.abs(numbers.nearest(weight) - weight)
    worse = (np.abs(stored - weight) - best) / numbers.scale
    return f"a value is {worse.max():.2g} steps farther than the nearest" if worse.max() > TIE else ""


def wrong_bias(linear: Linear, expected: np.ndarray | None) -> str:
    """ "" when the bias is the float one, up to half a step where it is in integers (and the float32 scale of many)."""
    found = linear.bias()
    if found is None or expected is None:
        return "" if (found is None or not found.any()) and expected is None else f"{found}, where it was {expected}"
    away = np.abs(found - expected)
    return "" if (away <= 0.51 * linear.bias_step() + 1e-6 * np.abs(expected)).all() else f"bias {away.max():.2g} away"


def linear_output(kind: Kind, linear: Linear, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    y, bias = kind.compute(x, weight), linear.bias()
    return y if bias is None else y + bias


def float_difference(y: np.ndarray, expected: np.ndarray, largest: float, tolerance: float) -> str:
    away = float(np.abs(y - expected).max()) / largest
    return "" if away <= tolerance else f"{away:.2g} of the largest sum away, {tolerance:g} allowed"


def integer_difference(file: File, output: int, linear: Linear, y: np.ndarray, expected: np.ndarray) -> str:
    """One step, as the rounding of the accumulator may fall; int16 codes have more digits than the kernels' factors.
    Of a split: and in steps of the int16 partial sums, one for each part and each addition."""
    dequantize = file.maker(output)
    assert dequantize is not None and dequantize.code == "DEQUANTIZE"
    form = file.affine(dequantize.inputs[0])
    away = np.abs(form.codes(y) - form.codes(expected)).max()
    allowed = 1.0 if form.bits == 8 else 1.0 + INT16_MULTIPLIER * np.abs(form.codes(expected)).max()
    if len(linear.ops) > 1:
        allowed += (2 * len(linear.ops) - 1) * linear.partial().scale / form.scale
    return "" if away <= allowed else f"{away:.0f} steps away, {allowed:.1f} allowed"


def problems_of_cell(
    sheet: Sheet, file: File, n: int, x: np.ndarray, runs: dict[Kernels, list[np.ndarray]]
) -> Iterator[tuple[str, str]]:
    """(which check, what it found: "" for nothing)."""
    kind, found = sheet.kind, decision(sheet, n)
    spec, answer = asked_of(kind, sheet.cells[n], sheet.target)
    if answer.works and spec.mode != cell_mode(found):
        yield "plan", f"mode {cell_mode(found)}"
    if answer.works and (found.form, found.spec) != (answer.form, given(spec, answer)):
        yield "plan", f"{found.form}, {found.spec}"
    if found.spec is None or found.spec.weights is None:
        yield "plan", "stayed float"
        return
    linear = file.linear(file.outputs[n])
    if linear.bits() != {found.spec.weights.stored_bits}:
        yield "storage", f"stored in {linear.bits()} bits"
    stored = stored_weight(kind, linear, found.spec.weights, sheet.weights[n].shape)
    integer = found.spec.mode == "integer"
    if not (integer and kind.code == "GATHER"):  # such a table has the encoding of an activation
        numbers = grid_of(kind, sheet.weights[n], found.spec.weights, found.form)
        yield "grid", not_nearest(stored, sheet.weights[n], numbers)
    yield "bias", wrong_bias(linear, sheet.biases[n])
    seen = file.affine(linear.data()).seen(x) if integer and kind.code != "GATHER" else x
    summed = linear_output(kind, linear, seen, stored)
    expected, largest = kind.activation(summed), float(np.abs(summed).max())
    for kernels, outputs in runs.items():
        if integer:
            wrong = integer_difference(file, file.outputs[n], linear, outputs[n], expected)
        else:
            dynamic = found.spec.mode == "dynamic" and kind.code != "GATHER"
            wrong = float_difference(outputs[n], expected, largest, DYNAMIC_TOLERANCE if dynamic else FLOAT_TOLERANCE)
        yield "output", wrong and f"{wrong} on the {kernels} kernels"


def cell_mode(found) -> str:  # type: ignore[no-untyped-def]
    return found.spec.mode if found.spec is not None else "float"


def given(spec: OpSpec, answer: Answer) -> OpSpec:
    """What is asked, with the blocks that the form has."""
    assert spec.weights is not None
    if not isinstance(spec.weights.granularity, Blocks):
        return spec
    granularity = Blocks(answer.block) if answer.block else PerChannel()
    return replace(spec, weights=replace(spec.weights, granularity=granularity))


def problems(sheet: Sheet) -> list[tuple[str, str]]:
    """(which check, which cell and what is wrong with it), on another batch size than the run check saw, where that is
    free."""
    file = File(sheet.result.content)
    x = beside_ties(file, inputs(sheet.kind, sheet.batch, seed=1))
    both: tuple[Kernels, ...] = ("default", sheet.slow)
    runs = {kernels: Runner(sheet.result.content, kernels).run([x]) for kernels in both}
    exact = x.astype(np.float64) if x.dtype.kind == "f" else x
    return [
        (check, f"{cell.name}: {check}: {wrong}")
        for n, cell in enumerate(sheet.cells)
        for check, wrong in problems_of_cell(sheet, file, n, exact, runs)
        if wrong
    ]
