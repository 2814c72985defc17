"""Facts per layer type: which variables are kernels, and how the file lays them out. One row per type.

A file's operator has its own order of axes. `Layout` says which axes of a Keras kernel make each axis of the operator's
constant: `((1,), (0,))` is a transposed matrix, `((), (0,), (1,), (2, 3))` a depthwise kernel [h, w, C, m] as
[1, h, w, C * m]. Blocks are cut in the operator's axes: a scale stands for the same values here and in the file.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.files import from_plain

Layout = tuple[tuple[int, ...], ...]
EINSUM: Literal["einsum"] = "einsum"  # the layout follows from the layer's equation


@dataclass(frozen=True)
class Kernel:
    """One quantized variable of a layer."""

    variable: str  # where the layer keeps it: "kernel", or "cell.kernel"
    op: str  # the operator that it becomes
    layout: Layout | Literal["einsum"]
    reads: int | None = 0  # which input of the layer the operator reads; None: a tensor inside the layer
    loop: bool = False  # the operator stands in the body of a loop, where no ranges are known
    optional: bool = False  # only some configurations of the layer have it
    steps: str = (
        ""  # how a layer that computes several operators in one is called (`input_hooks.STEPS`), to see between
    )


@dataclass(frozen=True)
class LayerRow:
    """The kernels of one layer type."""

    kernels: tuple[Kernel, ...]

    def inside(self, name: str) -> "LayerRow":
        """Return the row of a layer that holds a layer of this row as `name`."""
        return LayerRow(tuple(replace(kernel, variable=f"{name}.{kernel.variable}") for kernel in self.kernels))

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain values; `from_json` reads them back."""
        return [asdict(kernel) for kernel in self.kernels]

    @staticmethod
    def from_json(value: list[dict[str, Any]]) -> "LayerRow":
        """Read what `to_json` made; JSON turns tuples into lists."""
        return from_plain({"kernels": value}, LayerRow, "the kernels of a wrapped layer")


_MATRIX: Layout = ((1,), (0,))  # [inputs, outputs] -> [outputs, inputs]
_RECURRENT = tuple(
    Kernel(f"cell.{name}", "FULLY_CONNECTED", _MATRIX, loop=True) for name in ("kernel", "recurrent_kernel")
)
_BOTH_WAYS = tuple(
    Kernel(f"{way}_layer.{kernel.variable}", kernel.op, kernel.layout, loop=True)
    for way in ("forward", "backward")
    for kernel in _RECURRENT
)
_ATTENTION = (
    Kernel("_query_dense.kernel", "FULLY_CONNECTED", EINSUM, 0),
    Kernel("_key_dense.kernel", "FULLY_CONNECTED", EINSUM, -1),
    Kernel("_value_dense.kernel", "FULLY_CONNECTED", EINSUM, 1),
    Kernel("_gate_dense.kernel", "FULLY_CONNECTED", EINSUM, 0, optional=True),
    Kernel("_output_dense.kernel", "FULLY_CONNECTED", EINSUM, None),
)

ROWS: Mapping[str, LayerRow] = {
    "Dense": LayerRow((Kernel("kernel", "FULLY_CONNECTED", _MATRIX),)),
    "EinsumDense": LayerRow((Kernel("kernel", "FULLY_CONNECTED", EINSUM),)),
    "Conv1D": LayerRow((Kernel("kernel", "CONV_2D", ((2,), (), (0,), (1,))),)),
    "Conv2D": LayerRow((Kernel("kernel", "CONV_2D", ((3,), (0,), (1,), (2,))),)),
    "Conv3D": LayerRow((Kernel("kernel", "CONV_3D", ((0,), (1,), (2,), (3,), (4,))),)),
    "DepthwiseConv1D": LayerRow((Kernel("kernel", "DEPTHWISE_CONV_2D", ((), (), (0,), (1, 2))),)),
    "DepthwiseConv2D": LayerRow((Kernel("kernel", "DEPTHWISE_CONV_2D", ((), (0,), (1,), (2, 3))),)),
    "SeparableConv1D": LayerRow(
        (
            Kernel("depthwise_kernel", "DEPTHWISE_CONV_2D", ((), (), (0,), (1, 2))),
            Kernel("pointwise_kernel", "CONV_2D", ((2,), (), (0,), (1,)), None, steps="separable"),
        )
    ),
    "SeparableConv2D": LayerRow(
        (
            Kernel("depthwise_kernel", "DEPTHWISE_CONV_2D", ((), (0,), (1,), (2, 3))),
            Kernel("pointwise_kernel", "CONV_2D", ((3,), (0,), (1,), (2,)), None, steps="separable"),
        )
    ),
    "Conv1DTranspose": LayerRow((Kernel("kernel", "TRANSPOSE_CONV", ((1,), (), (0,), (2,))),)),
    "Conv2DTranspose": LayerRow((Kernel("kernel", "TRANSPOSE_CONV", ((2,), (0,), (1,), (3,))),)),
    "Embedding": LayerRow((Kernel("embeddings", "GATHER", ((0,), (1,)), None),)),
    "MultiHeadAttention": LayerRow(_ATTENTION),
    "GroupedQueryAttention": LayerRow(_ATTENTION),
    "LSTM": LayerRow(_RECURRENT),
    "GRU": LayerRow(_RECURRENT),
    "SimpleRNN": LayerRow(_RECURRENT),
    "Bidirectional": LayerRow(_BOTH_WAYS),
}


