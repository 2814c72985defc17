"""Export of a wrapped Keras model: the float model, and the overrides that the wrappers decided.

The wrappers are taken off a copy, and the copy is converted as any float model. `overrides` has what they decided.
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from tfq_converters.errors import raise_all
from tfq_converters.graph import Graph
from tfq_converters.reading import layer_tree, load_model, nodes, read_config
from tfq_fine.layers.barrier import put_in_front
from tfq_fine.layers.overrides import Overrides, collected
from tfq_fine.layers.rebuild import rebuilt
from tfq_fine.layers.wrapped import WRAPPER, is_wrapper, wrappers
from tfq_fine.request import ActivationSpec, IntegerSpec, OpSpec, Recipe, WeightSpec


@dataclass(frozen=True)
class WrappedModel:
    """A model without its wrappers, and the wrappers by the paths of the layers that they wrap."""

    model: Any
    wrappers: Mapping[str, Any]  # `FineQuantize`, or what has its attributes

    @property
    def annotated(self) -> Recipe | None:
        """The recipe of `annotate`, if that one wrapped the layers."""
        texts = {wrapper.recipe for wrapper in self.wrappers.values() if wrapper.recipe}
        return Recipe.from_json(texts.pop()) if len(texts) == 1 else None

    @property
    def recipe(self) -> Recipe:
        """The recipe for what is not wrapped: that of `annotate`, else integers if a wrapper has them, else float."""
        if self.annotated is not None:
            return self.annotated
        bits = [w.spec.activations.bits for w in self.wrappers.values() if isinstance(w.spec, IntegerSpec)]
        if not bits:
            return Recipe("wrapped layers only", None)
        return Recipe("wrapped", OpSpec("integer", WeightSpec(8), ActivationSpec(max(bits))), flexible=True)

    def overrides(self, graph: Graph) -> Overrides:
        """Return the wrappers' specs, codes and ranges, for the operators of `graph`.

        Raises:
            TfqError: a kernel is not found in the graph; all are named.
        """
        return collected(graph, self.wrappers)


def wrapped_model(model: Any, safe_mode: bool = True) -> WrappedModel | None:
    """Return the wrappers that a Keras model or `.keras` file holds; None when it holds none.

    Raises:
        TfqError: as `unwrapped`, or the file cannot be loaded.
    """
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if path.suffix.lower() != ".keras" or not path.is_file() or WRAPPER not in str(read_config(path).config):
            return None
        importlib.import_module("tfq_fine.layers.fine_quantize")  # which registers the class with Keras
        model, _ = load_model(path, safe_mode)
    return unwrapped(model) if wrappers(model) else None


def unwrapped(model: Any) -> WrappedModel:
    """Return the float model in a calibrated model with wrappers, with marks (`barrier`) where the wrappers were.

    Raises:
        TfqError: wrappers of a static recipe that were never calibrated; all are named.
    """
    parts = taken_apart(model, fitted=True)
    raise_all(
        f"layer {path!r} is wrapped for integer kernels and has no range yet: run tfq_fine.calibrate(model, data) first"
        for path, wrapper in parts.wrappers.items()
        if not wrapper.is_calibrated
    )
    return parts


def taken_apart(model: Any, fitted: bool = False) -> WrappedModel:
    """Return the float model in a model with wrappers, as `unwrapped` has it, and the wrappers, calibrated or not.

    Args:
        model: the model.
        fitted: whether biases are those that calibration corrected for fitted weights.
    """
    wrapper_layers = {node.path: node.layer for node in nodes(layer_tree(model)) if is_wrapper(node.layer)}
    copies: dict[str, Any] = {}

    def marked(layer: Any, path: str) -> Any:
        if path not in wrapper_layers:
            return layer
        copies[path] = layer
        return put_in_front(layer)

    result = rebuilt(model, marked, unwrap=True)
    for path, copy in copies.items() if fitted else ():
        _correct_biases(wrapper_layers[path], copy)
    return WrappedModel(result, wrapper_layers)


def _correct_biases(wrapper: Any, copy: Any) -> None:
    """Give the copy of a wrapped layer the biases that its wrapper computes with."""
    for q in wrapper.kernels:
        if q.fitted is not None and q.fitted.bias is not None:
            bias = attrgetter(q.fitted.bias_name)(copy)
            bias.assign(q.fitted.bias.value + q.fitted.bias_offset.value)
