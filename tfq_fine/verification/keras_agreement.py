"""Whether the float graph computes what the Keras model does: errors measured against it mean nothing otherwise."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfq_converters.errors import raise_all
from tfq_converters.graph import AnyArray
from tfq_converters.reading import Source, keras_call, keras_framework
from tfq_fine.numerics import ErrorSums

# Two float32 implementations of one model differ by rounding: above 60 dB even for deep models. A dropped operator or
# swapped inputs show below 20 dB.
LEAST_DB = 30.0
ROUNDING = 1e-6  # outputs that are all but zero have no SQNR


def check_keras(source: Source, inputs: Sequence[AnyArray], outputs: Sequence[AnyArray]) -> tuple[str, ...]:
    """Compare what the Keras model predicts for `inputs` with `outputs` of the float graph, both in graph order.

    Each is an array [n, ...]. It does nothing when the float graph was not made from a Keras model.

    Returns:
        Notes on outputs that could not be compared, because the model draws random numbers.

    Raises:
        TfqError: they differ by more than rounding.
    """
    if source.keras_model is None:
        return ()
    results = dict(zip(source.graph.output_names(), outputs, strict=True))
    expected = _predict(source, inputs)
    wrong = [name for name, output in results.items() if not _agree(expected[name], output)]
    again = _predict(source, inputs) if wrong else expected
    random = {name for name in wrong if not np.array_equal(expected[name], again[name], equal_nan=True)}
    raise_all(
        f"output {name!r}: the float graph differs from what the Keras model predicts for the first batch, by "
        f"{_difference(expected[name], results[name])}; verify against a float .tflite that was checked by other means"
        for name in wrong
        if name not in random
    )
    return tuple(
        f"output {name!r} is random in the Keras model, and was not compared with it" for name in sorted(random)
    )


def _predict(source: Source, inputs: Sequence[AnyArray]) -> Mapping[str, AnyArray]:
    """Return outputs of the Keras model by the names of the graph."""
    names = source.graph.input_names()
    arguments = dict(zip(names, inputs, strict=True))
    call = source.call or keras_call(source.keras_model, keras_framework(source.keras_model))
    result = call.by_signature(call([arguments[name] for name in call.order(names)]), source.graph.output_names())
    return {name: np.asarray(value) for name, value in result.items()}


def _agree(expected: AnyArray, output: AnyArray) -> bool:
    if expected.shape != output.shape:
        return False
    sums = ErrorSums.of(expected, output)
    return sums.sqnr_db >= LEAST_DB or sums.max_error <= ROUNDING


def _difference(expected: AnyArray, output: AnyArray) -> str:
    if expected.shape != output.shape:
        return f"shape: {output.shape} where {expected.shape} was expected"
    sums = ErrorSums.of(expected, output)
    return f"{sums.max_error:.4g} (SQNR {sums.sqnr_db:.1f} dB)"
