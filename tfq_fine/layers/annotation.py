"""`annotate`: a copy of a model in which every layer that a recipe quantizes is wrapped."""

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.graph import Op
from tfq_converters.reading import Node, keras_framework, layer_table, layer_tree, nodes, own_weights
from tfq_fine.layers.folding import fold_batch_norm
from tfq_fine.layers.layer_table import LayerRow, is_repeated, row_of
from tfq_fine.layers.rebuild import rebuilt
from tfq_fine.layers.wrapped import is_wrapper, wrappers
from tfq_fine.planning import Prefer
from tfq_fine.request import OpSpec, Recipe, WeightedSpec, named

NO_KERNELS = frozenset(
    {"PReLU", "LayerNormalization", "RMSNormalization", "SpectralNormalization"}
)  # whose weights are never multiplied as one
FUSED = frozenset({"ReLU", "Activation", "BatchNormalization"})  # what reads a sum before it is rounded


@dataclass(frozen=True)
class _Requested:
    """The request of a recipe for one layer."""

    layer: Any
    spec: OpSpec
    row: LayerRow | None  # None: the layer has weights, and nobody says what they are


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
    """Return a copy of a Keras model with layers wrapped in `FineQuantize` with the specs that the recipe requests.

    Args:
        model: a built Sequential, Functional or subclassed Keras 3 model; it is not changed.
        recipe: name of a preset, or a `Recipe`. Layers that it keeps float are not wrapped.
        learned: train the scales too (LSQ).
        prefer: "size" follows the recipe; "speed" keeps kernels that have no fast low-bit code at 8 bits.
        fold: fold batch norm first (`fold_batch_norm`), so that what is wrapped is what is deployed.
        momentum: the momentum of ranges while training.
        freeze_after: training steps after which ranges stay unchanged.
        rows: facts on layer types of your own, by class name.

    Returns:
        A model of the same inputs and outputs; `calibrate` sets its scales and ranges. A warning names each layer with
        weights that the recipe quantizes and that could not be wrapped.

    Raises:
        TfqError: a rule that names no layer, a layer that is frozen or wrapped already, a spec that it cannot take.
    """
    _check_model(model)
    chosen = named(recipe)
    start = fold_batch_norm(model).model if fold else model
    requested = _requested(start, chosen, rows or {})
    specs = {path: request for path, request in requested.items() if request.row is not None}
    if not specs:
        raise TfqError(
            f"recipe {chosen.name!r} quantizes no kernel of model {model.name!r} to 2 to 8 bits, so that there is "
            "nothing to wrap; tfq_fine.quantize(model, recipe) needs no wrappers"
        )
    outputs = _read_in_float(start, set(specs))
    text = chosen.to_json()
    wrapper_class = importlib.import_module("tfq_fine.layers.fine_quantize").FineQuantize  # Keras comes with it

    def wrapper_of(layer: Any, path: str) -> Any:
        spec, row = specs[path].spec, specs[path].row
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
            row=None if row == row_of(layer) else row,
            recipe=text,
        )

    def wrapped(layer: Any, path: str) -> Any:
        if path not in specs:
            return layer
        wrapper = wrapper_of(layer, path)
        if layer.built:
            wrapper.build_like_call()
        return wrapper

    marked = [node for node in nodes(layer_tree(start)) if node.path in specs]
    raise_all(problem for node in marked for problem in _problems(node, wrapper_of))
    result = rebuilt(start, wrapped)
    importlib.import_module("tfq_fine.layers.serialization").hold(result)
    for wrapper in wrappers(result):
        wrapper.fit_scales()
    _report_left(result, requested)
    return result


def _check_model(model: Any) -> None:
    """Check that `annotate` can wrap layers of a model.

    Raises:
        TfqError: it is a path, a tf_keras model, or has wrapped layers already.
    """
    if isinstance(model, str | os.PathLike):
        raise TfqError(f"annotate takes a Keras model, found a path: load {os.fspath(model)!r} with Keras first")
    if keras_framework(model) != "keras":
        raise TfqError(f"annotate wraps Keras 3 models; {model.name!r} is of tf_keras: see tfq_fine.tfmot")
    if wrappers(model):
        names = ", ".join(repr(wrapper.layer.name) for wrapper in wrappers(model))
        raise TfqError(f"model {model.name!r} has wrapped layers already: {names}; annotate the float model")


def _problems(node: Node, wrapper_of: Callable[[Any, str], Any]) -> list[str]:
    """Return why a layer cannot be wrapped as requested."""
    try:
        return [problem for *_, problem in wrapper_of(node.layer, node.path).decided() if problem]
    except TfqError as error:
        return [str(error)]


def _requested(model: Any, recipe: Recipe, rows: Mapping[str, LayerRow]) -> dict[str, _Requested]:
    """Return what the recipe requests of every layer with kernels, by path, without what it keeps float.

    Raises:
        TfqError: a rule that names no layer.
    """
    layers = layer_table(model)
    raise_all(
        f"{rule} matches no layer of model {model.name!r}"
        for rule in recipe.rules
        if rule.op is None and not any(rule.matches(Op("", (), (), layer=path), layers) for path in layers)
    )
    requests: dict[str, _Requested] = {}
    inside: list[str] = []
    for node in nodes(layer_tree(model)):
        row = row_of(node.layer, rows)
        if any(node.path.startswith(f"{path}/") for path in inside) or not (row or _has_matrix(node)):
            continue
        inside += [node.path] if row else []
        op = Op(row.kernels[0].op if row else "", (), (), layer=_called(node.layer, node.path))
        spec = recipe.spec_of(op, layers)
        if isinstance(spec, WeightedSpec):
            requests[node.path] = _Requested(node.layer, spec, row)
    return requests


def _called(layer: Any, path: str) -> str:
    """Return the path of the layer that computes: of a TimeDistributed, that in it."""
    return _called(layer.layer, f"{path}/{layer.layer.name}") if is_repeated(layer) else path


def _has_matrix(node: Node) -> bool:
    """Return whether a layer has weights of its own that may be a kernel."""
    own = [weight for weight in own_weights(node) if str(weight.dtype).startswith("float")]
    return type(node.layer).__name__ not in NO_KERNELS and any(len(weight.shape) > 1 for weight in own)


def _report_left(result: Any, requested: Mapping[str, _Requested]) -> None:
    """Name the layers that were to be quantized and are not wrapped."""
    wrapped = {node.path for node in nodes(layer_tree(result)) if is_wrapper(node.layer)}
    for path, request in requested.items():
        if path not in wrapped:
            why = (
                "it is inside a Keras layer that cannot be taken apart"
                if request.row
                else "its type is unknown (pass rows=... with a LayerRow for it)"
            )
            logging.getLogger("tfq_fine").warning(
                "layer %r (%s) is not wrapped: %s. Training does not simulate its quantization; quantize() follows the "
                "recipe",
                *(path, type(request.layer).__name__, why),
            )


def _read_in_float(model: Any, wrapped: set[str]) -> set[str]:
    """Return paths of wrapped layers whose output is read by something that does not quantize it itself."""
    paths = {id(node.layer): node.path for node in nodes(layer_tree(model))}
    float_readers = set()
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
                    float_readers.add(path)
    return float_readers
