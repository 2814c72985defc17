"""Which scales may be learned together with the weights of a stretch of operators."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from tfq_fine.activations import EncodedPlan, learnable_groups
from tfq_fine.weights import reconstruct


def model() -> keras.Model:
    """A pooling and a concatenation, whose kernels want one scale, and a gate, whose kernel fixes its own.

    0 CONV_2D, 1 MAX_POOL_2D, 2 CONV_2D, 3 CONCATENATION of 0 and 2, 4 and 5 CONV_2D, 6 LOGISTIC of 5, 7 MUL of 4 and 6,
    8 to 10 the shape of 11 RESHAPE, 12 FULLY_CONNECTED, 13 SOFTMAX.
    """
    keras.utils.set_random_seed(6)
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(5, 1, activation="relu")(inputs)
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(layers.MaxPooling2D(1, 1)(x))
    x = layers.Concatenate()([x, y])
    x = layers.Multiply()([layers.Conv2D(6, 1)(x), layers.Conv2D(6, 1, activation="sigmoid")(x)])
    return keras.Model(inputs, layers.Softmax()(layers.Dense(5)(layers.Flatten()(x))))


@pytest.fixture(scope="module")
def placed() -> tuple[Any, EncodedPlan]:
    """The graph and its plan, as the fitting of weights sees them."""
    calls: list[tuple[Any, EncodedPlan]] = []

    def recorded(graph: Any, plan: EncodedPlan, *_: int) -> dict[Any, Any]:
        calls.append((graph, plan))
        return {}

    rows = np.random.default_rng(0).normal(size=(24, 9, 7, 3)).astype(np.float32)
    recipe = tfq.RECIPES["full_w4a8"].with_algorithm("reconstruct:steps=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruct, "learnable_groups", recorded)
        tfq.quantize(model(), recipe, rows, prefer="size", transforms=None)
    return calls[0]


@pytest.mark.parametrize(
    ("first", "stop", "expected"),
    [
        (0, 4, [[0, 1, 2, 3]]),  # the pooling and the concatenation tie all of them
        (2, 4, []),  # a part of that group is written before
        (0, 3, []),  # and here after
        (4, 8, [[4], [5], [7]]),  # not 6, which is fixed; what 11 moves has the scale of 7
        (8, 13, [[12]]),  # what 11 moves is not made here
        (13, 14, []),
    ],
)
def test_a_group_is_learned_where_all_of_it_is_made(
    placed: tuple[Any, EncodedPlan], first: int, stop: int, expected: list[list[int]]
):
    graph, plan = placed
    maker = {t: o for o, op in enumerate(graph.main.ops) for t in op.outputs}
    groups = learnable_groups(graph, plan, first, stop)
    assert sorted(sorted(maker[t] for t in tensors) for tensors in groups.values()) == expected


def test_scales_that_wrappers_hold_are_not_learned(placed: tuple[Any, EncodedPlan]):
    graph, plan = placed
    held = EncodedPlan(plan.plan, plan.statistics, plan.ranges, plan.encodings, held=True)
    assert learnable_groups(graph, plan, 0, 14) and not learnable_groups(graph, held, 0, 14)


def test_a_learned_encoding_reaches_all_that_read_it(placed: tuple[Any, EncodedPlan]):
    """Every operator that reads or writes a tensor of the group has the new scale, also after the stretch."""
    graph, plan = placed
    (root,) = learnable_groups(graph, plan, 0, 4)
    before = plan.encodings.tensors[root]
    learned = type(before)(before.dtype, before.scale / 2, before.zero_point)
    after = plan.with_learned(graph, {root: learned}).encodings
    assert [after.outputs[0, o][0] for o in range(4)] == [learned] * 4
    assert [after.inputs[0, o][0] for o in (1, 2, 3, 4, 5)] == [learned] * 5
    assert after.outputs[0, 7] == plan.encodings.outputs[0, 7]
