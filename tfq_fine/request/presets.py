"""The recipes by name: `MODE_TYPES[_GRANULARITY]`, per channel where no granularity is named.

Those of less than 8 bits are flexible: where kernels take no such weights, an operator gets more bits or a coarser
granularity, and the report says so.
"""

from tfq_converters.errors import TfqError
from tfq_fine.request.granularity import Blocks
from tfq_fine.request.recipe import Recipe
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

_INT8, _INT4, _INT2 = WeightSpec(8), WeightSpec(4), WeightSpec(2)
_INT4_BLOCKS = WeightSpec(4, Blocks(32))
_INT2_BLOCKS = WeightSpec(2, Blocks(32))
_TABLE: tuple[tuple[str, OpSpec, str], ...] = (
    ("float16", OpSpec("float16"), "float16 weights, float32 arithmetic: half the size"),
    ("dynamic_int8", OpSpec("dynamic", _INT8), "int8 weights, activations quantized on the fly; needs no data"),
    ("dynamic_int4", OpSpec("dynamic", _INT4), "int4 weights, activations quantized on the fly; needs no data"),
    (
        "dynamic_int4_block32",
        OpSpec("dynamic", _INT4_BLOCKS),
        "int4 weights in blocks of 32 inputs, activations quantized on the fly; needs no data",
    ),
    ("weight_only_int8", OpSpec("weight_only", _INT8), "int8 weights, float32 arithmetic; needs no data"),
    ("weight_only_int4", OpSpec("weight_only", _INT4), "int4 weights, float32 arithmetic; needs no data"),
    (
        "weight_only_int4_block32",
        OpSpec("weight_only", _INT4_BLOCKS),
        "int4 weights in blocks of 32 inputs, float32 arithmetic; needs no data",
    ),
    ("weight_only_int2", OpSpec("weight_only", _INT2), "int2 weights, float32 arithmetic; needs no data"),
    (
        "weight_only_int2_block32",
        OpSpec("weight_only", _INT2_BLOCKS),
        "int2 weights in blocks of 32 inputs, float32 arithmetic; needs no data",
    ),
    (
        "full_int8",
        OpSpec("integer", _INT8, ActivationSpec(8)),
        "int8 weights, int8 activations; needs representative data",
    ),
    (
        "full_int16x8",
        OpSpec("integer", _INT8, ActivationSpec(16)),
        "int8 weights, int16 activations: accurate, slow on CPUs; needs data",
    ),
    (
        "full_w4a8",
        OpSpec("integer", _INT4, ActivationSpec(8)),
        "int4 weights, int8 activations; needs representative data",
    ),
    (
        "full_w4a8_block32",
        OpSpec("integer", _INT4_BLOCKS, ActivationSpec(8)),
        "int4 weights in blocks of 32 inputs, folded into what makes the inputs, int8 activations; needs data",
    ),
    (
        "fptq",
        OpSpec("integer", _INT4_BLOCKS, ActivationSpec(8)),
        "full_w4a8_block32 with transform log_equalization, which may round activations token by token; needs data",
    ),
    (
        "full_w4a16",
        OpSpec("integer", _INT4, ActivationSpec(16)),
        "int4 weights, int16 activations: slow on CPUs; needs data",
    ),
    (
        "full_w2a8",
        OpSpec("integer", _INT2, ActivationSpec(8)),
        "int2 weights where integer kernels take them, int8 activations; needs data",
    ),
)
_TRANSFORMS = {"fptq": ("log_equalization",)}  # beyond the default ones


class Recipes(dict[str, Recipe]):
    """Recipes by name, which print as a list of their names."""

    def __repr__(self) -> str:
        return f"<{len(self)} recipes: {', '.join(self)}>"


RECIPES = Recipes(
    (name, Recipe(name, spec, (), description, spec.weights not in (None, _INT8), _TRANSFORMS.get(name, ())))
    for name, spec, description in _TABLE
)


def named(recipe: str | Recipe) -> Recipe:
    """Return the recipe itself, or the preset of that name.

    Raises:
        TfqError: there is no preset of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise TfqError(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    return RECIPES[recipe]
