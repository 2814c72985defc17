"""The inputs of a layer's operators: over which axes kernels quantize them, and how they are changed inside.

A tensor inside a layer is reached through the layer that holds the kernel: for as long as the wrapped layer is called,
that one's `call` changes what it is given. A layer that computes two operators in one call is called in steps; the cell
of a recurrent layer is given another input and another state.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from tfq_fine.layers.kernel import QuantizedKernel
from tfq_fine.layers.layer_table import EINSUM, Kernel, holder_of, op_shape, summed_axes

Change = Callable[[Any], Any]


def is_inside(kernel: Kernel) -> bool:
    """Return whether what the operator of `kernel` reads can be changed where it reads it."""
    return not kernel.loop and kernel.op != "GATHER" and ("." in kernel.variable or bool(kernel.steps))


@contextmanager
def changed_inside(layer: Any, changes: Mapping[Kernel, Change]) -> Iterator[None]:
    """Let every call of `layer`, or step of its loop, change what the operators of these kernels read."""
    loops: dict[int, tuple[Any, dict[str, Change]]] = {}
    for kernel, change in changes.items():
        if kernel.loop:
            cell = holder_of(layer, kernel.variable)
            loops.setdefault(id(cell), (cell, {}))[1][kernel.variable.rpartition(".")[2]] = change
    with ExitStack() as stack:
        for cell, of_cell in loops.values():
            stack.enter_context(_changed_in_loop(cell, of_cell))
        changes = {kernel: change for kernel, change in changes.items() if not kernel.loop}
        for kernel in sorted(changes, key=lambda kernel: not kernel.steps):  # whose call knows of no other change
            stack.enter_context(_changed(holder_of(layer, kernel.variable), kernel, changes[kernel]))
        yield


@contextmanager
def _changed(holder: Any, kernel: Kernel, change: Change) -> Iterator[None]:
    call = holder.call

    def changed(values: Any, *others: Any, **named: Any) -> Any:
        if kernel.steps:
            return STEPS[kernel.steps](holder, change, values)
        return call(change(values), *others, **named)

    with _replaced(holder, {"call": changed}):
        yield


@contextmanager
def _replaced(layer: Any, attributes: Mapping[str, Any]) -> Iterator[None]:
    """Give a layer other attributes for the time of a block: on the object, untracked; its class stays."""
    own = vars(layer)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)


@contextmanager
def _changed_in_loop(cell: Any, changes: Mapping[str, Change]) -> Iterator[None]:
    """Let every step of a recurrent cell change what its two operators read, and nothing else.

    What reads the state h besides is put right: a GRU mixes it with the new one, z h + (1 - z) n, by its first gate z.
    """
    call, gated = cell.call, hasattr(cell, "reset_after")
    gates: list[Any] = []

    def recorded(values: Any) -> Any:
        gates.append(activation(values))
        return gates[-1]

    def changed(inputs: Any, states: Any, *others: Any, **named: Any) -> Any:
        nested = isinstance(states, list | tuple)
        state, *rest = states if nested else (states,)
        if gated and not cell.reset_after:
            after = _reset_before(cell, changes, inputs, state, bool(named.get("training", others and others[0])))
            return after, [after] if nested else after
        read = changes.get("recurrent_kernel", _as_it_is)(state)
        gates.clear()
        argument = [read, *rest] if nested else read
        result, after = call(changes.get("kernel", _as_it_is)(inputs), argument, *others, **named)
        if gated:
            result = result + gates[0] * (state - read)
            after = [result] if nested else result
        return result, after

    replaced: dict[str, Any] = {"call": changed}
    if gated:
        activation = cell.recurrent_activation
        replaced["recurrent_activation"] = recorded
    with _replaced(cell, replaced):
        yield


def _reset_before(cell: Any, changes: Mapping[str, Change], inputs: Any, state: Any, training: bool) -> Any:
    """Return the next state of a GRU that resets its state before its kernel: another operator reads that."""
    from keras import ops

    read = changes.get("recurrent_kernel", _as_it_is)
    inputs = changes.get("kernel", _as_it_is)(inputs)
    inputs = _dropped(inputs, cell.dropout, cell.get_dropout_mask, training)
    projected, kept = (
        _dropped(
            values, cell.recurrent_dropout if cell.implementation == 1 else 0, cell.get_recurrent_dropout_mask, training
        )
        for values in (read(state), state)
    )
    kernels, recurrent = (ops.split(kernel, 3, axis=-1) for kernel in (cell.kernel, cell.recurrent_kernel))
    biases = ops.split(cell.bias, 3, axis=-1) if cell.use_bias else (0.0, 0.0, 0.0)
    sums = [ops.matmul(x, kernel) + bias for x, kernel, bias in zip(inputs, kernels, biases, strict=True)]
    z, r = (cell.recurrent_activation(sums[n] + ops.matmul(projected[n], recurrent[n])) for n in (0, 1))
    new = cell.activation(sums[2] + ops.matmul(read(r * kept[2]), recurrent[2]))
    return z * state + (1 - z) * new


def _dropped(values: Any, rate: float, mask: Callable[[Any], Any], training: bool) -> list[Any]:
    """Return what each gate sees of `values`: in training, after its dropout."""
    masks = mask(values) if training and 0 < rate < 1 else None
    return [values if masks is None else values * part for part in (masks if isinstance(masks, list) else [masks] * 3)]


def _as_it_is(values: Any) -> Any:
    return values


def _separable(layer: Any, change: Change, values: Any) -> Any:
    """Return the call of a separable convolution, with what its pointwise operator reads changed."""
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
    """Return the arguments of a call that are data: neither masks nor states, which are not quantized."""
    return {name: value for name, value in named.items() if "mask" not in name and "state" not in name}


def channel_axes(layer: Any, kernel: Kernel) -> tuple[int, ...]:
    """Return the axes of what the operator reads that make its input channels, in the order of the kernel's."""
    return summed_axes(holder_of(layer, kernel.variable)) if kernel.layout == EINSUM else (-1,)


def on_the_fly(layer: Any, q: QuantizedKernel, rank: int) -> tuple[int, ...] | None:
    """Return the axes of a tensor of `rank` over which the kernel quantizes it as it comes: a row, or a sample.

    None where it does not.
    """
    if q.plan.spec.mode != "dynamic" or q.kernel.op == "GATHER":
        return None
    window = op_shape(tuple(q.variable.shape), q.layout)[1:-1]
    strides = () if q.kernel.steps else np.ravel(getattr(holder_of(layer, q.kernel.variable), "strides", ())).tolist()
    pointwise = q.kernel.op == "CONV_2D" and {*window, *strides} == {1}
    by_row = q.kernel.op == "FULLY_CONNECTED" or q.plan.form in ("pointwise", "blockwise") or pointwise
    return channel_axes(layer, q.kernel) if by_row else tuple(range(1, rank))


def phases(layer: Any, q: QuantizedKernel) -> tuple[int, ...]:
    """Return the dilation of a convolution along each axis, where the file has an image for each of its phases."""
    holder = holder_of(layer, q.kernel.variable)
    rates = tuple(np.ravel(getattr(holder, "dilation_rate", ())).tolist())
    return rates if max(rates, default=1) > 1 and not q.kernel.steps else ()
