"""What `quality` makes of the specs of a recipe."""

import pytest

import tfq_fine as tfq
from support.graphs import small_cnn
from tfq_fine.request import with_quality
from tfq_fine.session import effort


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_auto_becomes_what_quality_means(bits, quality):
    spec = tfq.OpSpec("weight_only", tfq.WeightSpec(bits))
    fits = quality == "best" or (quality == "balanced" and bits < 8)
    without = "squant" if bits < 8 else "auto"
    assert with_quality(spec, quality, has_data=True).weights.algorithm == (quality if fits else without)
    assert with_quality(spec, quality, has_data=False).weights.algorithm == without


def test_a_named_algorithm_stays():
    spec = tfq.OpSpec("weight_only", tfq.WeightSpec(4, algorithm="octav"))
    assert with_quality(spec, "best", has_data=True) is spec
    assert with_quality(None, "best", has_data=True) is None


def bits_of(recipe: tfq.Recipe, quality: str, has_samples: bool = True) -> list[int]:
    """The bits of the weights of the small CNN, in graph order."""
    graph = small_cnn()
    specs = effort.requested_specs(recipe, graph, None, quality, has_samples)
    linear = [key for key, op in graph.ops() if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    return [specs[key].weights.bits for key in linear]


def test_best_keeps_the_first_and_the_last_layer_at_8_bits_below_4():
    recipe = tfq.RECIPES["weight_only_int2"]
    first, *middle, last = bits_of(recipe, "best")
    assert (first, last) == (8, 8) and middle and set(middle) == {2}
    assert set(bits_of(recipe, "balanced")) == {2} == set(bits_of(recipe, "best", has_samples=False))
    assert set(bits_of(tfq.RECIPES["weight_only_int4"], "best")) == {4}
    rule = tfq.Rule(tfq.OpSpec("weight_only", tfq.WeightSpec(2)), op="FULLY_CONNECTED")
    assert bits_of(recipe.with_rules(rule), "best")[-1] == 2  # a rule is about it


def test_a_large_model_is_fitted_for_the_best_quality_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(effort, "too_large", lambda graph: True)
    recipe, graph = tfq.RECIPES["weight_only_int4"], small_cnn()
    for quality, algorithm in (("balanced", "squant"), ("best", "best")):
        specs = effort.requested_specs(recipe, graph, None, quality, True)
        assert {spec.weights.algorithm for spec in specs.values()} == {algorithm}
