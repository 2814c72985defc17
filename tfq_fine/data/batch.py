"""The inputs that a model takes, and one batch of data: the values that the rest of the data path is about."""

from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import AnyArray, Graph


@dataclass(frozen=True)
class InputSpec:
    """One input of a model."""

    name: str
    shape: tuple[int, ...]  # -1 where unknown
    dtype: str

    def __str__(self) -> str:
        return f"{shape_text(self.shape)} {self.dtype}"


@dataclass(frozen=True)
class Batch:
    """Neighbouring samples, ready to be fed. The arrays may be views of the user's: copy them to keep them."""

    inputs: tuple[AnyArray, ...]  # in input order, each [n, ...], of the model's dtypes
    labels: AnyArray | None  # [n, ...]
    first: int  # index of the first sample
    count: int = 0  # samples; taken from the first input when not given

    def __post_init__(self) -> None:
        if not self.count:
            object.__setattr__(self, "count", len(self.inputs[0]))

    @property
    def is_finite(self) -> bool:
        """Whether no input holds NaN or infinity."""
        return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in self.inputs)


def input_specs(graph: Graph) -> list[InputSpec]:
    """Return the inputs of the main subgraph, in its order."""
    tensors = [graph.main.tensors[index] for index in graph.main.inputs]
    named = zip(graph.input_names(), tensors, strict=True)
    return [InputSpec(name, tensor.dynamic_shape, tensor.dtype) for name, tensor in named]


def shape_text(shape: tuple[int, ...]) -> str:
    """Return `[n, 32, 32, 3]`: unknown sizes as letters, the batch axis as n."""
    sizes = [str(size) if size != -1 else "?" if axis else "n" for axis, size in enumerate(shape)]
    return f"[{', '.join(sizes)}]"
