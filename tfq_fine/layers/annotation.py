"""`annotate`: a copy of a model in which every layer that a recipe quantizes is wrapped."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.graph import Op
from tfq_converters.reading.layers import Node, layer_table, layer_tree, nodes
from tfq_converters.reading.load import keras_framework
from tfq_fine.layers.folding import fold_batch_norm
from tfq_fine.layers.rebuild import rebuilt
from tfq_fine.layers.rows import LayerRow, row_of
from tfq_fine.layers.wrapped import wrappers
from tfq_fine.plan import Prefer
from tfq_fine.presets import named
from tfq_fine.recipe import Recipe
from tfq_fine.specs import OpSpec

FUSED = frozenset({"ReLU", "Activation", "BatchNormalization"})  # what reads a sum before it is rounded


def annotate(
    model: Any,
    recipe: str | Recipe = "full_int8",
    *,
    learned: bool = False,
    prefer: Prefer = "size",
    fold: bool = True,
    momentum: float = 0.99,
    freeze_after: int | None = None,
    rows: Mapping[str, LayerRow] | None = None,
) -> Any:
    """A copy of a Keras model whose layers are wrapped in `FineQuantize` with what the recipe asks of them.

    Args:
        model: a built Sequential, Functional or subclassed Keras 3 model; it is not changed.
        recipe: name of a preset, or a `Recipe`. Layers that it keeps float are not wrapped.
        learned: train the scales too (LSQ).
        prefer: "size" takes a recipe at its word; "speed" keeps kernels that have no fast low-bit code at 8 bits.
        fold: fold batch norm first (`fold_batch_norm`), so that what is wrapped is what is deployed.
        momentum: of ranges while training.
        freeze_after: training steps after which ranges stay as they are.
        rows: facts on layer types of your own, by class name.

    Returns:
        A model of the same inputs and outputs; `calibrate` sets its scales and ranges.

    Raises:
        TfqError: a rule that names no layer, a layer that is frozen or wrapped already, a spec that it cannot take.
    """
    if keras_framework(model) != "keras":
        raise TfqError(f"annotate wraps Keras 3 models; {model.name!r} is of tf_keras: see tfq_fine.tfmot")
    if wrappers(model):
        names = ", ".join(repr(wrapper.layer.name) for wrapper in wrappers(model))
        raise TfqError(f"model {model.name!r} has wrapped layers already: {names}; annotate the float model")
    chosen = named(recipe)
    start = fold_batch_norm(model).model if fold else model
    specs = dict(_specs(start, chosen, rows or {}))
    if not specs:
        raise TfqError(
            f"recipe {chosen.name!r} quantizes no kernel of model {model.name!r} to 2 to 8 bits, so that there is "
            "nothing to wrap; tfq_fine.quantize(model, recipe) needs no wrappers"
        )
    outputs = _read_in_float(start, set(specs))
    text = chosen.to_json()
    wrapper_class = importlib.import_module("tfq_fine.layers.fine_quantize").FineQuantize  # Keras comes with it

    def wrapper_of(layer: Any, path: str) -> Any:
        spec, row = specs[path]
        return wrapper_class(
            layer,
            spec.weights,
            spec.activations,
            mode=spec.mode,
            learned=learned,
            outputs=path in outputs,
            momentum=momentum,
            freeze_after=freeze_after,
            flexible=chosen.flexible,
            prefer=prefer,
            row=row,
            recipe=text,
        )

    def wrapped(layer: Any, path: str) -> Any:
        if path not in specs:
            return layer
        found = wrapper_of(layer, path)
        if layer.built:
            found.build_like_call()
        return found

    marked = [node for node in nodes(layer_tree(start)) if node.path in specs]
    raise_all(problem for node in marked for problem in _problems(node, wrapper_of))
    result = rebuilt(start, wrapped)
    importlib.import_module("tfq_fine.layers.holder").hold(result)
    for wrapper in wrappers(result):
        wrapper.fit_scales()
    return result


def _problems(node: Node, wrapper_of: Callable[[Any, str], Any]) -> list[str]:
    """Why a layer cannot be wrapped as it is asked."""
    try:
        return [problem for *_, problem in wrapper_of(node.layer, node.path).decided() if problem]
    except TfqError as error:
        return [str(error)]


def _specs(
    model: Any, recipe: Recipe, rows: Mapping[str, LayerRow]
) -> Iterator[tuple[str, tuple[OpSpec, LayerRow | None]]]:
    """(path, (what is asked, the user's row)) of every layer with kernels that the recipe quantizes."""
    layers = layer_table(model)
    raise_all(
        f"{rule} matches no layer of model {model.name!r}"
        for rule in recipe.rules
        if rule.op is None and not any(rule.matches(Op("", (), (), layer=path), layers) for path in layers)
    )
    inside: list[str] = []
    for node in nodes(layer_tree(model)):
        row = row_of(node.layer, rows)
        if row is None or any(node.path.startswith(f"{path}/") for path in inside):
            continue
        inside.append(node.path)
        spec = recipe.spec_of(Op(row.kernels[0].op, (), (), layer=node.path), layers)
        if spec is not None and spec.weights is not None:
            yield node.path, (spec, rows.get(type(node.layer).__name__))


def _read_in_float(model: Any, wrapped: set[str]) -> set[str]:
    """Paths of the wrapped layers whose output something reads that does not quantize it itself."""
    paths = {id(node.layer): node.path for node in nodes(layer_tree(model))}
    found = set()
    for inner in model._flatten_layers(recursive=True):
        graph = getattr(inner, "_functional", None) or inner
        if not hasattr(graph, "_nodes_by_depth"):
            continue
        final = {id(tensor) for tensor in graph.outputs}
        readers: dict[int, list[Any]] = {}
        every = [node for depth in graph._nodes_by_depth.values() for node in depth]
        for node in every:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(node.operation)
        for node in every:
            path = paths.get(id(node.operation), "")
            for tensor in node.outputs if path in wrapped else ():
                after = readers.get(id(tensor), [])
                own = [paths.get(id(op)) in wrapped or type(op).__name__ in FUSED for op in after]
                if id(tensor) in final or not all(own):
                    found.add(path)
    return found
