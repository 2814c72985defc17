"""What the operators of a layer read: over which axes kernels quantize it as it comes, and how it is changed inside.

A tensor inside a layer is reached through the layer that holds the kernel: for as long as the wrapped layer is called,
that one's `call` changes what it is given. A layer that computes two operators in one call is called in steps.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from tfq_fine.layers.kernel import QuantizedKernel
from tfq_fine.layers.rows import EINSUM, Kernel, holder_of, op_shape, summed_axes

Change = Callable[[Any], Any]


def is_inside(kernel: Kernel) -> bool:
    """Whether what the operator of `kernel` reads can be changed where it reads it."""
    return not kernel.loop and kernel.op != "GATHER" and ("." in kernel.variable or bool(kernel.steps))


@contextmanager
def changed_inside(layer: Any, changes: Mapping[Kernel, Change]) -> Iterator[None]:
    """While it lasts, every call of `layer` changes what the operators of these kernels read."""
    with ExitStack() as stack:
        for kernel in sorted(changes, key=lambda kernel: not kernel.steps):  # whose call knows of no other change
            stack.enter_context(_changed(holder_of(layer, kernel.variable), kernel, changes[kernel]))
        yield


@contextmanager
def _changed(holder: Any, kernel: Kernel, change: Change) -> Iterator[None]:
    own, call = vars(holder), holder.call  # of the object, where nothing is tracked; the class stays as it is
    before = {name: own[name] for name in ("call",) if name in own}

    def changed(values: Any, *others: Any, **named: Any) -> Any:
        if kernel.steps:
            return STEPS[kernel.steps](holder, change, values)
        return call(change(values), *others, **named)

    own["call"] = changed
    try:
        yield
    finally:
        del own["call"]
        own.update(before)


def _separable(layer: Any, change: Change, values: Any) -> Any:
    """The call of a separable convolution, with what its pointwise operator reads changed."""
    import keras

    ops, form = keras.ops, layer.data_format
    values = ops.depthwise_conv(values, layer.depthwise_kernel, layer.strides, layer.padding, form, layer.dilation_rate)
    values = ops.conv(change(values), layer.pointwise_kernel, data_format=form)
    if layer.use_bias:
        spatial = (1,) * layer.rank
        values = values + ops.reshape(layer.bias, (1, -1, *spatial) if form == "channels_first" else (1, *spatial, -1))
    return values if layer.activation is None else layer.activation(values)


STEPS: Mapping[str, Callable[[Any, Change, Any], Any]] = {"separable": _separable}


def data_of(named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that are data: neither masks nor states, which are not quantized."""
    return {name: value for name, value in named.items() if "mask" not in name and "state" not in name}


def channel_axes(layer: Any, kernel: Kernel) -> tuple[int, ...]:
    """The axes of what the operator reads that make its input channels, in the order of the kernel's."""
    return summed_axes(holder_of(layer, kernel.variable)) if kernel.layout == EINSUM else (-1,)


def on_the_fly(layer: Any, q: QuantizedKernel, rank: int) -> tuple[int, ...] | None:
    """The axes of a tensor of `rank` over which the kernel quantizes it as it comes: a row, or a sample.

    None where it does not, and in loops, where the states that it reads are not at hand.
    """
    if q.held.spec.mode != "dynamic" or q.kernel.op == "GATHER" or q.kernel.loop:
        return None
    window = op_shape(tuple(q.variable.shape), q.layout)[1:-1]
    strides = () if q.kernel.steps else np.ravel(getattr(holder_of(layer, q.kernel.variable), "strides", ())).tolist()
    pointwise = q.kernel.op == "CONV_2D" and {*window, *strides} == {1}
    by_row = q.kernel.op == "FULLY_CONNECTED" or q.held.form in ("pointwise", "blockwise") or pointwise
    return channel_axes(layer, q.kernel) if by_row else tuple(range(1, rank))


def phases(layer: Any, q: QuantizedKernel) -> tuple[int, ...]:
    """The dilation of a convolution along each axis, where the file has an image of its own for every phase of it."""
    holder = holder_of(layer, q.kernel.variable)
    rates = tuple(np.ravel(getattr(holder, "dilation_rate", ())).tolist())
    return rates if max(rates, default=1) > 1 and not q.kernel.steps else ()
