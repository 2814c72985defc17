"""LSTMs of tf_keras, as branches of one model, and what TFLiteConverter makes of those that become a fused operator.

`PYTHONPATH=tests python -m support.tf_keras_lstms` measures `STOCK` anew; the conversion takes a minute.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from support.keras_groups import float_ops
from tfq_converters import flatbuffer
from tfq_converters.runtime.runner import Runner

Build = Callable[[Any, Any], Any]  # (tf_keras.layers, input) -> output
STEPS, FEATURES, SAMPLES = 9, 5, 24
FUSED: Mapping[str, Build] = {
    "last": lambda k, x: k.LSTM(7)(x),
    "sequences": lambda k, x: k.LSTM(7, return_sequences=True)(x),
    "no_forget_bias": lambda k, x: k.LSTM(7, unit_forget_bias=False)(x),
    "stacked": lambda k, x: k.Dense(3)(k.LSTM(4)(k.LSTM(7, return_sequences=True)(x))),
    "backwards": lambda k, x: k.LSTM(7, go_backwards=True, return_sequences=True)(x),
    "time_major": lambda k, x: k.LSTM(7, time_major=True, return_sequences=True)(x),
    "both_ways": lambda k, x: k.Bidirectional(k.LSTM(4))(x),
    "both_ways_sequences": lambda k, x: k.Bidirectional(k.LSTM(4, return_sequences=True))(x),
}
LOOPS: Mapping[str, Build] = {  # at which TFLiteConverter's calibrator dies
    "no_bias": lambda k, x: k.LSTM(7, use_bias=False)(x),
    "relu": lambda k, x: k.LSTM(7, activation="relu")(x),
    "hard_sigmoid": lambda k, x: k.LSTM(7, recurrent_activation="hard_sigmoid")(x),
}


@dataclass(frozen=True)
class Stock:
    """TFLiteConverter's int8 file: operators left in float, and dB of SQNR on the samples that calibrated it."""

    floats: int
    sqnr: float


STOCK: Mapping[str, Stock] = {  # measured with TensorFlow 2.21
    "last": Stock(0, 35.2),
    "sequences": Stock(0, 34.1),
    "no_forget_bias": Stock(0, 37.1),
    "stacked": Stock(0, 38.5),
    "backwards": Stock(0, 38.0),
    "time_major": Stock(0, 36.7),
    # Its CONCATENATION gives the outputs one scale, and leaves the states another, in which the kernels write both.
    "both_ways": Stock(0, 5.5),
    "both_ways_sequences": Stock(0, 9.9),
}


def model_of(cases: Mapping[str, Build]) -> Any:
    """A model with a branch for each case; kernels and biases are random."""
    import tf_keras

    given = tf_keras.Input((STEPS, FEATURES), batch_size=1)
    named = tf_keras.layers.Activation
    outputs = {name: named("linear", name=name)(build(tf_keras.layers, given)) for name, build in cases.items()}
    made = tf_keras.Model(given, outputs)
    rng = np.random.default_rng(0)
    made.set_weights([(rng.normal(size=w.shape) * 0.5).astype(np.float32) for w in made.get_weights()])
    return made


@cache
def fused_model() -> Any:
    return model_of(FUSED)


@cache
def samples() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(SAMPLES, STEPS, FEATURES)).astype(np.float32)


@cache
def exact() -> Mapping[str, np.ndarray]:
    runs = [fused_model()(sample[None]) for sample in samples()]
    return {name: np.stack([np.asarray(run[name]) for run in runs]) for name in FUSED}


def sqnrs(content: bytes) -> dict[str, float]:
    """dB of every output over the samples, each from the beginning."""
    runner, found = Runner(content), []
    for sample in samples():
        runner.reset_variables()
        found.append(runner.run([sample[None]]))
    outputs = zip(flatbuffer.read(content).output_names(), zip(*found, strict=True), strict=True)
    return {name: _sqnr(exact()[name], np.stack(values)) for name, values in outputs}


def _sqnr(right: np.ndarray, found: np.ndarray) -> float:
    error = np.square(found.astype(np.float64) - right).sum()
    return float(10 * np.log10(np.square(right.astype(np.float64)).sum() / error))


def stock_file() -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(fused_model())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.representative_dataset = lambda: ([sample[None]] for sample in samples())
    return bytes(converter.convert())


def main(arguments: Sequence[str] = ()) -> None:
    content = stock_file()
    graph, close = flatbuffer.read(content), sqnrs(content)
    for name in FUSED:
        print(f'    "{name}": Stock({len(float_ops(graph, name))}, {close[name]:.1f}),')


if __name__ == "__main__":
    main()
