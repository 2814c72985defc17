"""The wrappers in a model, and the layers without them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.reading import inner_layers

WRAPPER = "FineQuantize"


def is_wrapper(layer: Any) -> bool:
    """Return whether `layer` is a `FineQuantize`. Loads nothing."""
    return any(cls.__name__ == WRAPPER and cls.__module__.startswith("tfq_fine.") for cls in type(layer).__mro__)


def wrappers(model: Any) -> list[Any]:
    """Return every wrapper in `model`, each once, outer layers before inner ones."""
    if not hasattr(model, "_flatten_layers"):
        return []
    return [layer for layer in model._flatten_layers(recursive=True) if is_wrapper(layer)]


def freeze_ranges(model: Any, frozen: bool = True) -> None:
    """Freeze the ranges of activations from now on, also while training; `frozen=False` lets them move.

    A compiled model need not be compiled again.

    Raises:
        TfqError: the model holds no wrappers.
    """
    for wrapper in require_wrappers(model):
        for each in wrapper.every_range:
            each.freeze(frozen)


def require_wrappers(model: Any) -> list[Any]:
    """Return the wrappers in `model`.

    Raises:
        TfqError: there are none.
    """
    inside = wrappers(model)
    if not inside:
        name = getattr(model, "name", type(model).__name__)
        raise TfqError(f"model {name!r} holds no FineQuantize layers; see tfq_fine.annotate")
    return inside


def plain_class(layer: Any) -> Any:
    """Return the class that the user wrote of a layer with wrappers inside; of other layers, their class."""
    return getattr(type(layer), "plain_class", type(layer))


@contextmanager
def as_plain(layer: Any) -> Iterator[None]:
    """Give a layer with wrappers inside the class that the user wrote, for the time of a block."""
    holder = type(layer)
    object.__setattr__(layer, "__class__", plain_class(layer))
    try:
        yield
    finally:
        object.__setattr__(layer, "__class__", holder)


def inner_names(layer: Any) -> list[str]:
    """Return the names of `layer` and all inside it, wrappers passed over, in an order independent of wrappers."""
    return [layer.name, *(inner.name for inner in _inside(layer))]


def rename(layer: Any, names: Sequence[str]) -> None:
    """Give `layer` and all inside it the names of `inner_names`, where Keras made up others."""
    for inner, name in zip((layer, *_inside(layer)), names, strict=False):
        inner.name = name


def _inside(layer: Any) -> Iterator[Any]:
    for child in inner_layers(layer):
        plain = child.layer if is_wrapper(child) else child
        yield plain
        yield from _inside(plain)
