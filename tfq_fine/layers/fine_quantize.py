"""`FineQuantize`: one wrapper for every Keras layer with weights.

It quantizes the kernels and the inputs of the wrapped layer in every call, exactly as the file will, with
straight-through gradients. The wrapped layer is not changed: it is called while its kernels stand for their quantized
values (`keras.StatelessScope`).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import keras
import tensorflow as tf

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.files import from_plain
from tfq_converters.graph import Float32Array, Float64Array, Int64Array
from tfq_converters.quantized import Mode
from tfq_fine.algorithms import algorithm_of
from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.layers.activation_range import ActivationRange
from tfq_fine.layers.fitted_kernel import FittedKernel, FixedScale, fitted_kernel
from tfq_fine.layers.input_hooks import changed_inside, data_of, is_inside, on_the_fly, phases
from tfq_fine.layers.kernel import QuantizedKernel
from tfq_fine.layers.kernel_plan import KernelPlan, plan_kernel
from tfq_fine.layers.kernel_scales import fit_scales, quantized_values, scales_now
from tfq_fine.layers.layer_table import (
    Kernel,
    LayerRow,
    Layout,
    holder_of,
    kernels_of,
    known_row,
    op_shape,
)
from tfq_fine.layers.serialization import FineQuantizeHolder  # noqa: F401 - Keras knows it together with the wrapper
from tfq_fine.layers.trained_scale import TrainedScale
from tfq_fine.layers.wrapper_checks import check_layer, check_options, checked_spec, reason
from tfq_fine.planning import Policy, Prefer
from tfq_fine.request import ActivationSpec, IntegerSpec, WeightedSpec, WeightSpec, to_json


@keras.saving.register_keras_serializable(package="tfq_fine")
class FineQuantize(keras.layers.Wrapper):  # type: ignore[misc]
    """Wraps a layer with weights: marks it for `tfq_fine.quantize`, and simulates what will be in the file.

    Args:
        layer: any layer type that has a row in `layer_table.ROWS`, or in `row`.
        weights: how its kernels are quantized.
        activations: how its inputs are quantized; None leaves them float (or, in mode "dynamic", to each call). As in
            `quantize`, the observer of what computes a tensor comes before that of what reads it.
        mode: the mode of the operator in the file; None is "integer" with activations, "weight_only" without.
        learned: scales are trained (LSQ); else weight scales follow the weights, and ranges a moving average.
        outputs: whether the output is quantized too: where no wrapped layer reads it, as before a sum.
        momentum: the momentum of the moving average.
        freeze_after: training steps after which ranges stay unchanged.
        flexible: whether the file may take more bits or a coarser granularity where its kernels want that.
        prefer: "speed" or "size", for flexible wrappers.
        row: the facts of a layer type that is not known; see `layer_table.LayerRow`.
        recipe: JSON of the recipe for everything that is not wrapped.

    Raises:
        TfqError: the layer has no weights to quantize, is wrapped already or frozen, or its policy is not float32.
    """

    def __init__(
        self,
        layer: Any,
        weights: WeightSpec | None = None,
        activations: ActivationSpec | None = None,
        *,
        mode: Mode | None = None,
        learned: bool = False,
        outputs: bool = False,
        momentum: float = 0.99,
        freeze_after: int | None = None,
        flexible: bool = False,
        prefer: Prefer = "speed",
        row: LayerRow | None = None,
        recipe: str | None = None,
        **arguments: Any,
    ):
        check_layer(layer, weights, row)
        spec = checked_spec(layer.name, mode or ("integer" if activations else "weight_only"), weights, activations)
        check_options(layer.name, spec, momentum, freeze_after, prefer)
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy, **arguments})
        self.spec = spec
        self.learned, self.outputs, self.momentum, self.freeze_after = learned, outputs, momentum, freeze_after
        self.policy = Policy(prefer, flexible)
        self.row, self.recipe = row, recipe
        self.observing = False  # calibration: look at the inputs, and leave them unchanged
        self.means: dict[str, Float64Array] = {}  # by channel, of what kernels' operators read, of the last calibration
        self.inputs = 0  # float tensors that the layer is called with
        self.kernels: tuple[QuantizedKernel, ...] = ()
        self.ranges: tuple[ActivationRange, ...] = ()  # one for each input, in the order of the arguments
        self.output_range: ActivationRange | None = None
        if learned and not spec.weights.symmetric:
            raise TfqError(f"layer {layer.name!r}: learned scales are symmetric; use WeightSpec(symmetric=True)")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Call the layer; the first call builds it."""
        if not self.built:
            if not self.layer.built:
                self.layer(*inputs, **named)
            self.build(sum(_is_float_tensor(value) for value in keras.tree.flatten((inputs, data_of(named)))))
        return super().__call__(*inputs, **named)

    def compute_output_spec(self, *inputs: Any, **named: Any) -> Any:
        """Return the layer's spec, never sparse: Keras calls a tensor multiplied with a number sparse."""
        dense = keras.tree.map_structure(_dense, (inputs, named))
        return super().compute_output_spec(*dense[0], **dense[1])

    def build(self, inputs: int) -> None:
        """Make the variables that decide scales and ranges; the layer is built already.

        Args:
            inputs: how many float tensors the layer is called with.
        """
        if not isinstance(inputs, int):  # the shape that a Keras wrapper builds the layer in it with
            raise TfqError(f"layer {self.layer.name!r}: wrap the layer around it: FineQuantize(TimeDistributed(layer))")
        decided = self.decided()
        raise_all(problem for *_, problem in decided if problem)
        for index, (kernel, variable, layout, plan, _) in enumerate(decided):
            if plan is not None:
                factors = self._factors(index, plan, variable, layout)
                inside = None
                if kernel.reads is None and is_inside(kernel) and isinstance(plan.spec, IntegerSpec):
                    inside = self._range(f"inside_{index}", plan.spec)
                fitted = self._fitted(index, kernel, plan, variable, layout)
                self.kernels = (*self.kernels, QuantizedKernel(kernel, variable, layout, plan, factors, inside, fitted))
        self.inputs = inputs
        spec = next((q.plan.spec for q in self.kernels if isinstance(q.plan.spec, IntegerSpec)), None)
        if spec is not None:
            self.ranges = tuple(self._range(f"input_{index}", spec) for index in range(inputs))
            self.output_range = self._range("output", spec) if self.outputs else None
        self.built = True

    def _row(self) -> LayerRow:
        return self.row or known_row(self.layer)

    def build_like_call(self) -> None:
        """Build without a call, for as many inputs as the row of a built layer names."""
        if not self.built:
            self.build(
                1 + max((kernel.reads for kernel in self._row().kernels if kernel.reads is not None), default=-1)
            )

    def get_build_config(self) -> dict[str, Any]:
        """Return what `build_from_config` needs."""
        return {"layer": self.layer.get_build_config(), "inputs": self.inputs}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build the layer and the wrapper as they were."""
        if not self.layer.built and config["layer"]:
            self.layer.build_from_config(config["layer"])
        if not self.built:
            self.build(config["inputs"])

    def decided(self) -> list[tuple[Kernel, Any, Layout, KernelPlan | None, str]]:
        """Return (fact, variable, layout, plan or None, problem) for every kernel; the layer is built."""
        decisions = []
        for kernel, variable, layout in kernels_of(self.layer, self._row()):
            shape, answer, problem = op_shape(tuple(variable.shape), layout), None, ""
            groups = getattr(holder_of(self.layer, kernel.variable), "groups", 1)
            try:
                answer = plan_kernel(kernel.op, shape, self.spec, self.policy, groups, kernel.loop)
            except TfqError as error:
                problem = f"layer {self.layer.name!r}, {kernel.variable}: {reason(error)}"
            decisions.append((kernel, variable, layout, answer, problem))
        return decisions

    def _factors(self, index: int, plan: KernelPlan, variable: Any, layout: Layout) -> Any:
        shape = op_shape(tuple(variable.shape), layout)
        blocks = tuple(-(-size // length) for size, length in zip(shape, plan.block, strict=True))
        if self.learned:
            return TrainedScale(self, f"scale_{index}", blocks)
        if _is_fitted(plan):
            return FixedScale(self, f"scale_{index}", blocks)
        return self.add_weight(shape=blocks, initializer="ones", trainable=False, name=f"share_{index}")

    def _fitted(
        self, index: int, kernel: Kernel, plan: KernelPlan, variable: Any, layout: Layout
    ) -> FittedKernel | None:
        if not _is_fitted(plan):
            return None
        return fitted_kernel(self, index, kernel, variable, op_shape(tuple(variable.shape), layout)[plan.axes.channel])

    def _range(self, name: str, spec: IntegerSpec) -> ActivationRange:
        return ActivationRange(self, name, spec.activations.bits, self.learned, self.momentum, self.freeze_after)

    def call(self, *inputs: Any, training: bool = False, **named: Any) -> Any:
        """Return the layer's output over quantized kernels and inputs."""
        arguments, named = self._quantized_inputs(inputs, named, training)
        mapping = [(q.variable, quantized_values(q)) for q in self.kernels] if not self.observing else []
        if not self.observing:
            fits = [q.fitted for q in self.kernels if q.fitted is not None and q.fitted.bias is not None]
            mapping += [(fit.bias, fit.bias.value + fit.bias_offset.value) for fit in fits]
        reached = [q for q in self.kernels if q.kernel.loop or is_inside(q.kernel)]
        inside = {q.kernel: partial(self._read_inside, q, training) for q in reached}
        if self.layer._call_has_training_arg:
            named["training"] = training
        scope = keras.StatelessScope(mapping, collect_losses=True)
        mapped = set(scope.state_mapping)
        with scope, changed_inside(self.layer, inside):
            result = self.layer(*arguments, **named)
        for variable in self.non_trainable_variables:  # what changed: states, random generators, ranges inside
            if id(variable) not in mapped and scope.get_current_value(variable) is not None:
                variable.assign(scope.get_current_value(variable))
        for loss in scope.losses:
            self.add_loss(loss)
        return self._seen(self.output_range, result, training) if self.output_range is not None else result

    def _quantized_inputs(
        self, inputs: Sequence[Any], named: Mapping[str, Any], training: bool
    ) -> tuple[Any, dict[str, Any]]:
        """Return the arguments with their float tensors quantized; tensors that are given twice are seen once each."""
        counted = count()

        def changed(value: Any) -> Any:
            if not _is_float_tensor(value):
                return value
            result = self._read(next(counted), _dense(value), training)
            if getattr(value, "_keras_mask", None) is not None:
                result._keras_mask = value._keras_mask
            return result

        arguments = keras.tree.map_structure(changed, tuple(inputs))
        changes = {name: keras.tree.map_structure(changed, value) for name, value in data_of(named).items()}
        return arguments, {**named, **changes}

    def _read(self, index: int, value: Any, training: bool) -> Any:
        """Return an input of the layer as its operators read it."""
        if index < len(self.ranges):
            return self._seen(self.ranges[index], value, training)
        return self._as_it_comes([q for q in self.kernels if self._reads(q, index)], value)

    def _reads(self, q: QuantizedKernel, index: int) -> bool:
        reads = None if q.kernel.loop or is_inside(q.kernel) else q.kernel.reads
        return reads is not None and reads % max(self.inputs, 1) == index

    def _read_inside(self, q: QuantizedKernel, training: bool, value: Any) -> Any:
        """Return the input of an operator inside the layer, as that operator reads it."""
        return self._as_it_comes([q], value) if q.inside is None else self._seen(q.inside, value, training)

    def _as_it_comes(self, readers: Sequence[QuantizedKernel], value: Any) -> Any:
        """Return the input as dynamic-range kernels see it; unchanged where not all its readers see the same."""
        rank = len(value.shape)
        axes = {on_the_fly(self.layer, q, rank) for q in readers}
        axis = axes.pop() if len(axes) == 1 and not self.observing else None
        if axis is None:
            return value
        rates = phases(self.layer, readers[0]) if axis == tuple(range(1, rank)) and not self._is_static() else ()
        return arithmetic.dynamic_by_phase(value, rates) if rates else arithmetic.dynamic(value, axis)

    def _is_static(self) -> bool:
        """Return whether the input's shape is known, batch included: then the converter leaves dilation to kernels."""
        return any(None not in tensor.shape for node in self._inbound_nodes for tensor in node.input_tensors)

    def _seen(self, found: ActivationRange, value: Any, training: bool) -> Any:
        if self.observing:
            found.observe(value)
            return value
        return found.quantized(value, training)

    def fit_scales(self) -> None:
        """Choose the scales of the kernels with the algorithm of the spec, or with its stand-in if it reads inputs."""
        for q in self.kernels:
            fit_scales(q, self.means.get(q.kernel.variable))

    def scales(self, q: QuantizedKernel) -> tuple[Float32Array, Int64Array]:
        """Return scales and zero points that the simulation uses now, one for each block, as `affine` has them."""
        return scales_now(q)

    @property
    def every_range(self) -> list[ActivationRange]:
        """The ranges of the inputs, of tensors inside the layer, and of the output."""
        return [r for r in (*self.ranges, *(q.inside for q in self.kernels), self.output_range) if r is not None]

    @property
    def is_calibrated(self) -> bool:
        """Whether every range is known."""
        return all(each.is_known for each in self.every_range)

    def compute_mask(self, *arguments: Any, **named: Any) -> Any:
        """Return the mask of the wrapped layer."""
        return self.layer.compute_mask(*arguments, **named)

    def get_config(self) -> dict[str, Any]:
        """Return everything but the weights, as plain values."""
        return {**self.own_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    def own_config(self) -> dict[str, Any]:
        """Return the configuration without that of the wrapped layer."""
        return {
            **keras.layers.Layer.get_config(self),
            "spec": to_json(self.spec),
            "learned": self.learned,
            "outputs": self.outputs,
            "momentum": self.momentum,
            "freeze_after": self.freeze_after,
            "flexible": self.policy.flexible,
            "prefer": self.policy.prefer,
            "row": None if self.row is None else self.row.to_json(),
            "recipe": self.recipe,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "FineQuantize":
        """Return the inverse of `get_config`; instead of its configuration, the layer itself may be given."""
        config = dict(config)
        layer = config.pop("layer")
        if isinstance(layer, dict):
            layer = keras.saving.deserialize_keras_object(layer, custom_objects=custom_objects)
        spec = from_plain(config.pop("spec"), WeightedSpec, "the spec of a wrapper")
        row = config.pop("row")
        trainable, layer.trainable = config.pop("trainable", True), True
        wrapper = cls(
            layer,
            spec.weights,
            spec.activations,
            mode=spec.mode,
            row=None if row is None else LayerRow.from_json(row),
            **config,
        )
        wrapper.trainable = trainable
        return wrapper


def _is_fitted(plan: KernelPlan) -> bool:
    return bool(algorithm_of(plan.spec.weights).reads - {"channel_mean"})


def _dense(value: Any) -> Any:
    """Return a sparse tensor, or the symbol of one, as a dense one; anything else unchanged."""
    if isinstance(value, keras.KerasTensor) and value.sparse:
        return keras.KerasTensor(value.shape, value.dtype, name=value.name)
    return tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value


def _is_float_tensor(value: Any) -> bool:
    return (tf.is_tensor(value) or isinstance(value, keras.KerasTensor)) and str(
        keras.backend.standardize_dtype(value.dtype)
    ) == "float32"
