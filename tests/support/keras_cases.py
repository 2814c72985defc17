"""Tiny models, one for every Keras layer that TFLite can express, as literal tables.

A case is a function (`keras.layers`, inputs) -> output. The cases of one group become the branches of one model, so
that a whole group costs one conversion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Sampler = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def centred(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-2.0, 2.0, shape).astype(np.float32)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.1, 1.0, shape).astype(np.float32)


def pixels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.0, 255.0, shape).astype(np.float32)


def tokens(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of a table of 13."""
    return rng.integers(0, 13, shape).astype(np.int32)


def padded(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Sequences [samples, steps, features] whose last steps are zero."""
    values = centred(rng, shape)
    lengths = rng.integers(2, shape[1] + 1, shape[0])
    values[np.arange(shape[1]) >= lengths[:, None]] = 0.0
    return values


@dataclass(frozen=True)
class Case:
    """One layer in one variant."""

    layer: str  # class name in `keras.layers`
    variant: str
    build: Callable[..., Any]  # (keras.layers, *inputs) -> output
    shapes: tuple[tuple[int, ...], ...]  # of the inputs, without the batch
    sampler: Sampler = centred
    least: Mapping[str, float] = field(default_factory=dict)  # recipe -> dB where the general bound does not hold
    why: str = ""  # reason of `least`

    @property
    def name(self) -> str:
        return f"{self.layer}_{self.variant}" if self.variant else self.layer

    @property
    def stock(self) -> int | None:
        """How many operators TFLiteConverter leaves in float; None: it fails."""
        return STOCK.get(self.name, 0)


LOGARITHM = "the logarithm of powers spreads those that are smaller than the error of the largest over half its range"
IMAGE = ((5, 7, 3),)
SEQUENCE = ((6, 5),)
VOLUME = ((4, 5, 7, 3),)
VECTOR = ((11,),)
TWO_IMAGES = IMAGE * 2
TWO_SEQUENCES = SEQUENCE * 2

CONVOLUTIONS = (
    Case("Dense", "", lambda k, x: k.Dense(7)(x), VECTOR),
    Case("Dense", "relu", lambda k, x: k.Dense(7, activation="relu")(x), VECTOR),
    Case("Dense", "no_bias_rank3", lambda k, x: k.Dense(7, use_bias=False)(x), SEQUENCE),
    Case("Dense", "rank4_tanh", lambda k, x: k.Dense(4, activation="tanh")(x), IMAGE),
    Case("EinsumDense", "", lambda k, x: k.EinsumDense("abc,cd->abd", (None, 7), bias_axes="d")(x), SEQUENCE),
    Case(
        "EinsumDense", "heads", lambda k, x: k.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")(x), SEQUENCE
    ),
    Case("EinsumDense", "over_steps", lambda k, x: k.EinsumDense("abc,bd->adc", (4, None))(x), SEQUENCE),
    Case("EinsumDense", "per_step", lambda k, x: k.EinsumDense("abc,bcd->abd", (6, 7))(x), SEQUENCE),
    Case("Conv1D", "", lambda k, x: k.Conv1D(7, 3)(x), SEQUENCE),
    Case("Conv1D", "causal_dilated", lambda k, x: k.Conv1D(7, 2, padding="causal", dilation_rate=2)(x), SEQUENCE),
    Case("Conv1D", "strided_same_relu", lambda k, x: k.Conv1D(7, 3, 2, "same", activation="relu")(x), SEQUENCE),
    Case("Conv2D", "valid", lambda k, x: k.Conv2D(7, 3)(x), IMAGE),
    Case("Conv2D", "same_strided", lambda k, x: k.Conv2D(7, (3, 2), (2, 3), "same", activation="relu6")(x), IMAGE),
    Case("Conv2D", "dilated", lambda k, x: k.Conv2D(7, 2, dilation_rate=(2, 3))(x), IMAGE),
    Case("Conv2D", "groups", lambda k, x: k.Conv2D(9, 3, groups=3, activation="relu")(x), IMAGE),
    Case("Conv2D", "pointwise_no_bias", lambda k, x: k.Conv2D(11, 1, use_bias=False)(x), IMAGE),
    Case("Conv3D", "", lambda k, x: k.Conv3D(5, 2)(x), VOLUME),
    Case("Conv3D", "same_strided", lambda k, x: k.Conv3D(5, (2, 3, 3), 2, "same", activation="relu")(x), VOLUME),
    Case("DepthwiseConv1D", "", lambda k, x: k.DepthwiseConv1D(3, depth_multiplier=2)(x), SEQUENCE),
    Case("DepthwiseConv2D", "", lambda k, x: k.DepthwiseConv2D(3)(x), IMAGE),
    Case("DepthwiseConv2D", "multiplied", lambda k, x: k.DepthwiseConv2D(3, 2, "same", depth_multiplier=3)(x), IMAGE),
    Case("DepthwiseConv2D", "dilated", lambda k, x: k.DepthwiseConv2D(2, dilation_rate=2, activation="relu")(x), IMAGE),
    Case("SeparableConv1D", "", lambda k, x: k.SeparableConv1D(7, 3, depth_multiplier=2)(x), SEQUENCE),
    Case("SeparableConv2D", "", lambda k, x: k.SeparableConv2D(7, 3, padding="same", activation="relu")(x), IMAGE),
    Case("Conv1DTranspose", "", lambda k, x: k.Conv1DTranspose(7, 3, 2)(x), SEQUENCE),
    Case("Conv2DTranspose", "valid", lambda k, x: k.Conv2DTranspose(7, 3, 2)(x), IMAGE),
    Case("Conv2DTranspose", "same", lambda k, x: k.Conv2DTranspose(4, 3, 2, "same", activation="relu")(x), IMAGE),
    Case("Conv2DTranspose", "no_bias", lambda k, x: k.Conv2DTranspose(4, (2, 3), (1, 2), use_bias=False)(x), IMAGE),
    Case("Conv3DTranspose", "", lambda k, x: k.Conv3DTranspose(5, 2, 2)(x), VOLUME),
    Case(
        "STFTSpectrogram",
        "",
        lambda k, x: k.STFTSpectrogram(frame_length=16, frame_step=8, fft_length=16)(x),
        ((64, 1),),
        least={"full_int8": 6.0, "full_int16x8": 12.0, "dynamic_int8": 14.0, "weight_only_int8": 17.0, "float16": 50.0},
        why=LOGARITHM,
    ),
)


AT_A_JUMP: Mapping[str, Any] = {
    "hard_shrink": {"least": {"full_int8": 26.0}, "why": "a value that is rounded across the threshold jumps by 0.5"},
}


def _activation(name: str) -> Case:
    return Case("Activation", name, lambda k, x: k.Activation(name)(x), SEQUENCE, **AT_A_JUMP.get(name, {}))


ACTIVATIONS = (
    *(
        _activation(name)
        for name in [
            "relu",
            "relu6",
            "leaky_relu",
            "elu",
            "selu",
            "celu",
            "silu",
            "hard_silu",
            "hard_sigmoid",
            "softplus",
            "softsign",
            "tanh",
            "sigmoid",
            "exponential",
            "mish",
            "log_softmax",
            "log_sigmoid",
            "softmax",
            "sparse_sigmoid",
            "soft_shrink",
            "hard_shrink",
            "tanh_shrink",
            "sparse_plus",
            "squareplus",
            "hard_tanh",
            "linear",
        ]
    ),
    Case("Activation", "glu", lambda k, x: _ops().glu(x), ((6, 10),)),
    Case("Activation", "gelu_exact", lambda k, x: _ops().gelu(x, approximate=False), SEQUENCE),
    Case("Activation", "gelu_tanh", lambda k, x: _ops().gelu(x, approximate=True), SEQUENCE),
    Case("ReLU", "", lambda k, x: k.ReLU()(x), IMAGE),
    Case("ReLU", "clipped_leaky", lambda k, x: k.ReLU(1.3, negative_slope=0.1, threshold=0.2)(x), IMAGE),
    Case("LeakyReLU", "", lambda k, x: k.LeakyReLU(0.2)(x), IMAGE),
    Case("PReLU", "", lambda k, x: k.PReLU()(x), IMAGE),
    Case("PReLU", "shared", lambda k, x: k.PReLU(shared_axes=[1, 2])(x), IMAGE),
    Case("ELU", "", lambda k, x: k.ELU(0.7)(x), IMAGE),
    Case("Softmax", "", lambda k, x: k.Softmax()(x), IMAGE),
    Case("Softmax", "other_axis", lambda k, x: k.Softmax(axis=1)(x), IMAGE),
)


def _ops() -> Any:
    from keras import ops

    return ops


NORMALIZATIONS = (
    Case("BatchNormalization", "", lambda k, x: k.BatchNormalization()(x), IMAGE),
    Case("BatchNormalization", "folded", lambda k, x: k.BatchNormalization()(k.Conv2D(7, 3)(x)), IMAGE),
    Case(
        "BatchNormalization",
        "behind_relu",
        lambda k, x: k.BatchNormalization()(k.Conv2D(7, 3, activation="relu")(x)),
        IMAGE,
    ),
    Case("BatchNormalization", "rank2", lambda k, x: k.BatchNormalization()(x), VECTOR),
    Case("LayerNormalization", "", lambda k, x: k.LayerNormalization()(x), ((6, 11),)),
    Case("LayerNormalization", "axes", lambda k, x: k.LayerNormalization(axis=(1, 2, 3))(x), IMAGE),
    Case("RMSNormalization", "", lambda k, x: k.RMSNormalization()(x), ((6, 11),)),
    Case("GroupNormalization", "", lambda k, x: k.GroupNormalization(3)(x), ((5, 7, 6),)),
    Case("GroupNormalization", "instance", lambda k, x: k.GroupNormalization(-1)(x), IMAGE),
    Case("UnitNormalization", "", lambda k, x: k.UnitNormalization()(x), SEQUENCE),
    Case("SpectralNormalization", "", lambda k, x: k.SpectralNormalization(k.Conv2D(7, 3))(x), IMAGE),
    Case("Normalization", "", lambda k, x: k.Normalization(mean=[0.1, -0.2, 0.3], variance=[1.0, 2.0, 0.5])(x), IMAGE),
    Case("Rescaling", "", lambda k, x: k.Rescaling(1 / 127.5, -1.0)(x), IMAGE, pixels),
    Case("Dropout", "", lambda k, x: k.Dense(3)(k.Dropout(0.5)(x)), VECTOR),
    Case("AlphaDropout", "", lambda k, x: k.Dense(3)(k.AlphaDropout(0.5)(x)), VECTOR),
    Case("GaussianDropout", "", lambda k, x: k.Dense(3)(k.GaussianDropout(0.5)(x)), VECTOR),
    Case("GaussianNoise", "", lambda k, x: k.Dense(3)(k.GaussianNoise(0.5)(x)), VECTOR),
    Case("SpatialDropout1D", "", lambda k, x: k.Conv1D(3, 2)(k.SpatialDropout1D(0.5)(x)), SEQUENCE),
    Case("SpatialDropout2D", "", lambda k, x: k.Conv2D(3, 2)(k.SpatialDropout2D(0.5)(x)), IMAGE),
    Case("SpatialDropout3D", "", lambda k, x: k.Dense(3)(k.SpatialDropout3D(0.5)(x)), VOLUME),
    Case("ActivityRegularization", "", lambda k, x: k.Dense(3)(k.ActivityRegularization(0.1)(x)), VECTOR),
    Case("Identity", "", lambda k, x: k.Dense(3)(k.Identity()(x)), VECTOR),
)

POOLING = (
    *(
        Case(name, variant, lambda k, x, name=name, options=options: getattr(k, name)(**options)(x), shapes)
        for rank, shapes in ((1, SEQUENCE), (2, IMAGE), (3, VOLUME))
        for kind in ("Average", "Max")
        for name, variant, options in (
            (f"{kind}Pooling{rank}D", "", {"pool_size": 2}),
            (f"{kind}Pooling{rank}D", "same", {"pool_size": 3, "strides": 2, "padding": "same"}),
            (f"Global{kind}Pooling{rank}D", "", {}),
            (f"Global{kind}Pooling{rank}D", "kept", {"keepdims": True}),
            (f"Adaptive{kind}Pooling{rank}D", "", {"output_size": (3, 2, 2)[:rank]}),
        )
        if rank < 3 or name.startswith("Global")
    ),
)

RESHAPING = (
    Case("Reshape", "", lambda k, x: k.Reshape((7, -1))(x), IMAGE),
    Case("Flatten", "", lambda k, x: k.Flatten()(x), IMAGE),
    Case("Permute", "", lambda k, x: k.Permute((3, 1, 2))(x), IMAGE),
    Case("RepeatVector", "", lambda k, x: k.RepeatVector(3)(x), VECTOR),
    Case("ZeroPadding1D", "", lambda k, x: k.ZeroPadding1D((1, 2))(x), SEQUENCE),
    Case("ZeroPadding2D", "", lambda k, x: k.ZeroPadding2D(((1, 2), (0, 3)))(x), IMAGE),
    Case("ZeroPadding2D", "before_conv", lambda k, x: k.Conv2D(7, 3, 2)(k.ZeroPadding2D(((0, 1), (0, 1)))(x)), IMAGE),
    Case("ZeroPadding3D", "", lambda k, x: k.ZeroPadding3D(1)(x), VOLUME),
    Case("Cropping1D", "", lambda k, x: k.Cropping1D((1, 2))(x), SEQUENCE),
    Case("Cropping2D", "", lambda k, x: k.Cropping2D(((1, 2), (0, 3)))(x), IMAGE),
    Case("Cropping3D", "", lambda k, x: k.Cropping3D(1)(x), VOLUME),
    Case("UpSampling1D", "", lambda k, x: k.UpSampling1D(2)(x), SEQUENCE),
    Case("UpSampling2D", "nearest", lambda k, x: k.UpSampling2D((2, 3))(x), IMAGE),
    Case("UpSampling2D", "bilinear", lambda k, x: k.UpSampling2D(2, interpolation="bilinear")(x), IMAGE),
    Case("UpSampling3D", "", lambda k, x: k.UpSampling3D(2)(x), VOLUME),
    Case("Resizing", "bilinear", lambda k, x: k.Resizing(8, 11)(x), IMAGE),
    Case("Resizing", "nearest", lambda k, x: k.Resizing(3, 4, "nearest")(x), IMAGE),
    Case("CenterCrop", "", lambda k, x: k.CenterCrop(3, 4)(x), IMAGE),
    Case("Add", "", lambda k, *x: k.Add()(x), TWO_IMAGES),
    Case("Add", "three", lambda k, *x: k.Add()(x), IMAGE * 3),
    Case("Add", "broadcast", lambda k, *x: k.Add()(x), ((5, 7, 3), (1, 1, 3))),
    Case("Subtract", "", lambda k, *x: k.Subtract()(x), TWO_IMAGES),
    Case("Multiply", "", lambda k, *x: k.Multiply()(x), TWO_IMAGES),
    Case("Multiply", "broadcast", lambda k, *x: k.Multiply()(x), ((5, 7, 3), (1, 1, 3))),
    Case("Average", "", lambda k, *x: k.Average()(x), TWO_IMAGES),
    Case("Maximum", "", lambda k, *x: k.Maximum()(x), TWO_IMAGES),
    Case("Minimum", "", lambda k, *x: k.Minimum()(x), TWO_IMAGES),
    Case("Concatenate", "", lambda k, *x: k.Concatenate()(x), ((5, 7, 3), (5, 7, 2))),
    Case("Concatenate", "other_axis", lambda k, *x: k.Concatenate(axis=1)(x), ((5, 7, 3), (2, 7, 3))),
    Case("Dot", "", lambda k, *x: k.Dot(axes=(2, 2))(x), TWO_SEQUENCES),
    Case("Dot", "cosine", lambda k, *x: k.Dot(axes=1, normalize=True)(x), VECTOR * 2),
    Case("Masking", "", lambda k, x: k.Masking()(x), SEQUENCE, padded),
    Case("Lambda", "", lambda k, x: k.Lambda(lambda y: 2.0 * y - 1.0, output_shape=(5, 7, 3))(x), IMAGE),
    Case("Discretization", "", lambda k, x: k.Discretization(bin_boundaries=[-0.5, 0.1, 0.7])(x), VECTOR),
    Case("CategoryEncoding", "one_hot", lambda k, x: k.CategoryEncoding(13, output_mode="one_hot")(x), ((1,),), tokens),
)

ATTENTION = (
    Case("Embedding", "", lambda k, x: k.Embedding(13, 7)(x), ((6,),), tokens),
    Case("Embedding", "flattened", lambda k, x: k.Dense(3)(k.Flatten()(k.Embedding(13, 7)(x))), ((6,),), tokens),
    Case("ReversibleEmbedding", "", lambda k, x: _tied(k.ReversibleEmbedding(13, 7), x), ((6,),), tokens),
    Case("Attention", "", lambda k, *x: k.Attention(use_scale=True)(list(x)), TWO_SEQUENCES),
    Case("Attention", "concat", lambda k, *x: k.Attention(score_mode="concat")(list(x)), TWO_SEQUENCES),
    Case("AdditiveAttention", "", lambda k, *x: k.AdditiveAttention()(list(x)), TWO_SEQUENCES),
    Case("MultiHeadAttention", "self", lambda k, x: k.MultiHeadAttention(2, 3)(x, x), SEQUENCE),
    Case(
        "MultiHeadAttention",
        "cross",
        lambda k, x, y: k.MultiHeadAttention(3, 4, 2, output_shape=7)(x, y),
        ((6, 5), (4, 5)),
    ),
    Case("MultiHeadAttention", "causal", lambda k, x: k.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True), SEQUENCE),
    Case("GroupedQueryAttention", "", lambda k, x: k.GroupQueryAttention(3, 4, 2)(x, x), SEQUENCE),
    Case("TimeDistributed", "", lambda k, x: k.TimeDistributed(k.Dense(7))(x), SEQUENCE),
    Case("TimeDistributed", "conv", lambda k, x: k.TimeDistributed(k.Conv2D(5, 3))(x), VOLUME),
)


def _tied(layer: Any, x: Any) -> Any:
    return layer(layer(x), reverse=True)


RECURRENT = (
    Case("LSTM", "", lambda k, x: k.LSTM(7)(x), SEQUENCE),
    Case("LSTM", "sequences", lambda k, x: k.LSTM(7, return_sequences=True)(x), SEQUENCE),
    Case("LSTM", "unrolled", lambda k, x: k.LSTM(7, unroll=True)(x), SEQUENCE),
    Case("GRU", "", lambda k, x: k.GRU(7)(x), SEQUENCE),
    Case("GRU", "before", lambda k, x: k.GRU(7, reset_after=False, return_sequences=True)(x), SEQUENCE),
    Case("SimpleRNN", "", lambda k, x: k.SimpleRNN(7)(x), SEQUENCE),
    Case("Bidirectional", "", lambda k, x: k.Bidirectional(k.LSTM(4, return_sequences=True))(x), SEQUENCE),
    Case("RNN", "", lambda k, x: k.RNN(k.SimpleRNNCell(7))(x), SEQUENCE),
    Case("LSTMCell", "", lambda k, x: k.RNN(k.LSTMCell(7))(x), SEQUENCE),
    Case("GRUCell", "", lambda k, x: k.RNN(k.GRUCell(7))(x), SEQUENCE),
    Case("SimpleRNNCell", "", lambda k, x: k.RNN(k.SimpleRNNCell(7), return_sequences=True)(x), SEQUENCE),
    Case("StackedRNNCells", "", lambda k, x: k.RNN(k.StackedRNNCells([k.GRUCell(3), k.LSTMCell(4)]))(x), SEQUENCE),
    Case("ConvLSTM1D", "", lambda k, x: k.ConvLSTM1D(4, 3)(x), ((3, 7, 2),)),
    Case("ConvLSTM2D", "", lambda k, x: k.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(x), ((3, 5, 7, 2),)),
    Case("ConvLSTM3D", "", lambda k, x: k.ConvLSTM3D(2, 2)(x), ((3, 4, 5, 7, 2),)),
    Case("Masking", "lstm", lambda k, x: k.LSTM(7)(k.Masking()(x)), SEQUENCE, padded),
)


def _boxes(images: Any, boxes: Any, labels: Any) -> dict[str, Any]:
    return {"images": images, "bounding_boxes": {"boxes": boxes, "labels": labels}}


PREPROCESSING = (
    Case("AutoContrast", "", lambda k, x: k.AutoContrast(value_range=(0, 255))(x), IMAGE, pixels),
    Case(
        "ContrastLimitedAdaptiveHistogramEqualization",
        "",
        lambda k, x: k.ContrastLimitedAdaptiveHistogramEqualization(value_range=(0, 255))(x),
        ((16, 16, 3),),
        pixels,
    ),
    Case(
        "MaxNumBoundingBoxes",
        "",
        lambda k, *x: k.MaxNumBoundingBoxes(6, bounding_box_format="xyxy")(_boxes(*x))["bounding_boxes"]["boxes"],
        ((8, 9, 3), (4, 4), (4,)),
    ),
    Case("Pipeline", "", lambda k, x: k.Pipeline([k.Rescaling(1 / 255), k.CenterCrop(3, 4)])(x), IMAGE, pixels),
    Case(
        "MelSpectrogram",
        "",
        lambda k, x: k.MelSpectrogram(fft_length=16, sequence_stride=8, num_mel_bins=4)(x),
        ((64,),),
        least={"full_int8": 12.0, "dynamic_int8": 9.0},
        why=LOGARITHM,
    ),
)

GROUPS: Mapping[str, tuple[Case, ...]] = {
    "convolutions": CONVOLUTIONS,
    "activations": ACTIVATIONS,
    "normalizations": NORMALIZATIONS,
    "pooling": POOLING,
    "reshaping": RESHAPING,
    "attention": ATTENTION,
    "recurrent": RECURRENT,
    "preprocessing": PREPROCESSING,
}
# Operators that TFLiteConverter 2.21 leaves in float in int8, where there are any; `support.keras_stock` measures it.
# None: it dies, with SIGSEGV in its calibrator.
STOCK: Mapping[str, int | None] = {
    "Conv3D": 1,
    "Conv3D_same_strided": 1,
    "Conv3DTranspose": 1,
    "STFTSpectrogram": 2,
    "Activation_elu": 1,
    "Activation_log_sigmoid": 2,
    "Activation_soft_shrink": 2,
    "Activation_hard_shrink": 2,
    "Activation_sparse_plus": 2,
    "Activation_squareplus": 1,
    "ELU": 3,
    "LayerNormalization": 1,
    "LayerNormalization_axes": 1,
    "RMSNormalization": 1,
    "GroupNormalization": 2,
    "GroupNormalization_instance": 2,
    "UnitNormalization": 1,
    "Dot_cosine": 2,
    "Masking": 1,
    "Discretization": 1,
    "CategoryEncoding_one_hot": 2,
    "LSTM": None,
    "LSTM_sequences": None,
    "LSTM_unrolled": 1,
    "GRU": None,
    "GRU_before": None,
    "SimpleRNN": None,
    "Bidirectional": None,
    "RNN": None,
    "LSTMCell": None,
    "GRUCell": None,
    "SimpleRNNCell": None,
    "StackedRNNCells": None,
    "ConvLSTM1D": None,
    "ConvLSTM2D": None,
    "ConvLSTM3D": None,
    "Masking_lstm": None,
    "AutoContrast": 2,
    "ContrastLimitedAdaptiveHistogramEqualization": 6,
    "MelSpectrogram": 5,
}
FIXED_BATCH = frozenset({"recurrent"})  # the stock converter takes Keras RNNs at a fixed batch alone
