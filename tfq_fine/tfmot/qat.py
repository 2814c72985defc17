"""Conversion of a tf_keras model trained with TFMOT to what the quantizer needs; TFMOT itself is not imported.

The wrappers of TFMOT are taken off a copy. Kernels of a `FineQuantizeConfig` keep the scales that they were trained
with; activations, also of TFMOT's own 8-bit scheme, keep their learned ranges. A range belongs to the last layer that
the name of a tensor of the converted model tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import Float32Array, Graph, Int64Array, Op, Subgraph
from tfq_converters.operators import weight_axes
from tfq_converters.reading import framework_of, parts
from tfq_fine.calibration import Range
from tfq_fine.layers import Overrides, QuantizedKernel, WrappedModel, kernels_of, op_shape, plan_kernel, row_of
from tfq_fine.numerics import affine
from tfq_fine.planning import Policy
from tfq_fine.request import ActivationSpec, IntegerSpec, OpSpec, WeightSpec

WRAPPERS = frozenset({"QuantizeWrapper", "QuantizeWrapperV2"})
INPUT = "QuantizeLayer"
OTHER_NAMES = {"DepthwiseConv2D": "depthwise_kernel"}  # where tf_keras calls a kernel by another name
EIGHT_BITS = OpSpec("integer", WeightSpec(8, bias_correction=False), ActivationSpec(8))


@dataclass(frozen=True)
class QatLayer:
    """The decisions of a TFMOT wrapper, with the attributes of `FineQuantize` that the export reads."""

    spec: OpSpec
    kernels: tuple[QuantizedKernel, ...] = ()
    ranges: tuple[Any, ...] = ()
    output_range: Any = None
    recipe: str | None = None
    in_common: bool = False  # all blocks of a kernel have the scale of its extent: clusters are preserved

    def scales(self, kernel: QuantizedKernel) -> tuple[Float32Array, Int64Array]:
        """Return scales and zero points of a kernel, one for each block, as they were in training."""
        shares = 1.0 if kernel.factors is None else np.asarray(kernel.factors)
        return kernel.extent_scales(shares, self.in_common)


class LearnedRange(Range):
    """A range of TFMOT, with what the export reads of the ranges of `FineQuantize`."""

    def limits(self) -> Range:
        """Return the range itself."""
        return self


@dataclass(frozen=True)
class QatModel(WrappedModel):
    """A model without TFMOT's wrappers, what they decided, and the learned ranges by the names of layers."""

    learned: Mapping[str, Range] = field(
        default_factory=dict
    )  # the ranges of what layers write, in the order of the model
    before: Mapping[str, Range] = field(
        default_factory=dict
    )  # the ranges of what their activations read: SOFTMAX and such
    inputs: Mapping[str, Range] = field(default_factory=dict)  # the ranges of what the model reads

    def overrides(self, graph: Graph) -> Overrides:
        """Return what the wrappers decided about the operators of `graph`."""
        collected, main = super().overrides(graph), graph.main
        ranges: dict[int, Range] = {}
        for op in main.ops:
            for t in op.outputs if main.tensors[op.outputs[0]].dtype == "float32" else ():
                written = self._written(op, main)
                ranges |= {} if written is None else {t: written}
        names = graph.input_names() if len(main.inputs) > 1 else [*self.inputs][:1]
        ranges |= {t: self.inputs[name] for name, t in zip(names, main.inputs, strict=False) if name in self.inputs}
        return replace(
            collected, held={**collected.held, **{(0, t): [LearnedRange(*limits)] for t, limits in ranges.items()}}
        )

    def _written(self, op: Op, main: Subgraph) -> Range | None:
        """Return the learned range of an operator's result: that of the last layer which the tensor's name tells."""
        told = {scope for scopes, _ in parts(main.tensors[op.outputs[0]].name) for scope in scopes} | {op.layer}
        layer = next((name for name in reversed([*self.wrappers]) if name in told & {*self.learned, *self.before}), "")
        if layer in self.before and weight_axes(op, main):
            return self.before[layer]
        return self.learned.get(layer)


