"""The recipes by name."""

from tfq_converters.errors import TfqError
from tfq_fine.recipe import Recipe
from tfq_fine.specs import ActivationSpec, OpSpec, WeightSpec

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("float16", OpSpec("float16"), description="float16 weights, float32 arithmetic: half the size"),
        Recipe(
            "dynamic_int8",
            OpSpec("dynamic", WeightSpec(8)),
            description="int8 weights per channel, activations quantized on the fly; needs no data",
        ),
        Recipe(
            "weight_only_int8",
            OpSpec("weight_only", WeightSpec(8)),
            description="int8 weights per channel, float32 arithmetic; needs no data",
        ),
        Recipe(
            "full_int8",
            OpSpec("integer", WeightSpec(8), ActivationSpec(8)),
            description="int8 weights per channel, int8 activations; needs representative data",
        ),
        Recipe(
            "full_int16x8",
            OpSpec("integer", WeightSpec(8), ActivationSpec(16)),
            description="int8 weights per channel, int16 activations: accurate, slow on CPUs; needs data",
        ),
    )
}


def named(recipe: str | Recipe) -> Recipe:
    """The recipe itself, or the preset of that name.

    Raises:
        TfqError: there is no preset of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise TfqError(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    return RECIPES[recipe]
