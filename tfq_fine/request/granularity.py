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

    def __post_init__(self) -> None:
        _check_size(self, self.size)


@dataclass(frozen=True)
class Blocks:
    """One scale per `size` neighbouring inputs of one output channel: finer than per-channel."""

    size: int

    def __post_init__(self) -> None:
        _check_size(self, self.size)


Granularity = PerTensor | PerChannel | ChannelGroups | Blocks


def block_shape(
    granularity: Granularity,
    shape: tuple[int, ...],
    channel: int,
    inputs: int | None = None,
    whole_window: bool = False,
) -> tuple[int, ...]:
    """Return the shape of the block of values that share one scale; at most as long as the weight along each axis.

    Args:
        granularity: one of the classes above. A size that does not divide its axis leaves a shorter last block.
        shape: shape of the weight.
        channel: axis of the output channels.
        inputs: axis of the inputs that `Blocks` cuts; None when the weight has none (depthwise convolutions).
        whole_window: whether `Blocks` share a scale over the other axes, the window of a convolution.

    Raises:
        TfqError: there is no axis to cut.
    """
    match granularity:
        case PerTensor():
            return shape
        case PerChannel():
            return tuple(1 if axis == channel else size for axis, size in enumerate(shape))
        case ChannelGroups(size):
            return tuple(min(size, length) if axis == channel else length for axis, length in enumerate(shape))
        case Blocks(size):
            if inputs is None:
                raise TfqError(
                    f"{granularity} needs a weight with an axis of inputs, found shape {shape}; use PerTensor"
                )
            lengths = [1 if axis == channel or not whole_window else length for axis, length in enumerate(shape)]
            return tuple(min(size, shape[axis]) if axis == inputs else length for axis, length in enumerate(lengths))


def _check_size(granularity: Granularity, size: int) -> None:
    if size < 1:
        raise TfqError(f"{granularity}: the size must be at least 1")
