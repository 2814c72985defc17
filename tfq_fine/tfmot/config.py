"""`FineQuantizeConfig` for `tfmot.quantization.keras.quantize_annotate_layer`, and its quantizer of weights."""

from typing import Any

import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import QuantizeConfig
from tensorflow_model_optimization.python.core.quantization.keras.quantizers import MovingAverageQuantizer, Quantizer

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.files import from_plain
from tfq_fine.algorithms import WeightProblem, algorithm_of, algorithm_problems, solve, with_algorithm_named
from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.layers import from_op, op_shape, to_op
from tfq_fine.numerics import affine
from tfq_fine.planning import Policy
from tfq_fine.request import ActivationSpec, IntegerSpec, WeightedSpec, WeightSpec, to_json
from tfq_fine.tfmot.qat import kernels_held


class FineQuantizeConfig(QuantizeConfig):  # type: ignore[misc]
    """Trains a layer's kernels as `tfq_fine` will write them, and the range of its output as TFMOT does.

    Args:
        weights: how kernels are quantized; scales follow the extent of each block, of which an algorithm such as
            mse_clip chooses a share once, at the start.
        activations: how the output is quantized; None leaves it float.
        mode: the mode of the operator in the file; None is "integer" with activations, "weight_only" without.
        preserve_sparsity: weights that are 0 at the start stay 0.
        preserve_clusters: weights that are equal at the start stay equal, and get equal codes: the blocks share the
            scale of the whole kernel, times what a batch norm multiplies a channel with.

    Raises:
        TfqError: an unknown algorithm, or one together with clusters.
    """

    def __init__(
        self,
        weights: WeightSpec = WeightSpec(8),  # noqa: B008 - frozen
        activations: ActivationSpec | None = None,
        mode: Any = None,
        preserve_sparsity: bool = False,
        preserve_clusters: bool = False,
    ):
        spec = WeightedSpec(mode or ("integer" if activations else "weight_only"), weights, activations)
        _check(spec.weights, preserve_clusters)
        self.spec = spec.with_weights(algorithm=with_algorithm_named(spec.weights, preserve_clusters).algorithm)
        self.preserve_sparsity, self.preserve_clusters = preserve_sparsity, preserve_clusters

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return every kernel of the layer, and what quantizes it."""
        return [(q.variable, _Weights(self, q)) for q, _ in kernels_held(layer, self.spec, Policy())]

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Put the quantized kernels in the place of the layer's."""
        for (_, name), value in zip(kernels_held(layer, self.spec, Policy()), quantize_weights, strict=True):
            setattr(layer, name, value)

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the layer's activation, quantized after it."""
        return [(layer.activation, each) for each in self._ranges()] if self._quantizes(layer) else []

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Put the quantized activation in the place of the layer's."""
        if quantize_activations:
            layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Return the quantizers of the output of a layer without an activation."""
        return [] if self._quantizes(layer) else self._ranges()

    def _quantizes(self, layer: Any) -> bool:
        return getattr(layer, "activation", None) is not None

    def _ranges(self) -> list[Any]:
        """Return the quantizer of an activation, if activations are quantized."""
        if not isinstance(self.spec, IntegerSpec):
            return []
        bits = self.spec.activations.bits
        return [MovingAverageQuantizer(num_bits=bits, per_axis=False, symmetric=bits == 16, narrow_range=False)]

    def get_config(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "spec": to_json(self.spec),
            "preserve_sparsity": self.preserve_sparsity,
            "preserve_clusters": self.preserve_clusters,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FineQuantizeConfig":
        """Return the inverse of `get_config`."""
        config = dict(config)
        spec = from_plain(config.pop("spec"), WeightedSpec, "the spec of FineQuantizeConfig")
        return cls(spec.weights, spec.activations, spec.mode, **config)


def _check(spec: WeightSpec, preserve_clusters: bool) -> None:
    raise_all(f"FineQuantizeConfig: {problem}" for problem in algorithm_problems(spec))
    algorithm, row = spec.algorithm, algorithm_of(spec)
    if row.reads:
        raise TfqError(
            f"FineQuantizeConfig: algorithm {algorithm!r} reads {', '.join(sorted(row.reads))} of the inputs, which "
            "TFMOT does not observe; use an algorithm that reads the weights alone"
        )
    if row.keeps_equal or (preserve_clusters and algorithm not in ("auto", "round_to_nearest")):
        raise TfqError(
            f"FineQuantizeConfig: algorithm {algorithm!r} cannot keep clusters while they are trained; use "
            "preserve_clusters=True and the default algorithm"
        )


class _Weights(Quantizer):  # type: ignore[misc]
    """Quantizes one kernel; remembers its zeros, its clusters and its ranges when it is called for the first time."""

    def __init__(self, config: FineQuantizeConfig, kernel: Any):
        self.config, self.kernel = config, kernel

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Return the memory of zeros, clusters and shares of extents, where it is asked for."""
        memory = {}
        weights = self.kernel.plan.spec.weights
        if weights.algorithm != "round_to_nearest":
            blocks = zip(op_shape(tuple(tensor_shape), self.kernel.layout), self.kernel.plan.block, strict=True)
            grid = [-(-size // length) for size, length in blocks]
            memory["shares"] = layer.add_weight(f"{name}_shares", grid, initializer="ones", trainable=False)
        if self.config.preserve_sparsity:
            memory["kept"] = layer.add_weight(f"{name}_kept", tensor_shape, initializer="ones", trainable=False)
        if self.config.preserve_clusters:
            memory["cluster"] = layer.add_weight(
                f"{name}_cluster", tensor_shape, initializer="zeros", trainable=False, dtype=tf.float32
            )
        if memory:
            memory["seen"] = layer.add_weight(f"{name}_seen", (), initializer="zeros", trainable=False)
        return memory

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **named: Any) -> Any:
        """Return the kernel's quantized values, with straight-through gradients."""
        shape = tuple(inputs.shape)
        values = self._preserved(tf.convert_to_tensor(inputs), weights)
        values = to_op(values, self.kernel.layout, tf)
        held = self.kernel.plan
        low, high = arithmetic.block_extent(tf.stop_gradient(values), held.block)
        if self.config.preserve_clusters:
            low, high = tf.fill(low.shape, tf.reduce_min(low)), tf.fill(high.shape, tf.reduce_max(high))
        if "shares" in weights:
            shares = self._shares(values, weights)
            low, high = low * shares, high * shares
        if weights:
            weights["seen"].assign(1.0)
        scale, zero = arithmetic.weight_scale(low, high, held.codes)
        scale, zero = (arithmetic.expanded(part, held.block, tuple(values.shape)) for part in (scale, zero))
        quantized = arithmetic.fake_quantized(values, scale, zero, held.codes.lowest, held.codes.highest)
        return from_op(quantized, self.kernel.layout, shape, tf)

    def _preserved(self, values: Any, memory: dict[str, Any]) -> Any:
        """Return the values with what has to stay as it was."""
        if not memory:
            return values
        started = memory["seen"] > 0
        if "kept" in memory:
            memory["kept"].assign(tf.where(started, memory["kept"], tf.cast(values != 0, tf.float32)))
            values = values * memory["kept"]
        if "cluster" in memory:
            _, index = tf.unique(tf.reshape(values, [-1]))
            clustered = tf.reshape(tf.cast(index, tf.float32), tf.shape(values))
            memory["cluster"].assign(tf.where(started, memory["cluster"], clustered))
            index = tf.cast(memory["cluster"], tf.int32)
            means = tf.math.unsorted_segment_mean(values, index, tf.reduce_max(index) + 1)
            values = tf.gather(means, index)
        return values

    def _shares(self, values: Any, memory: dict[str, Any]) -> Any:
        """Return the share of each block's extent that the algorithm chooses for the first values."""

        def chosen(first: Any) -> Any:
            held = self.kernel.plan
            weights = held.spec.weights
            codes = solve(weights, WeightProblem(first, held.block, held.codes, held.axes))
            return affine.extent_shares(codes.scale, first, held.block, held.codes)

        shares = memory["shares"]
        first = tf.stop_gradient(values)
        return shares.assign(
            tf.cond(
                memory["seen"] > 0,
                lambda: tf.convert_to_tensor(shares),
                lambda: tf.ensure_shape(tf.numpy_function(chosen, [first], tf.float32), shares.shape),
            )
        )

    def get_config(self) -> dict[str, Any]:
        """Return nothing: the configuration of the layer makes it anew."""
        return {}
