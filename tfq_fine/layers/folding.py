"""Batch norm folded into the linear layers next to it, in Keras: the same function up to float rounding.

After a linear layer, gamma / sqrt(variance + epsilon) goes into its output channels and the rest into its bias. Before
one, the factor goes into its inputs, and the shift through the kernel into its bias: exact only where the layer pads
nothing, since a padded 0 is not shifted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfq_converters.graph import Float64Array, FloatArray
from tfq_converters.operators import facts_of
from tfq_converters.reading import layer_tree, nodes
from tfq_fine.layers.inside import is_graph
from tfq_fine.layers.layer_table import from_op, kernels_of, known_row, to_op
from tfq_fine.layers.rebuild import copied, copy_weights, known_classes

NORM = "BatchNormalization"
LINEAR = frozenset(
    (
        *("Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"),
        *("SeparableConv1D", "SeparableConv2D", "Conv1DTranspose", "Conv2DTranspose"),
    )
)


@dataclass(frozen=True)
class Folded:
    """A copy of a model with less batch norm, and what became of each one."""

    model: Any
    folded: Mapping[str, str] = field(default_factory=dict)  # path of the batch norm -> of the layer that took it
    left: Mapping[str, str] = field(default_factory=dict)  # path of the batch norm -> why it is still there


@dataclass(frozen=True)
class _Fold:
    """One batch norm and the layer that takes it."""

    norm: Any
    linear: Any
    is_after: bool  # the norm stands after the layer


def fold_batch_norm(model: Any) -> Folded:
    """Return a copy of a Keras model with batch norm folded into the linear layers before it or after it.

    Args:
        model: a built Keras 3 model; it is not changed. In subclassed models, all batch norm is left.

    Returns:
        The copy, the folds, and why the other batch norms were left.
    """
    paths = {id(node.layer): node.path for node in nodes(layer_tree(model))}
    folds: list[_Fold] = []
    left: dict[str, str] = {}
    calls = Counter(id(node.operation) for graph in _graphs(model) for node in _calls(graph))
    for graph in _graphs(model):
        for norm in {id(node.operation): node for node in _calls(graph) if _is_norm(node.operation)}.values():
            decision = _fold_of(graph, norm, calls, {id(fold.linear) for fold in folds})
            if isinstance(decision, _Fold):
                folds.append(decision)
            else:
                left[paths[id(norm.operation)]] = decision
    done = {id(fold.norm) for fold in folds}
    for node in nodes(layer_tree(model)):
        if _is_norm(node.layer) and id(node.layer) not in done and node.path not in left:
            left[node.path] = "it is inside a layer or model of your own"
    with known_classes(model):
        copy = _copy(model, folds) if is_graph(model) else _plain_copy(model)
    return Folded(copy, {paths[id(fold.norm)]: paths[id(fold.linear)] for fold in folds}, left)


def _is_norm(layer: Any) -> bool:
    return type(layer).__name__ == NORM


def _graphs(model: Any) -> Iterator[Any]:
    """Yield the Functional graphs of a model and of the models in it."""
    if is_graph(model):
        graph = getattr(model, "_functional", None) or model
        yield graph
        for layer in model.layers:
            yield from _graphs(layer)


def _calls(graph: Any) -> list[Any]:
    return [node for depth in graph._nodes_by_depth.values() for node in depth]


def _fold_of(graph: Any, norm: Any, calls: Mapping[int, int], taken: set[int]) -> "_Fold | str":
    """Return how the batch norm of a call is folded, or why it is not."""
    layer = norm.operation
    (tensor,) = norm.input_tensors
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if calls[id(layer)] > 1:
        return "it is called several times"
    if axis % len(tensor.shape) != len(tensor.shape) - 1:
        return f"it normalizes axis {layer.axis}, which is not the last"
    reasons = []
    for is_after, candidate in ((True, _maker(graph, tensor)), (False, _only_reader(graph, norm.outputs[0]))):
        side = "before it" if is_after else "after it"
        if isinstance(candidate, str):
            reasons.append(f"{side}: {candidate}")
            continue
        problem = _problem(graph, candidate, layer, is_after, calls, taken)
        if not problem:
            return _Fold(layer, candidate, is_after)
        reasons.append(f"{side}: {problem}")
    return "; ".join(reasons)


def _maker(graph: Any, tensor: Any) -> Any:
    maker = next((node for node in _calls(graph) if any(out is tensor for out in node.outputs)), None)
    readers = [node for node in _calls(graph) if any(source is tensor for source in node.input_tensors)]
    if maker is None or type(maker.operation).__name__ not in LINEAR:
        kind = type(maker.operation).__name__ if maker else "an input"
        return f"{kind} is no linear layer"
    if len(readers) > 1 or any(out is tensor for out in graph.outputs):
        return f"the output of {maker.operation.name!r} is used elsewhere too"
    return maker.operation


def _only_reader(graph: Any, tensor: Any) -> Any:
    readers = [node for node in _calls(graph) if any(source is tensor for source in node.input_tensors)]
    if len(readers) != 1 or any(out is tensor for out in graph.outputs):
        return f"{len(readers)} layers read it" if readers else "it is an output of the model"
    reader = readers[0].operation
    return reader if type(reader).__name__ in LINEAR else f"{type(reader).__name__} is no linear layer"


def _problem(graph: Any, linear: Any, norm: Any, is_after: bool, calls: Mapping[int, int], taken: set[int]) -> str:
    name = repr(linear.name)
    if calls[id(linear)] > 1:
        return f"{name} is called several times"
    if id(linear) in taken:
        return f"{name} took another batch norm already"
    if getattr(linear, "data_format", "channels_last") != "channels_last":
        return f"{name} has its channels first"
    if is_after:
        plain = getattr(linear.activation, "__name__", "linear") == "linear"
        return "" if plain else f"{name} has an activation"
    if getattr(linear, "groups", 1) > 1:
        return f"{name} is grouped"
    if np.any(_shift_and_factor(norm)[0] != 0) and _pads(linear):
        return f"{name} pads its input with zeros, which the norm would shift"
    return ""


def _pads(linear: Any) -> bool:
    """Return whether some output of a layer sees less than its whole window."""
    if "Transpose" in type(linear).__name__:
        return True
    window = getattr(linear, "kernel_size", (1,))
    return getattr(linear, "padding", "valid") != "valid" and any(size > 1 for size in window)


def _shift_and_factor(norm: Any) -> tuple[Float64Array, Float64Array]:
    """Return (shift, factor), float64 [C]: the norm is x * factor + shift."""
    variance, mean = (np.asarray(v, np.float64) for v in (norm.moving_variance, norm.moving_mean))
    factor = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        factor = factor * np.asarray(norm.gamma, np.float64)
    shift = -mean * factor
    return shift + np.asarray(norm.beta, np.float64) if norm.center else shift, factor


def _copy(model: Any, folds: list[_Fold]) -> Any:
    """Return the copy without the folded batch norms, weights included."""
    import keras

    gone, made = {id(fold.norm) for fold in folds}, {id(fold.linear): fold for fold in folds}
    copies: dict[int, Any] = {}

    def clone(layer: Any) -> Any:
        if id(layer) not in copies:
            copies[id(layer)] = (
                _skeleton(layer) if is_graph(layer) else _with_bias(layer) if id(layer) in made else copied(layer)
            )
        return copies[id(layer)]

    def call(layer: Any, *arguments: Any, **named: Any) -> Any:
        if any(layer is copies.get(norm) for norm in gone):
            return arguments[0]
        return layer(*arguments, **named)

    def _skeleton(graph: Any) -> Any:
        if isinstance(graph, keras.Sequential):
            (source,) = graph.inputs
            first = keras.Input(batch_shape=source.shape, dtype=source.dtype, name=source.name)
            inner = [clone(layer) for layer in graph.layers if id(layer) not in gone]
            return keras.Sequential([first, *inner], name=graph.name)
        return keras.models.clone_model(graph, clone_function=clone, call_function=call)

    result = _skeleton(model)
    kept = {id(layer): layer for layer in model._flatten_layers(recursive=True)}
    for key, copy in copies.items():
        if key in made:
            _fold_into(copy, made[key])
        elif key in kept and key not in gone and not is_graph(copy):  # others are plain operations
            copy_weights(kept[key], copy)
    return result


def _plain_copy(model: Any) -> Any:
    copy = copied(model)
    copy_weights(model, copy)
    return copy


def _with_bias(layer: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), "use_bias": True})


def _fold_into(copy: Any, fold: _Fold) -> None:
    """Set the weights of the copy of a linear layer to those of the layer and the norm together."""
    linear = fold.linear
    shift, factor = _shift_and_factor(fold.norm)
    bias = np.asarray(linear.bias, np.float64) if linear.use_bias else 0.0
    kernels = kernels_of(linear, known_row(linear))
    new = {kernel.variable: np.asarray(variable, np.float64) for kernel, variable, _ in kernels}
    kernel, variable, layout = kernels[-1 if fold.is_after else 0]
    (axes,) = facts_of(kernel.op).weights
    values = to_op(new[kernel.variable], layout)
    if fold.is_after:
        values = values * _along(factor, axes.channel, values.ndim)
        bias = bias * factor + shift
    else:
        per_input = axes.inputs if axes.inputs is not None else axes.channel
        repeats = values.shape[per_input] // len(factor)  # the depth multiplier
        shifted = values * _along(np.repeat(shift, repeats), per_input, values.ndim)
        added = shifted.sum(axis=tuple(axis for axis in range(values.ndim) if axis != axes.channel))
        for later, _, other in kernels[1:]:  # a pointwise kernel after the depthwise one
            matrix = to_op(new[later.variable], other)
            added = matrix.reshape(matrix.shape[0], -1) @ added
        bias = bias + added
        values = values * _along(np.repeat(factor, repeats), per_input, values.ndim)
    new[kernel.variable] = from_op(values, layout, tuple(variable.shape))
    for name, value in new.items():
        getattr(copy, name).assign(value.astype(np.float32))
    copy.bias.assign(np.asarray(bias, np.float32))


def _along(values: FloatArray, axis: int, rank: int) -> FloatArray:
    return values.reshape([-1 if other == axis else 1 for other in range(rank)])
