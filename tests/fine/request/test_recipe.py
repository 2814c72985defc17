"""Which rule wins, and what a rule that matches nothing says."""

import pytest

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Subgraph
from tfq_fine.request.granularity import Blocks, PerTensor
from tfq_fine.request.presets import RECIPES, named
from tfq_fine.request.recipe import Recipe, Rule
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec


class Layer:
    def __init__(self, class_name: str):
        self.class_name = class_name


LAYERS = {
    "conv_1": Layer("Conv2D"),
    "conv_2": Layer("Conv2D"),
    "block": Layer("Functional"),
    "block/out": Layer("Dense"),
}
OPS = (
    Op("CONV_2D", (), (), layer="conv_1"),
    Op("CONV_2D", (), (), layer="conv_2"),
    Op("FULLY_CONNECTED", (), (), layer="block/out"),
    Op("SOFTMAX", (), ()),
)
GRAPH = Graph((Subgraph("main", (), OPS, (), ()),))
DYNAMIC, HALF = OpSpec("dynamic", WeightSpec()), OpSpec("float16")
WEIGHT = OpSpec("weight_only", WeightSpec())


def resolved(*rules: Rule) -> list[OpSpec | None]:
    return list(Recipe("test", DYNAMIC, rules).resolve(GRAPH, LAYERS).values())


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), [DYNAMIC] * 4),
        ((Rule(HALF, op="CONV_2D"),), [HALF, HALF, DYNAMIC, DYNAMIC]),
        ((Rule(HALF, layer_class="Conv2D"), Rule(WEIGHT, op="CONV_2D")), [HALF, HALF, DYNAMIC, DYNAMIC]),
        ((Rule(None, layer="conv_1"), Rule(HALF, layer="conv_*")), [None, HALF, DYNAMIC, DYNAMIC]),
        ((Rule(HALF, layer="conv_*"), Rule(WEIGHT, layer="re:conv_[12]")), [WEIGHT, WEIGHT, DYNAMIC, DYNAMIC]),
        ((Rule(HALF, layer="block"),), [DYNAMIC, DYNAMIC, HALF, DYNAMIC]),
        ((Rule(HALF, layer="out"),), [DYNAMIC, DYNAMIC, HALF, DYNAMIC]),
        ((Rule(HALF, layer="conv_*", op="CONV_2D"), Rule(None, layer_class="Conv2D")), [HALF, HALF, DYNAMIC, DYNAMIC]),
    ],
    ids=["default", "op", "class_over_op", "exact_over_glob", "last_of_equals", "whole_block", "leaf", "conjunction"],
)
def test_precedence(rules: tuple[Rule, ...], expected: list[OpSpec | None]) -> None:
    assert resolved(*rules) == expected


def test_rules_that_match_nothing_are_listed_together_with_near_names() -> None:
    with pytest.raises(TfqError) as error:
        resolved(Rule(None, layer="conv_3"), Rule(None, op="CONV2D"), Rule(None, layer_class="Dence"))
    text = str(error.value)
    assert "3 problems" in text
    assert "layer='conv_3'" in text and "conv_1" in text
    assert "CONV_2D" in text and "Dense" in text


def test_a_conjunction_matches_only_where_all_hold() -> None:
    with pytest.raises(TfqError, match="matches nothing"):
        resolved(Rule(None, layer="conv_1", op="SOFTMAX"))


@pytest.mark.parametrize("name", RECIPES)
def test_presets_survive_json(name: str) -> None:
    assert Recipe.from_json(RECIPES[name].to_json()) == RECIPES[name]


def test_rules_survive_json() -> None:
    spec = OpSpec("integer", WeightSpec(4, Blocks(32), True, "round_to_nearest"), ActivationSpec(16))
    rules = (
        Rule(spec, layer="conv_*"),
        Rule(None, layer_class="Dense"),
        Rule(OpSpec("weight_only", WeightSpec(2, PerTensor())), op="CONV_2D"),
    )
    recipe = Recipe("mine", HALF, rules, "for a test")
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"name": "x"}',
        '{"name": "x", "default": {"mode": "dynamic", "wieghts": 8}}',
        '{"name": "x", "default": null, "ruels": []}',
    ],
)
def test_damaged_json_is_a_clear_error(text: str) -> None:
    with pytest.raises(TfqError, match="recipe"):
        Recipe.from_json(text)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(TfqError, match="unknown recipe 'int8'; known: float16, dynamic_int8"):
        named("int8")


@pytest.mark.parametrize(
    ("mode", "weights", "activations", "field"),
    [
        ("dynamic", None, None, "weights"),
        ("integer", WeightSpec(), None, "activations"),
        ("float16", WeightSpec(), None, "weights"),
        ("int8", None, None, "mode"),
    ],
)
def test_incomplete_specs_are_refused(mode: str, weights: WeightSpec | None, activations: None, field: str) -> None:
    with pytest.raises(TfqError, match=f"OpSpec: {field}"):
        OpSpec(mode, weights, activations)  # type: ignore[arg-type]
