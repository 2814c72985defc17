"""The wrappers in a model."""

from typing import Any

WRAPPER = "FineQuantize"


def is_wrapper(layer: Any) -> bool:
    """Whether `layer` is a `FineQuantize`. Loads nothing."""
    return any(cls.__name__ == WRAPPER and cls.__module__.startswith("tfq_fine.") for cls in type(layer).__mro__)


def wrappers(model: Any) -> list[Any]:
    """Every wrapper in `model`, each once, outer layers before inner ones."""
    if not hasattr(model, "_flatten_layers"):
        return []
    return [layer for layer in model._flatten_layers(recursive=True) if is_wrapper(layer)]


def freeze_ranges(model: Any, frozen: bool = True) -> None:
    """Keep the ranges of activations as they are from now on, also while training; `frozen=False` lets them move."""
    for wrapper in wrappers(model):
        for found in (*wrapper.ranges, wrapper.output_range):
            if found is not None:
                found.frozen.assign(float(frozen))
                if found.learned:
                    found.step.trainable = not frozen
