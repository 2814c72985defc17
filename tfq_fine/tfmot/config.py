"""`FineQuantizeConfig` for `tfmot.quantization.keras.quantize_annotate_layer`, and its quantizer of weights."""

from typing import Any

import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import QuantizeConfig
from tensorflow_model_optimization.python.core.quantization.keras.quantizers import MovingAverageQuantizer, Quantizer

from tfq_converters.errors import TfqError
from tfq_fine.granularity import PerTensor
from tfq_fine.layers import arithmetic
from tfq_fine.layers.rows import from_op, to_op
from tfq_fine.plan import Policy
from tfq_fine.specs import ActivationSpec, OpSpec, WeightSpec, from_json, to_json
from tfq_fine.tfmot.qat import kernels_held

CLUSTERS = 256  # most distinct values of a clustered kernel: more are no clusters


class FineQuantizeConfig(QuantizeConfig):
    """Trains a layer's kernels as `tfq_fine` will write them, and the range of its output as TFMOT does.

    Args:
        weights: how kernels are quantized; scales follow the extent of each block.
        activations: how the output is quantized; None leaves it float.
        mode: of the operator in the file; None is "integer" with activations, "weight_only" without.
        preserve_sparsity: weights that are 0 at the start stay 0.
        preserve_clusters: weights that are equal at the start stay equal; that takes one scale per tensor.

    Raises:
        TfqError: an algorithm that needs more than the extent, or clusters over several scales.
    """

    def __init__(
        self,
        weights: WeightSpec = WeightSpec(8),  # noqa: B008 - frozen
        activations: ActivationSpec | None = None,
        mode: Any = None,
        preserve_sparsity: bool = False,
        preserve_clusters: bool = False,
    ):
        if weights.algorithm != "round_to_nearest":
            raise TfqError(f"FineQuantizeConfig: scales follow the weights; algorithm {weights.algorithm!r} cannot")
        if preserve_clusters and weights.granularity != PerTensor():
            raise TfqError(
                "FineQuantizeConfig: several scales would make more distinct values than there are clusters; "
                "use WeightSpec(granularity=PerTensor())"
            )
        self.spec = OpSpec(mode or ("integer" if activations else "weight_only"), weights, activations)
        self.preserve_sparsity, self.preserve_clusters = preserve_sparsity, preserve_clusters

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Every kernel of the layer, and what quantizes it."""
        return [(q.variable, _Weights(self, q)) for q, _ in kernels_held(layer, self.spec, Policy())]

    @tf.autograph.experimental.do_not_convert
    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Put the quantized kernels in the place of the layer's."""
        for (_, name), value in zip(kernels_held(layer, self.spec, Policy()), quantize_weights, strict=True):
            setattr(layer, name, value)

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """The layer's activation, quantized behind it."""
        return [(layer.activation, self._ranges())] if self._quantizes(layer) else []

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Put the quantized activation in the place of the layer's."""
        if quantize_activations:
            layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """What quantizes the output of a layer without an activation."""
        return [self._ranges()] if self.spec.activations and not self._quantizes(layer) else []

    def _quantizes(self, layer: Any) -> bool:
        return self.spec.activations is not None and getattr(layer, "activation", None) is not None

    def _ranges(self) -> Any:
        assert self.spec.activations is not None
        bits = self.spec.activations.bits
        return MovingAverageQuantizer(num_bits=bits, per_axis=False, symmetric=bits == 16, narrow_range=False)

    def get_config(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "spec": to_json(self.spec),
            "preserve_sparsity": self.preserve_sparsity,
            "preserve_clusters": self.preserve_clusters,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FineQuantizeConfig":
        """The inverse of `get_config`."""
        config = dict(config)
        spec = from_json(config.pop("spec"))
        assert spec is not None and spec.weights is not None
        return cls(spec.weights, spec.activations, spec.mode, **config)


class _Weights(Quantizer):
    """Quantizes one kernel; remembers its zeros and its clusters when it is called for the first time."""

    def __init__(self, config: FineQuantizeConfig, kernel: Any):
        self.config, self.kernel = config, kernel

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """The memory of zeros and clusters, where it is asked for."""
        found = {}
        if self.config.preserve_sparsity or self.config.preserve_clusters:
            found["seen"] = layer.add_weight(f"{name}_seen", (), initializer="zeros", trainable=False)
        if self.config.preserve_sparsity:
            found["kept"] = layer.add_weight(f"{name}_kept", tensor_shape, initializer="ones", trainable=False)
        if self.config.preserve_clusters:
            found["cluster"] = layer.add_weight(
                f"{name}_cluster", tensor_shape, initializer="zeros", trainable=False, dtype=tf.float32
            )
        return found

    @tf.autograph.experimental.do_not_convert
    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **named: Any) -> Any:
        """The kernel's quantized values, with straight-through gradients."""
        shape = tuple(inputs.shape)
        values = self._preserved(tf.convert_to_tensor(inputs), weights)
        values = to_op(values, self.kernel.layout, tf)
        held = self.kernel.held
        scale, zero = arithmetic.weight_scale(
            *arithmetic.block_extent(tf.stop_gradient(values), held.block), held.codes
        )
        scale, zero = (arithmetic.expanded(part, held.block, tuple(values.shape)) for part in (scale, zero))
        found = arithmetic.fake_quantized(values, scale, zero, held.codes.lowest, held.codes.highest)
        return from_op(found, self.kernel.layout, shape, tf)

    def _preserved(self, values: Any, memory: dict[str, Any]) -> Any:
        """The values with what has to stay as it was."""
        if not memory:
            return values
        seen = memory["seen"] > 0
        if "kept" in memory:
            memory["kept"].assign(tf.where(seen, memory["kept"], tf.cast(values != 0, tf.float32)))
            values = values * memory["kept"]
        if "cluster" in memory:
            _, index = tf.unique(tf.reshape(values, [-1]))
            found = tf.reshape(tf.cast(index, tf.float32), tf.shape(values))
            memory["cluster"].assign(tf.where(seen, memory["cluster"], found))
            index = tf.cast(memory["cluster"], tf.int32)
            means = tf.math.unsorted_segment_mean(values, index, CLUSTERS)
            values = tf.gather(means, index)
        memory["seen"].assign(1.0)
        return values

    def get_config(self) -> dict[str, Any]:
        """Nothing: the configuration of the layer makes it anew."""
        return {}
