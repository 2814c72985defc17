"""A recipe: ordered rules on top of a default. The most specific rule wins; among equals, the last one.

What a rule names decides how specific it is, in this order:

1. a layer by its exact name (`"conv_1"`, or `"encoder/attention/query"` for a nested one),
2. layers by a pattern (glob `"conv_*"`, or a regular expression `"re:conv_[12]"`),
3. a layer class (`"Conv2D"`),
4. an operator (`"CONV_2D"`),
5. the default.

A rule may name several of them; then all must hold, and the most specific one ranks it. A rule on a layer holds for
everything inside that layer. `None` keeps what it matches in float.
"""

import difflib
import fnmatch
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tfq_converters.brief import brief
from tfq_converters.errors import TfqError, raise_all
from tfq_converters.files import from_plain, parsed, to_plain
from tfq_converters.graph import Graph, Op
from tfq_converters.quantized import OpKey
from tfq_fine.request.specs import IntegerSpec, OpSpec, WeightedSpec, named_options


class HasClassName(Protocol):
    """The part of a Keras layer that a recipe needs to know."""

    @property
    def class_name(self) -> str:
        """The name of the layer's class."""


Layers = Mapping[str, HasClassName]


@dataclass(frozen=True)
class Rule:
    """Gives `spec` to the operators that it matches; None keeps them float."""

    spec: OpSpec | None
    layer: str | None = None  # exact name, glob, or "re:" and a regular expression; a path may lead to a nested layer
    layer_class: str | None = None
    op: str | None = None

    def __post_init__(self) -> None:
        if self.layer is None and self.layer_class is None and self.op is None:
            raise TfqError("a rule must name a layer, a layer_class or an op; other operators get the default spec")
        if self.layer is not None and self.layer.startswith("re:"):
            try:
                re.compile(self.layer[3:])
            except re.error as error:
                raise TfqError(f"rule {self.layer!r} is not a regular expression: {error}") from error

    @property
    def specificity(self) -> int:
        """Higher wins."""
        if self.layer is not None:
            return 3 if _is_pattern(self.layer) else 4
        return 2 if self.layer_class is not None else 1

    def matches(self, op: Op, layers: Layers) -> bool:
        """Return whether the rule holds for `op`."""
        ancestors = _ancestors(op.layer)
        classes = {layers[name].class_name for name in ancestors if name in layers}
        return (
            (self.op is None or self.op == op.code)
            and (self.layer is None or any(_matches_name(self.layer, name) for name in ancestors))
            and (self.layer_class is None or self.layer_class in classes)
        )

    def __str__(self) -> str:
        conditions = {"layer": self.layer, "layer_class": self.layer_class, "op": self.op}
        return "rule " + ", ".join(f"{name}={value!r}" for name, value in conditions.items() if value is not None)


