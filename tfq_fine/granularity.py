"""Granularity is one idea: the shape of the block of values that share one scale.

>>> block_shape(PerTensor(), (10, 3, 3, 6), channel=0, inputs=3)
(10, 3, 3, 6)
>>> block_shape(PerChannel(), (10, 3, 3, 6), channel=0, inputs=3)
(1, 3, 3, 6)
>>> block_shape(ChannelGroups(5), (10, 3, 3, 6), channel=0, inputs=3)
(5, 3, 3, 6)
>>> block_shape(Blocks(2), (10, 3, 3, 6), channel=0, inputs=3)
(1, 1, 1, 2)

All arithmetic sees only that shape; `block_shape` is the one function that matches on the classes.
"""

from dataclasses import dataclass

from tfq_converters.errors import TfqError


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor."""


@dataclass(frozen=True)
class PerChannel:
    """One scale per output channel."""


@dataclass(frozen=True)
class ChannelGroups:
    """One scale per `size` neighbouring output channels: between per-tensor and per-channel."""

    size: int


@dataclass(frozen=True)
class Blocks:
    """One scale per `size` neighbouring inputs of one output channel: finer than per-channel."""

    size: int


Granularity = PerTensor | PerChannel | ChannelGroups | Blocks


def block_shape(
    granularity: Granularity, shape: tuple[int, ...], channel: int, inputs: int | None = None
) -> tuple[int, ...]:
    """The shape of the block of values that share one scale.

    Args:
        granularity: one of the classes above.
        shape: shape of the weight.
        channel: axis of the output channels.
        inputs: axis of the inputs that `Blocks` cuts; None when the weight has none (depthwise convolutions).

    Raises:
        TfqError: the size does not divide its axis, or there is no axis to cut.
    """
    match granularity:
        case PerTensor():
            return shape
        case PerChannel():
            return tuple(1 if axis == channel else size for axis, size in enumerate(shape))
        case ChannelGroups(size):
            _must_divide(granularity, size, shape[channel], "output channels")
            return tuple(size if axis == channel else length for axis, length in enumerate(shape))
        case Blocks(size):
            if inputs is None:
                raise TfqError(f"{granularity} needs an axis of inputs, and a weight of shape {shape} has none")
            _must_divide(granularity, size, shape[inputs], "inputs")
            return tuple(size if axis == inputs else 1 for axis in range(len(shape)))


def _must_divide(granularity: Granularity, size: int, length: int, what: str) -> None:
    if size < 1 or length % size:
        divisors = [n for n in range(1, length + 1) if length % n == 0]
        raise TfqError(f"{granularity} does not divide {length} {what}; sizes that do: {divisors}")
