"""Specs are of the class that has what their mode needs."""

import pickle
from dataclasses import replace

import pytest

from tfq_converters.errors import TfqError
from tfq_fine.request import ActivationSpec, IntegerSpec, OpSpec, WeightedSpec, WeightSpec, from_json, to_json

WEIGHTS, ACTIVATIONS = WeightSpec(4), ActivationSpec(16)
SPECS = {
    "float": OpSpec("float"),
    "float16": OpSpec("float16"),
    "weight_only": OpSpec("weight_only", WEIGHTS),
    "dynamic": OpSpec("dynamic", WEIGHTS),
    "integer": OpSpec("integer", WEIGHTS, ACTIVATIONS),
}
CLASSES = {"float": OpSpec, "float16": OpSpec, "integer": IntegerSpec}


@pytest.mark.parametrize(("mode", "spec"), SPECS.items(), ids=SPECS)
def test_a_mode_has_its_class_however_the_spec_is_made(mode: str, spec: OpSpec) -> None:
    kind = CLASSES.get(mode, WeightedSpec)
    made = [spec, from_json(to_json(spec)), pickle.loads(pickle.dumps(spec))]
    made += [replace(other, mode=mode, weights=spec.weights, activations=spec.activations) for other in SPECS.values()]
    assert all(type(each) is kind and each == spec and hash(each) == hash(spec) for each in made)


@pytest.mark.parametrize(
    ("mode", "weights", "activations", "message"),
    [
        ("dynamic", None, None, "weights must be a WeightSpec"),
        ("integer", WEIGHTS, None, "activations must be an ActivationSpec"),
        ("weight_only", WEIGHTS, ACTIVATIONS, "activations must be None"),
        ("float16", WEIGHTS, None, "weights must be None"),
        (["integer"], WEIGHTS, None, "mode must be one of"),
    ],
)
@pytest.mark.parametrize("kind", [OpSpec, WeightedSpec])
def test_what_a_mode_does_not_take_is_refused(
    kind: type[OpSpec], mode: str, weights: WeightSpec, activations: ActivationSpec, message: str
) -> None:
    with pytest.raises(TfqError, match=message):
        kind(mode, weights, activations)