def qat_model(model: Any) -> QatModel | None:
    """Return the model that TFMOT's wrappers are in, without them, and what they decided; None without such wrappers.

    Raises:
        TfqError: a model that is neither Sequential nor Functional, or was annotated and not applied.
    """
    if framework_of(model) != "tf_keras" or not hasattr(model, "layers"):
        return None
    kinds = {type(layer).__name__ for layer in model.layers}
    if "QuantizeAnnotate" in kinds:
        raise TfqError(f"model {model.name!r} is annotated only: call tfmot.quantization.keras.quantize_apply first")
    if kinds.isdisjoint({*WRAPPERS, INPUT}):
        return None
    layers: dict[str, QatLayer] = {}
    learned: dict[str, Range] = {}
    before: dict[str, Range] = {}
    inputs: dict[str, Range] = {}
    for layer in model.layers:
        if type(layer).__name__ == INPUT:
            learned_range = _range(layer, f"{layer.name}_")
            if learned_range is not None and learned_range.extent:
                inputs[layer.input._keras_history.layer.name] = learned_range
        elif type(layer).__name__ in WRAPPERS:
            name = layer.layer.name
            learned_range = _range(layer, "post_activation_") or _range(layer, "output_")
            read = _range(layer, "pre_activation_")
            learned |= {} if learned_range is None else {name: learned_range}
            before |= {} if read is None else {name: read}
            layers[name] = _layer(layer, (learned_range or read) is not None)
    return QatModel(_stripped(model), layers, learned, before, inputs)


def _range(layer: Any, prefix: str) -> Range | None:
    """Return a range of a layer as its training saw it: of 8 bits, TFMOT rounds the zero point and leaves the scale."""
    ends = {w.name.split(":")[0].rsplit("/", 1)[-1]: w for w in layer.weights}
    low, high = ends.get(f"{prefix}min"), ends.get(f"{prefix}max")
    if low is None or high is None:
        return None
    spec = getattr(getattr(layer, "quantize_config", None), "spec", None)
    learned = Range(float(low.numpy()), float(high.numpy()))
    if not learned.extent or (isinstance(spec, IntegerSpec) and spec.activations.bits == 16):
        return learned
    scale, zero_point = (float(part) for part in affine.asymmetric_scale(*learned, 8))
    return Range(scale * (-128 - zero_point), scale * (127 - zero_point))


def _layer(wrapper: Any, has_range: bool) -> QatLayer:
    spec = getattr(wrapper.quantize_config, "spec", None)
    if not isinstance(spec, OpSpec):
        return QatLayer(EIGHT_BITS if has_range else OpSpec("float"))
    kernels = tuple(
        replace(quantizer.kernel, variable=_trained(wrapper, variable), factors=memory.get("shares"))
        for variable, quantizer, memory in wrapper._weight_vars
    )
    return QatLayer(spec, kernels, in_common=wrapper.quantize_config.preserve_clusters)


def kernels_held(layer: Any, spec: OpSpec, policy: Policy) -> list[tuple[QuantizedKernel, str]]:
    """Return (kernel, name of the attribute) of a built tf_keras layer, as the file will hold them.

    Raises:
        TfqError: the layer has no kernels that are known, or cannot take the spec.
    """
    row = row_of(layer)
    if row is None or any("." in kernel.variable for kernel in row.kernels):
        raise TfqError(f"layer {layer.name!r} ({type(layer).__name__}) cannot take a FineQuantizeConfig")
    other = OTHER_NAMES.get(type(layer).__name__)
    if other:
        row = replace(row, kernels=tuple(replace(kernel, variable=other) for kernel in row.kernels))
    kernels = []
    for kernel, variable, layout in kernels_of(layer, row, checked=False):
        answer = plan_kernel(
            kernel.op, op_shape(tuple(variable.shape), layout), spec, policy, getattr(layer, "groups", 1)
        )
        if answer is not None:
            kernels.append((QuantizedKernel(kernel, variable, layout, answer), kernel.variable))
    return kernels


def _stripped(model: Any) -> Any:
    """Return the float model: a copy without wrappers, with the trained weights."""
    import tf_keras

    pairs: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        if type(layer).__name__ == INPUT:
            return tf_keras.layers.Activation("linear", name=layer.name)
        source = layer.layer if type(layer).__name__ in WRAPPERS else layer
        config = source.get_config()
        if getattr(layer, "_quantize_activations", None):
            plain = layer._quantize_activations[0].activation
            name = getattr(plain, "__name__", "linear")
            config["activation"] = "linear" if type(plain).__name__ == "NoOpActivation" else name
        elif "activation" in config and not isinstance(config["activation"], str):
            config["activation"] = "linear"
        target = type(source).from_config(config)
        pairs.append((layer, target))
        return target

    result = tf_keras.models.clone_model(model, clone_function=clone)
    for source, target in pairs:
        held_weights = {_ending(weight): weight for weight in source.weights}
        for weight in target.weights:
            weight.assign(_trained(source, held_weights[_ending(weight)]))
    return result


def _ending(weight: Any) -> str:
    return str(weight.name).split(":")[0].rsplit("/", 1)[-1]


def _trained(wrapper: Any, variable: Any) -> Any:
    """Return the values of a kernel as its quantizer sees them: with the zeros and clusters that are preserved."""
    for weight, quantizer, memory in getattr(wrapper, "_weight_vars", ()):
        if weight is variable and hasattr(quantizer, "_preserved"):
            return quantizer._preserved(weight.value(), memory)
    return variable
