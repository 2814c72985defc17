"""The code, broken on purpose: each time, the check that is named here must notice.

"run check" is the library's own, which hands no such file over, and "what can be stored" an assertion in it; the others
are those of `cell_checks`, which the tests of every cell use.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from support.cell_checks import problems, sheets
from support.cells import KINDS, Cell, Kind
from tfq_converters import writer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Op
from tfq_converters.realize import Realized, matrix
from tfq_converters.realize.builder import SubgraphBuilder
from tfq_fine.numerics import affine
from tfq_fine.request.granularity import Blocks, ChannelGroups, Granularity, PerChannel, block_shape
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec
from tfq_fine.weights import integer, layouts, scale_limits, solving

RUN_CHECK, STORABLE = "run check", "what can be stored"
split = sys.modules["tfq_converters.realize.split"]  # the package has a function of that name
RELU = 1
Break = Callable[[pytest.MonkeyPatch], None]


def noticed(kind: Kind, spec: OpSpec) -> set[str]:
    """The checks that find something wrong with one layer."""
    try:
        found = sheets(kind, [Cell(spec)])
    except TfqError as error:
        return {RUN_CHECK} if "the file is not handed over" in str(error) else set()
    except AssertionError as error:
        return {STORABLE} if "only one can be stored" in str(error) else set()
    return {check for sheet in found for check, _ in problems(sheet)}


def wrong_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks along the output channels, channels along the inputs."""

    def swapped(granularity: Granularity, shape: tuple[int, ...], channel: int, inputs: int, **rest: bool) -> Any:
        return block_shape(granularity, shape, inputs, channel, **rest)

    monkeypatch.setattr(layouts, "block_shape", swapped)


def window_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a split do not share their scale over the window."""
    monkeypatch.setattr(layouts, "block_shape", lambda *given, whole_window: block_shape(*given))


def lowest_code_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    right = affine.CodeFormat.lowest.fget
    monkeypatch.setattr(affine.CodeFormat, "lowest", property(lambda form: right(form) + 1))


def lowest_code_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """-128, where a clipped range saturates."""
    monkeypatch.setattr(affine.CodeFormat, "lowest", property(lambda form: -(2 ** (form.bits - 1))))


class Floors:
    """numpy, but for what rounds."""

    rint = staticmethod(np.floor)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affine, "np", Floors())


def long_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(affine.ROUNDED_SCALES, "bfloat16", lambda scale: scale)


def scales_shortened_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales are rounded when codes have been chosen."""
    encode, short = affine.encode, affine.bfloat16

    def late(values, block, scale, zero_point, form):  # type: ignore[no-untyped-def]
        codes = encode(values, block, scale, zero_point, form)
        return replace(codes, scale=short(codes.scale)) if form.scales == "bfloat16" else codes

    monkeypatch.setitem(affine.ROUNDED_SCALES, "bfloat16", lambda scale: scale)
    monkeypatch.setattr(affine, "encode", late)


def numbers_of_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks begin one value late when their scales are chosen."""
    extent = affine.block_extent
    monkeypatch.setattr(affine, "block_extent", lambda values, block: extent(np.roll(values, -1, axis=-1), block))


def parts_of_other_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of a split holds the weights of the inputs one before its own."""
    weights = split._weights

    def shifted(builder: SubgraphBuilder, op: Op, weight: Any, axis: int) -> list[int]:
        return weights(builder, op, replace(weight, codes=np.roll(weight.codes, 1, axis)), axis)

    monkeypatch.setattr(split, "_weights", shifted)


def parts_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = split._cut_inputs
    monkeypatch.setattr(split, "_cut_inputs", lambda *given: [*cut(*given)[1::-1], *cut(*given)[2:]])


def bias_in_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    part = split._part
    monkeypatch.setattr(
        split,
        "_part",
        lambda builder, op, encoding, weight, k, *rest: part(builder, op, encoding, weight, 0, *rest),
    )


def partial_sums_that_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    partial = scale_limits.partial_sums

    def narrow(*given: Any) -> Any:
        found = partial(*given)
        return replace(found, scale=found.scale / 16)

    monkeypatch.setattr(integer, "partial_sums", narrow)


def activation_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the blockwise kernel stands what leaves positive values alone, but not the others."""
    monkeypatch.setitem(matrix.ACTIVATION_OPS, "RELU", "ABS")


def fused_on_the_blockwise_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """FULLY_CONNECTED keeps its ReLU, and nothing that matters stands after it."""
    activation_forgotten(monkeypatch)
    realize = writer.realize

    def fused(op: Op) -> Op:
        if op.code != "FULLY_CONNECTED" or op.options is None:
            return op
        return replace(op, options=replace(op.options, values={**op.options.values, "fusedActivationFunction": RELU}))

    def changed(quantized: Any) -> Realized:
        made = realize(quantized)
        main = replace(made.graph.main, ops=tuple(map(fused, made.graph.main.ops)))
        return replace(made, graph=replace(made.graph, subgraphs=(main,)))

    monkeypatch.setattr(writer, "realize", changed)


def zero_points_off(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = affine.asymmetric_scale

    def shifted(low: Any, high: Any, bits: int) -> Any:
        scale, zero = choose(low, high, bits)
        return scale, np.minimum(zero + 1, 2 ** (bits - 1) - 1)

    monkeypatch.setattr(affine, "asymmetric_scale", shifted)


def groups_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales of groups of channels are repeated once too often."""
    stored = solving.Solver._solved

    def longer(self, *given, **named):  # type: ignore[no-untyped-def]
        found = stored(self, *given, **named)
        block = (found.codes.block[0] + 1, *found.codes.block[1:])
        return replace(found, codes=replace(found.codes, block=block))

    monkeypatch.setattr(solving.Solver, "_solved", longer)