def row_of(layer: Any, rows: Mapping[str, LayerRow] | None = None) -> LayerRow | None:
    """Return the row of a layer's class or of the nearest class that it derives from; the user's `rows` come first.

    That of a TimeDistributed follows from the layer in it.
    """
    table = {**ROWS, **(rows or {})}
    row = next((table[cls.__name__] for cls in type(layer).__mro__ if cls.__name__ in table), None)
    if row is None and is_repeated(layer):
        inner = row_of(layer.layer, rows)
        return None if inner is None else inner.inside("layer")
    return row


def known_row(layer: Any) -> LayerRow:
    """Return the row of a layer that has one.

    Raises:
        TypeError: it has none.
    """
    row = row_of(layer)
    if row is None:
        raise TypeError(f"layer {layer.name!r} ({type(layer).__name__}) has no row")
    return row


def is_repeated(layer: Any) -> bool:
    """Return whether `layer` calls the layer in it once for every step: its operator is then in the file as often."""
    return type(layer).__name__ == "TimeDistributed"


def kernels_of(layer: Any, row: LayerRow, checked: bool = True) -> list[tuple[Kernel, Any, Layout]]:
    """Return (fact, variable, layout) of every kernel that a built layer has.

    Args:
        layer: the layer.
        row: its facts.
        checked: whether what it has there must be a variable, and may not be a tensor that stands for one.

    Raises:
        TfqError: the layer has no such variable, other axes than its row says, or an equation without a matrix.
    """
    result = []
    for kernel in row.kernels:
        holder = holder_of(layer, kernel.variable)
        variable = getattr(holder, kernel.variable.rpartition(".")[2], None)
        if variable is None and kernel.optional:
            continue
        if variable is None or (checked and not hasattr(variable, "assign")):
            raise TfqError(
                f"layer {layer.name!r} ({type(layer).__name__}) has no variable {kernel.variable!r}, as its row says"
            )
        layout = einsum_layout(holder) if kernel.layout == EINSUM else kernel.layout
        if sorted(axis for axes in layout for axis in axes) != list(range(len(variable.shape))):
            raise TfqError(
                f"layer {layer.name!r} ({type(layer).__name__}): layout {layout} of its row does not name each of the "
                f"{len(variable.shape)} axes of {kernel.variable} once"
            )
        result.append((kernel, variable, layout))
    return result


def holder_of(layer: Any, variable: str) -> Any:
    """Return the layer that holds a variable: `cell` of "cell.kernel", the layer itself of "kernel"; else None."""
    for name in variable.split(".")[:-1]:
        layer = getattr(layer, name, None)
    return layer


def summed_axes(layer: Any) -> tuple[int, ...]:
    """Return the axes of an EinsumDense's input that it sums over, in the order of its kernel's axes.

    >>> from types import SimpleNamespace
    >>> summed_axes(SimpleNamespace(equation="abcd,dce->abe")), summed_axes(SimpleNamespace(equation="...x,xy->...y"))
    ((3, 2), (-1,))
    """
    left, result = layer.equation.replace(" ", "").split("->")
    data, kernel = left.split(",")
    letters = data.replace("...", "")
    first = -len(letters) if data.startswith("...") else 0
    return tuple(first + letters.index(letter) for letter in kernel if letter not in result)


def einsum_layout(layer: Any) -> Layout:
    """Return the kernel axes of an EinsumDense: first those that its output has, then those that it sums over.

    Raises:
        TfqError: an axis of the kernel is in the input and in the output, so that the kernel is no matrix.
    """
    left, result = layer.equation.replace(" ", "").split("->")
    data, kernel = left.split(",")
    outputs = tuple(axis for axis, letter in enumerate(kernel) if letter in result)
    inputs = tuple(axis for axis, letter in enumerate(kernel) if letter not in result)
    both = [kernel[axis] for axis in outputs if kernel[axis] in data]
    if both:
        raise TfqError(
            f"layer {layer.name!r}: axis {both[0]!r} of {layer.equation!r} is in the input, the kernel and the "
            "output; only kernels that are a matrix of inputs and outputs are quantized"
        )
    return tuple(sorted(outputs, key=lambda axis: result.index(kernel[axis]))), inputs


def op_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Return the shape of the operator's constant for a kernel of `shape`.

    >>> op_shape((3, 3, 5, 2), ((), (0,), (1,), (2, 3)))
    (1, 3, 3, 10)
    """
    return tuple(math.prod(shape[axis] for axis in axes) for axes in layout)


def to_op(values: Any, layout: Layout, ops: Any = np) -> Any:
    """Return a kernel in the operator's axes; `ops` is numpy or `keras.ops`."""
    order = [axis for axes in layout for axis in axes]
    return ops.reshape(ops.transpose(values, order), op_shape(tuple(values.shape), layout))


def from_op(values: Any, layout: Layout, shape: tuple[int, ...], ops: Any = np) -> Any:
    """Return the inverse of `to_op` for a kernel of `shape`."""
    order = [axis for axes in layout for axis in axes]
    back = [order.index(axis) for axis in range(len(order))]
    return ops.transpose(ops.reshape(values, tuple(shape[axis] for axis in order)), back)
