"""The settings that `benchmarks.granularity` compares: a grid of modes, bits and granularities, presets, and a mix."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import tfq_fine as tfq
from tfq_fine.planning import Prefer
from tfq_fine.request.granularity import Blocks, ChannelGroups, Granularity, PerChannel, PerTensor
from tfq_fine.request.recipe import Recipe, Rule
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

MODES = ("weight_only", "dynamic", "integer")
BITS = (8, 4, 2)
GRANULARITIES: dict[str, Granularity] = {
    "per_tensor": PerTensor(),
    "groups8": ChannelGroups(8),
    "per_channel": PerChannel(),
    "blocks128": Blocks(128),
    "blocks32": Blocks(32),
}
MIXED_BITS = (8, 4)  # bits of the sensitive layers, and of the others


@dataclass(frozen=True)
class Setting:
    """One way to quantize a whole model."""

    name: str
    recipe: Recipe
    prefer: Prefer
    peer: str = ""  # the same setting of litert-quantizer: a name in `granularity_peer.SETTINGS`
    mixed: bool = False  # the recipe still lacks the rules of the sensitive layers

    @property
    def spec(self) -> OpSpec:
        """The request for every operator."""
        assert self.recipe.default is not None
        return self.recipe.default

    @property
    def folds(self) -> bool:
        """Whether scales of blocks are folded into other operators, which changes the float model."""
        assert self.spec.weights is not None
        return self.spec.mode == "integer" and isinstance(self.spec.weights.granularity, Blocks)

    def plain(self, kept_float: Collection[str]) -> Recipe:
        """Round to nearest without bias correction, and no quantization of these operators: what the peer does."""
        assert self.spec.weights is not None
        weights = replace(self.spec.weights, algorithm="round_to_nearest", bias_correction=False)
        rules = (Rule(None, op=code) for code in kept_float)
        return replace(self.recipe, default=replace(self.spec, weights=weights)).with_rules(*rules)

    def with_sensitive(self, layers: Collection[str]) -> Setting:
        """Return the mix with more bits for these layers."""
        assert self.spec.weights is not None
        weights = replace(self.spec.weights, bits=MIXED_BITS[0], granularity=PerChannel(), algorithm="round_to_nearest")
        rules = (Rule(replace(self.spec, weights=weights), layer=name) for name in layers)
        return replace(self, recipe=self.recipe.with_rules(*rules))


def spec(mode: str, bits: int, granularity: Granularity) -> OpSpec:
    """With the default algorithm of the presets: `mse_clip` below 8 bits."""
    weights = WeightSpec(bits, granularity, algorithm="round_to_nearest" if bits == 8 else "mse_clip")
    return OpSpec(mode, weights, ActivationSpec(8) if mode == "integer" else None)


def _grid() -> list[Setting]:
    return [
        _flexible(
            f"{mode}-int{bits}-{name}",
            spec(mode, bits, granularity),
            peer="" if name == "groups8" else f"{mode}-int{bits}-{name}",
        )
        for mode in MODES
        for bits in BITS
        for name, granularity in GRANULARITIES.items()
    ]


def _flexible(name: str, wanted: OpSpec, **others: object) -> Setting:
    return Setting(name, Recipe(name, wanted, flexible=True), "size", **others)


def _mixes() -> list[Setting]:
    return [_flexible(f"{mode}-mixed", spec(mode, MIXED_BITS[1], Blocks(32)), mixed=True) for mode in MODES]


def _presets() -> list[Setting]:
    return [Setting(f"{name}-speed", recipe, "speed") for name, recipe in tfq.RECIPES.items() if "16" not in name]


SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in (*_grid(), *_mixes(), *_presets())}


def matching(patterns: Collection[str]) -> list[Setting]:
    """Return the settings whose names match one of the glob patterns, in order."""
    return [setting for name, setting in SETTINGS.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
