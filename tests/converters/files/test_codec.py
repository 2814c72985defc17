"""Frozen dataclasses and plain values: what the versions before saved, and what is refused."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from tfq_converters.errors import TfqError
from tfq_converters.files import AS_OBJECT, from_plain, to_plain
from tfq_fine.layers.layer_table import Kernel, LayerRow
from tfq_fine.request.granularity import Blocks, ChannelGroups, PerTensor
from tfq_fine.request.recipe import Recipe, Rule
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec, from_json

# Written by version 0.1 before there was a codec, byte for byte.
SAVED_RECIPE = """{
  "name": "mine",
  "description": "for a test",
  "flexible": true,
  "default": {
    "mode": "integer",
    "weights": {
      "bits": 4,
      "granularity": {
        "name": "blocks",
        "size": 32
      },
      "symmetric": true,
      "algorithm": "mse_clip",
      "bias_correction": true,
      "options": {
        "a": 1,
        "smallest": 0.4
      }
    },
    "activations": {
      "bits": 8,
      "observer": "percentile",
      "options": {
        "percentile": 99.9
      }
    }
  },
  "rules": [
    {
      "layer": "conv_*",
      "op": "CONV_2D",
      "spec": null
    },
    {
      "layer_class": "Dense",
      "spec": {
        "mode": "weight_only",
        "weights": {
          "bits": 2,
          "granularity": {
            "name": "per_tensor"
          },
          "symmetric": false,
          "algorithm": "round_to_nearest",
          "bias_correction": false,
          "options": {}
        }
      }
    },
    {
      "op": "GATHER",
      "spec": {
        "mode": "dynamic",
        "weights": {
          "bits": 8,
          "granularity": {
            "name": "channel_groups",
            "size": 4
          },
          "symmetric": true,
          "algorithm": "round_to_nearest",
          "bias_correction": true,
          "options": {}
        }
      }
    },
    {
      "op": "X",
      "spec": {
        "mode": "float16"
      }
    }
  ]
}"""
RECIPE = Recipe(
    "mine",
    OpSpec(
        "integer",
        WeightSpec(4, Blocks(32), algorithm="mse_clip", options=(("a", 1), ("smallest", 0.4))),
        ActivationSpec(8, "percentile", (("percentile", 99.9),)),
    ),
    (
        Rule(None, layer="conv_*", op="CONV_2D"),
        Rule(OpSpec("weight_only", WeightSpec(2, PerTensor(), False, "round_to_nearest", False)), layer_class="Dense"),
        Rule(OpSpec("dynamic", WeightSpec(8, ChannelGroups(4), algorithm="round_to_nearest")), op="GATHER"),
        Rule(OpSpec("float16"), op="X"),
    ),
    "for a test",
    True,
)
# In the configuration of a wrapped layer in a .keras file; JSON has no tuples.
SAVED_ROW: list[dict[str, Any]] = json.loads(
    '[{"variable": "a.kernel", "op": "CONV_2D", "layout": [[1], [], [0, 2]], "reads": null, "loop": true, '
    '"optional": false, "steps": ""}, {"variable": "b", "op": "X", "layout": "einsum", "reads": 0, "loop": false, '
    '"optional": false, "steps": ""}]'
)
ROW = LayerRow((Kernel("a.kernel", "CONV_2D", ((1,), (), (0, 2)), None, True), Kernel("b", "X", "einsum")))


def test_a_recipe_of_the_version_before_is_read_and_written_the_same() -> None:
    assert Recipe.from_json(SAVED_RECIPE) == RECIPE
    assert RECIPE.to_json() == SAVED_RECIPE


def test_rows_of_layers_of_the_version_before_are_read_and_written_the_same() -> None:
    assert LayerRow.from_json(SAVED_ROW) == ROW
    assert json.loads(json.dumps(ROW.to_json())) == SAVED_ROW
    assert LayerRow.from_json(ROW.to_json()) == ROW  # Keras gives tuples back


@dataclass(frozen=True)
class Everything:
    """A field of every kind that the codec knows."""

    number: float
    whole: int = 0
    kind: Literal["a", "b"] = "a"
    pairs: tuple[tuple[str, float], ...] = ()
    options: tuple[tuple[str, float], ...] = field(default=(), metadata=AS_OBJECT)
    parts: Mapping[str, "Everything"] = field(default_factory=dict)
    either: PerTensor | Blocks | None = None
    fixed: tuple[int, str] | None = None


VALUES = (
    Everything(1.5),
    Everything(-math.inf, 3, "b", (("x", math.inf), ("x", 2.0)), (("y", 1.0),), {"z": Everything(0.0)}, Blocks(2)),
    Everything(0.0, either=PerTensor(), fixed=(1, "one")),
)


@pytest.mark.parametrize("brief", [False, True])
@pytest.mark.parametrize("value", VALUES)
def test_every_kind_of_field_survives_json(value: Everything, brief: bool) -> None:
    text = json.dumps(to_plain(value, brief), allow_nan=False)
    assert from_plain(json.loads(text), Everything, "it") == value


def test_what_the_plain_values_look_like() -> None:
    assert to_plain(Everything(math.nan, options=(("y", 1.0),), either=Blocks(2)), brief=True) == {
        "number": "nan",
        "whole": 0,
        "kind": "a",
        "pairs": [],
        "options": {"y": 1.0},
        "parts": {},
        "either": {"name": "blocks", "size": 2},
    }


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"numbre": 1}, "it cannot be read: unknown fields numbre; the fields are number, whole, kind"),
        ({"number": None}, "number: expected float, found None"),
        ({"whole": True}, "whole: expected int, found True"),
        ({"whole": 1.0}, "whole: expected int, found 1.0"),
        ({"kind": "c"}, "kind: expected one of a, b, found 'c'"),
        ({"pairs": [["x", 1], ["y"]]}, r"pairs.1: expected 2 items, found \['y'\]"),
        ({"options": {"y": "much"}}, "options.y: expected float, found 'much'"),
        ({"parts": {"z": {}}}, "parts.z: missing fields number"),
        ({"parts": []}, r"parts: expected an object, found \[\]"),
        ({"either": {"size": 2}}, "either: unknown name None; known: per_tensor, blocks"),
        ({"either": {"name": "blocks", "size": "2"}}, "either.size: expected int, found '2'"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_its_path(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(TfqError, match=problem):
        from_plain({"number": 1} | changed, Everything, "it")


def test_a_flag_that_is_a_word_is_refused() -> None:
    """The word "no" is true in Python, so that a recipe with it had symmetric weights."""
    with pytest.raises(TfqError, match=r"weights\.symmetric: expected bool, found 'no'"):
        from_json({"mode": "weight_only", "weights": {"symmetric": "no"}})
