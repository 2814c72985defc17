"""The layers that a plan decides on, and the candidates that each of them has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.kernels import Target
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import OpKey
from tfq_fine.request import RECIPES, OpSpec, Recipe, Rule, named

FLOAT = "float"  # the candidate that leaves a layer as it is
DEFAULT = (
    FLOAT,
    "float16",
    "weight_only_int8",
    "weight_only_int4_block32",
    "weight_only_int4",
    "weight_only_int2_block32",
    "weight_only_int2",
)
QUICK = (FLOAT, "dynamic_int8", "full_int8")  # modes whose kernels are fast
COMPILED = ("full_int8", "full_int16x8", "full_w4a8")  # for compilers, which take integers alone
Choice = Mapping["Unit", "Candidate"]


@dataclass(frozen=True)
class Unit:
    """The operators with weights that one rule of a recipe is about: those of one kind in one layer."""

    layer: str  # "" where no layer is known
    code: str
    keys: tuple[OpKey, ...]

    @property
    def name(self) -> str:
        """How the unit is called in tables."""
        return f"{self.layer or 'no layer'} ({self.code})"

    def rule(self, spec: OpSpec | None) -> Rule:
        """Return the rule that gives these operators a spec."""
        return Rule(spec, layer=self.layer or None, op=self.code)


@dataclass(frozen=True)
class Candidate:
    """One way to quantize a layer."""

    name: str
    spec: OpSpec | None


def units_of(graph: Graph) -> tuple[Unit, ...]:
    """Return the units of the main subgraph in the order of their first operators."""
    keys: dict[tuple[str, str], list[OpKey]] = {}
    for o, op in enumerate(graph.main.ops):
        if weight_axes(op, graph.main):
            keys.setdefault((op.layer, op.code), []).append((0, o))
    return tuple(Unit(layer, code, tuple(ops)) for (layer, code), ops in keys.items())


def default_candidates(target: Target, is_timed: bool) -> tuple[str, ...]:
    """Return the candidates where a user names none; those that no layer can get on the target are left out later.

    On CPUs a float layer is both faster and more exact than one with activations of 16 bits, which therefore are
    candidates for compilers alone.
    """
    if target.compiles:
        return COMPILED
    return QUICK if is_timed else DEFAULT


def candidates_of(given: Iterable[str | OpSpec | Recipe]) -> tuple[Candidate, ...]:
    """Return candidates by name of a recipe, as a recipe without rules, or as a spec; each once.

    Raises:
        TfqError: there is no such recipe, it has rules, or there are fewer than two candidates.
    """
    made: dict[OpSpec | None, Candidate] = {}
    for one in given:
        if one == FLOAT:
            made.setdefault(None, Candidate(FLOAT, None))
            continue
        if isinstance(one, OpSpec):
            label = next((name for name, recipe in RECIPES.items() if recipe.default == one), None)
            made.setdefault(one, Candidate(label or f"spec {len(made)}", one))
            continue
        recipe = named(one)
        if recipe.rules:
            raise TfqError(f"candidates: recipe {recipe.name!r} has rules; a candidate is one spec for any layer")
        made.setdefault(recipe.default, Candidate(recipe.name, recipe.default))
    if len(made) < 2:
        raise TfqError(f"candidates: expected at least two, found {', '.join(c.name for c in made.values()) or 'none'}")
    return tuple(made.values())


def recipe_of(choice: Choice, default: OpSpec | None, name: str, description: str) -> Recipe:
    """Return the recipe of a choice, which `quantize` takes; rules for inner layers come last, since the last holds."""
    ordered: Sequence[Unit] = sorted(choice, key=lambda unit: unit.layer.count("/"))
    rules = tuple(unit.rule(choice[unit].spec) for unit in ordered if choice[unit].spec != default)
    return Recipe(name, default, rules, description, flexible=True)
