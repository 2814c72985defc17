"""The checks of a layer that is to be wrapped, and of the arguments of its wrapper."""

from typing import Any, get_args

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.quantized import Mode
from tfq_fine.algorithms import algorithm_problems
from tfq_fine.layers.layer_table import ROWS, LayerRow, row_of
from tfq_fine.layers.wrapped import is_wrapper
from tfq_fine.planning import Prefer
from tfq_fine.request import WeightedSpec, WeightSpec


def reason(error: TfqError) -> str:
    """Return the planner's message without the name of its made-up operator."""
    return str(error).partition(": ")[2] or str(error)


def checked_spec(name: str, mode: Mode, weights: Any, activations: Any) -> WeightedSpec:
    """Return the specs as one.

    Raises:
        TfqError: they do not fit the mode; the layer is named.
    """
    try:
        return WeightedSpec(mode, weights, activations)
    except TfqError as error:
        raise TfqError(f"layer {name!r}: {error}") from error


def check_options(name: str, spec: WeightedSpec, momentum: float, freeze_after: int | None, prefer: str) -> None:
    """Check the options of a wrapper.

    Raises:
        TfqError: some mean nothing; all are named.
    """
    problems = {
        **dict.fromkeys(algorithm_problems(spec.weights), True),
        f"momentum={momentum}: expected a number from 0 to 1": not 0 <= momentum <= 1,
        f"freeze_after={freeze_after}: expected None or a number of steps": (freeze_after or 0) < 0,
        f"prefer={prefer!r}: expected one of {', '.join(get_args(Prefer))}": prefer not in get_args(Prefer),
    }
    raise_all(f"layer {name!r}: {problem}" for problem, holds in problems.items() if holds)


def check_layer(layer: Any, weights: WeightSpec | None, row: LayerRow | None) -> None:
    """Check that a layer can be wrapped.

    Raises:
        TfqError: it is no layer, is wrapped already or frozen, has no row, or computes in another type than float32.
    """
    import keras

    kind, name = type(layer).__name__, getattr(layer, "name", "")
    if is_wrapper(layer):
        raise TfqError(
            f"layer {name!r} is wrapped already; wrap {layer.layer.name!r} once, with the specs that you want"
        )
    if not isinstance(layer, keras.layers.Layer):
        raise TfqError(f"FineQuantize wraps a Keras layer; received an object of class {kind}")
    if keras.backend.backend() != "tensorflow":
        raise TfqError(f"FineQuantize runs on the Keras backend tensorflow; found {keras.backend.backend()!r}")
    if row is None and row_of(layer) is None:
        names = ", ".join(sorted(ROWS))
        raise TfqError(
            f"layer {name!r} ({kind}) has no weights to quantize, or is of an unknown type; known: {names}. "
            "A layer type of your own takes a row: FineQuantize(layer, ..., row=LayerRow(...))"
        )
    if weights is None:
        raise TfqError(f"layer {name!r}: FineQuantize needs weights=WeightSpec(...)")
    if not layer.trainable:
        raise TfqError(
            f"layer {name!r} is frozen (trainable=False): set trainable=True, wrap it, and freeze the wrapper if "
            "its weights must not change"
        )
    other = next((inner for inner in layer._flatten_layers() if str(inner.compute_dtype) != "float32"), None)
    if other is not None:
        raise TfqError(
            f"layer {other.name!r} computes in {other.compute_dtype} (policy {other.dtype_policy.name}): quantization "
            "is simulated in float32; build the layer with dtype='float32'"
        )