DENSE, CONV = KINDS[0], KINDS[2]
A8 = ActivationSpec(8)


def weights(bits: int, granularity: Granularity = PerChannel(), symmetric: bool = True, **given: Any) -> WeightSpec:  # noqa: B008 - frozen
    chosen = {"algorithm": "round_to_nearest"} | given  # whose grid is that of the whole extent
    return WeightSpec(bits, granularity, symmetric, bias_correction=False, **chosen)


@dataclass(frozen=True)
class Mutation:
    """What is broken, where it shows, and who must notice."""

    broken: Break
    kind: Kind
    spec: OpSpec
    by: str

    @property
    def name(self) -> str:
        return f"{self.broken.__name__}-{self.kind.name}-{Cell(self.spec).name}"


MUTATIONS = (
    Mutation(wrong_axis, DENSE, OpSpec("dynamic", weights(8)), RUN_CHECK),
    Mutation(wrong_axis, DENSE, OpSpec("weight_only", weights(4)), "grid"),
    Mutation(wrong_axis, DENSE, OpSpec("weight_only", weights(4, Blocks(20))), "grid"),
    Mutation(window_for_itself, CONV, OpSpec("dynamic", weights(4, Blocks(20))), STORABLE),
    Mutation(lowest_code_too_high, DENSE, OpSpec("dynamic", weights(4)), "grid"),
    Mutation(lowest_code_too_high, DENSE, OpSpec("weight_only", weights(2, symmetric=False)), "grid"),
    Mutation(lowest_code_too_low, DENSE, OpSpec("dynamic", weights(8, algorithm="mse_clip")), "output"),
    Mutation(floor, DENSE, OpSpec("dynamic", weights(8)), "grid"),
    Mutation(floor, CONV, OpSpec("integer", weights(4), A8), "grid"),
    Mutation(long_scales, DENSE, OpSpec("dynamic", weights(4, Blocks(32))), "grid"),
    Mutation(scales_shortened_afterwards, DENSE, OpSpec("dynamic", weights(4, Blocks(32))), "grid"),
    Mutation(numbers_of_the_next_block, DENSE, OpSpec("weight_only", weights(4, Blocks(20))), "grid"),
    Mutation(numbers_of_the_next_block, CONV, OpSpec("dynamic", weights(4, Blocks(8))), "grid"),
    Mutation(parts_of_other_inputs, DENSE, OpSpec("dynamic", weights(4, Blocks(20))), RUN_CHECK),
    Mutation(parts_of_other_inputs, CONV, OpSpec("integer", weights(8, Blocks(8)), A8), RUN_CHECK),
    Mutation(parts_in_another_order, DENSE, OpSpec("integer", weights(8, Blocks(20)), A8), RUN_CHECK),
    Mutation(bias_in_every_part, DENSE, OpSpec("dynamic", weights(8, Blocks(20))), RUN_CHECK),
    Mutation(partial_sums_that_saturate, DENSE, OpSpec("integer", weights(8, Blocks(20)), A8), RUN_CHECK),
    Mutation(fused_on_the_blockwise_kernel, DENSE, OpSpec("dynamic", weights(4, Blocks(32))), RUN_CHECK),
    Mutation(activation_forgotten, DENSE, OpSpec("dynamic", weights(4, Blocks(32))), RUN_CHECK),
    Mutation(zero_points_off, DENSE, OpSpec("weight_only", weights(4, symmetric=False)), "grid"),
    Mutation(groups_of_four, DENSE, OpSpec("dynamic", weights(8, ChannelGroups(3))), "grid"),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_is_broken_is_noticed(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.broken(monkeypatch)
    assert mutation.by in noticed(mutation.kind, mutation.spec)


@pytest.mark.parametrize("kind", [DENSE, CONV], ids=lambda kind: kind.name)
def test_nothing_is_noticed_where_nothing_is_broken(kind: Kind) -> None:
    for spec in dict.fromkeys(mutation.spec for mutation in MUTATIONS if mutation.kind is kind):
        by_extent = spec.weights is not None and spec.weights.algorithm == "round_to_nearest"
        assert noticed(kind, spec) <= (set() if by_extent else {"grid"})  # which is that of the whole extent