@dataclass(frozen=True)
class Recipe:
    """Ordered rules over a default."""

    __repr__ = brief

    name: str
    default: OpSpec | None
    rules: tuple[Rule, ...] = ()
    description: str = ""
    flexible: bool = False  # more bits, or a coarser granularity, where kernels take no less; else that is an error
    transforms: tuple[str, ...] = ()  # those that `transforms="auto"` tries besides the ones that it always tries

    def with_rules(self, *rules: Rule) -> "Recipe":
        """Return the recipe with further rules after its own."""
        return replace(self, rules=(*self.rules, *rules))

    def with_observer(self, observer: str) -> "Recipe":
        """Return the recipe with one observer for all activations: `"mse"`, or `"percentile:percentile=99.9"`.

        Raises:
            TfqError: the text cannot be read, or the recipe has no activations to observe.
        """
        name, options = named_options(observer, "observer")

        def changed(spec: OpSpec | None) -> OpSpec | None:
            if not isinstance(spec, IntegerSpec):
                return spec
            return replace(spec, activations=replace(spec.activations, observer=name, options=options))

        changed_recipe = self._with_specs(changed)
        specs = (changed_recipe.default, *(rule.spec for rule in changed_recipe.rules))
        if not any(isinstance(spec, IntegerSpec) for spec in specs):
            raise TfqError(
                f"recipe {self.name!r} fixes no ranges of activations, "
                "so that an observer has no effect; leave out observer=..., or use a static recipe such as full_int8"
            )
        return changed_recipe

    def with_algorithm(self, name: str) -> "Recipe":
        """Return the recipe with one algorithm for all weights: `"mse_clip"`, or `"mse_clip:smallest=0.4"`.

        Raises:
            TfqError: the text cannot be read.
        """
        algorithm, options = named_options(name, "algorithm")

        def changed(spec: OpSpec | None) -> OpSpec | None:
            return spec.with_weights(algorithm=algorithm, options=options) if isinstance(spec, WeightedSpec) else spec

        return self._with_specs(changed)

    def _with_specs(self, changed: Callable[[OpSpec | None], OpSpec | None]) -> "Recipe":
        rules = tuple(replace(rule, spec=changed(rule.spec)) for rule in self.rules)
        return replace(self, default=changed(self.default), rules=rules)

    def resolve(self, graph: Graph, layers: Layers | None = None) -> dict[OpKey, OpSpec | None]:
        """Return the specs that the recipe requests, by operator.

        Raises:
            TfqError: a rule matches nothing; near names are listed.
        """
        known_layers: Layers = layers or {}
        ops = dict(graph.ops())
        raise_all(
            f"{rule} matches nothing in the model{_near(rule, graph, known_layers)}"
            for rule in self.rules
            if not any(rule.matches(op, known_layers) for op in ops.values())
        )
        ranked = sorted(self.rules, key=lambda rule: rule.specificity)  # stable: later rules win among equals
        return {key: self._spec(op, ranked, known_layers) for key, op in ops.items()}

    def spec_of(self, op: Op, layers: Layers) -> OpSpec | None:
        """Return the spec that the recipe requests for one operator."""
        return self._spec(op, sorted(self.rules, key=lambda rule: rule.specificity), layers)

    def _spec(self, op: Op, ranked: Sequence[Rule], layers: Layers) -> OpSpec | None:
        specs = [rule.spec for rule in ranked if rule.matches(op, layers)]
        return specs[-1] if specs else self.default

    def to_json(self) -> str:
        """Return the recipe as JSON; `from_json` reads it back."""
        content = to_plain(self, brief=True)
        if not self.transforms:
            del content["transforms"]
        rules = [_specs_last(rule, "spec") for rule in content["rules"]]
        return json.dumps(_specs_last(content | {"rules": rules}, "default", "rules"), indent=2)

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read what `to_json` wrote.

        Raises:
            TfqError: the text is not a recipe, or has a key that no recipe has.
        """
        return from_plain(parsed(text, "the recipe"), Recipe, "the recipe")


def _specs_last(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return `content` with the longest parts at its end, so that people see the others first."""
    return {key: value for key, value in content.items() if key not in names} | {name: content[name] for name in names}


def _is_pattern(layer: str) -> bool:
    return layer.startswith("re:") or any(character in layer for character in "*?[")


def _matches_name(pattern: str, name: str) -> bool:
    """Return whether `pattern` names the layer of path `name`, by the whole path or by its last part."""
    candidates = (name, name.rsplit("/", 1)[-1])
    if pattern.startswith("re:"):
        return any(re.fullmatch(pattern[3:], candidate) for candidate in candidates)
    return any(candidate == pattern or fnmatch.fnmatchcase(candidate, pattern) for candidate in candidates)


def _ancestors(layer: str) -> list[str]:
    """Return the path and its ancestors: `a/b/c` -> [`a`, `a/b`, `a/b/c`]."""
    parts = layer.split("/") if layer else []
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _near(rule: Rule, graph: Graph, layers: Layers) -> str:
    ops = [op for _, op in graph.ops()]
    names_of = {
        "layer": {name for op in ops for name in _ancestors(op.layer)} | set(layers),
        "layer_class": {layer.class_name for layer in layers.values()},
        "op": {op.code for op in ops},
    }
    hints = []
    for field, names in names_of.items():
        asked = getattr(rule, field)
        if asked is not None:
            near = difflib.get_close_matches(asked, sorted(names), 5, 0.5) or sorted(names)[:8]
            hints.append(f"{field} like {', '.join(near)}")
    return "; there are " + "; ".join(hints) if hints else ""
