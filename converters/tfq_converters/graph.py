"""The small graph of plain values that everything else works on: no schema objects, no framework objects.

A `Graph` is what one `.tflite` file says. All parts are frozen; a stage that changes something returns a new value.
Two tensors that share a constant hold the very same array object; what follows from such an object is computed once
in an `IdentityCache`.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tfq_converters.brief import brief

T = TypeVar("T")

# Arrays by the type of their elements; docstrings and comments say their shapes.
Float16Array = NDArray[np.float16]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]  # numbers, strings or bytes, as a tensor or a sample has them

ABSENT = -1  # the tensor index of an optional operand that is not given

NUMPY_TYPES: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "float64": np.float64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "int4": np.int8,  # one code per element here; packed only in the file
    "int2": np.int8,
}
BITS = {"int2": 2, "int4": 4, "int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint8": 8}


@dataclass(frozen=True)
class Quantization:
    """Real value = scale * (code - zero_point), elementwise along `axis` when there are several scales."""

    __repr__ = brief

    scale: FloatArray  # float32 [1] or [shape[axis]]; [shape[axis], blocks] for blockwise
    zero_point: Int64Array  # int64, same length as scale
    axis: int = 0
    block_size: int = 0  # > 0: blockwise, `scale` has one row per index of `axis`


@dataclass(frozen=True)
class Tensor:
    """A value of the graph: constant when it has `data`, else computed, fed or (for variables) kept between runs."""

    __repr__ = brief

    name: str
    shape: tuple[int, ...]  # with 1 where the file says "unknown"
    dtype: str
    shape_signature: tuple[int, ...] | None = None  # with -1 where the file says "unknown"
    has_rank: bool = True
    data: AnyArray | None = None  # an array of `shape`; raw uint8 for strings and unknown types
    quantization: Quantization | None = None
    is_variable: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)  # rare schema fields, kept unchanged

    @property
    def is_constant(self) -> bool:
        """Whether the file holds its data."""
        return self.data is not None

    @property
    def constant(self) -> AnyArray:
        """The data of a constant, of `shape`.

        Raises:
            TypeError: the tensor is no constant.
        """
        if self.data is None:
            raise TypeError(f"tensor {self.name!r} is no constant: its values are computed or fed")
        return self.data

    @property
    def affine(self) -> Quantization:
        """The scales and zero points of codes.

        Raises:
            TypeError: the tensor holds real values.
        """
        if self.quantization is None:
            raise TypeError(f"tensor {self.name!r} has no scale: it holds {self.dtype} values, no codes")
        return self.quantization

    @property
    def dynamic_shape(self) -> tuple[int, ...]:
        """The shape with -1 where it is unknown."""
        return self.shape if self.shape_signature is None else self.shape_signature


@dataclass(frozen=True)
class Options:
    """The options table of an operator: the schema's name for it, and its fields as plain values."""

    kind: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Op:
    """One operator: `code` is the schema's name (`CONV_2D`), or `CUSTOM`."""

    code: str
    inputs: tuple[int, ...]  # tensor indices, ABSENT where an optional input is not given
    outputs: tuple[int, ...]
    options: Options | None = None
    version: int = 1
    custom_code: str = ""
    custom_options: bytes = b""
    intermediates: tuple[int, ...] = ()
    mutating_inputs: tuple[bool, ...] = ()
    layer: str = ""  # the Keras layer it came from, "" when unknown

    def option(self, name: str) -> Any:
        """Return the value of one field of the options; None when the operator has no options."""
        return None if self.options is None else self.options.values[name]

    @property
    def label(self) -> str:
        """How the operator is called in messages: `CONV_2D`, or `CUSTOM:FlexErf`."""
        return f"{self.code}:{self.custom_code}" if self.custom_code else self.code


@dataclass(frozen=True)
class Subgraph:
    """A list of operators in execution order over a list of tensors."""

    __repr__ = brief

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def producers(self) -> Mapping[int, int]:
        """Return tensor index -> index of the op that writes it."""
        return self._producers

    def consumers(self) -> Mapping[int, list[tuple[int, int]]]:
        """Return tensor index -> [(op index, input slot), ...] in execution order."""
        return self._consumers

    @cached_property
    def _producers(self) -> dict[int, int]:
        return {tensor: index for index, op in enumerate(self.ops) for tensor in op.outputs}

    @cached_property
    def _consumers(self) -> dict[int, list[tuple[int, int]]]:
        consumers: dict[int, list[tuple[int, int]]] = {}
        for index, op in enumerate(self.ops):
            for slot, tensor in enumerate(op.inputs):
                if tensor != ABSENT:
                    consumers.setdefault(tensor, []).append((index, slot))
        return consumers

    def op_name(self, index: int) -> str:
        """Return how op `index` is called in messages: its layer if known, else its output tensor, and its kind."""
        op = self.ops[index]
        where = op.layer or (self.tensors[op.outputs[0]].name if op.outputs else f"op {index}")
        return f"{where} ({op.label})"


@dataclass(frozen=True)
class Signature:
    """A named entry point: argument names to tensors of one subgraph."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Graph:
    """The content of one `.tflite` file."""

    __repr__ = brief

    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...] = ()
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    description: str = ""
    sparse: int = 0  # constants that the file stores sparse; they are dense here, and where the graph is written

    @property
    def main(self) -> Subgraph:
        """The subgraph that a run begins with."""
        return self.subgraphs[0]

    @cached_property
    def derived(self) -> "IdentityCache":
        """Values that follow from this graph, computed once for all stages that read them."""
        return IdentityCache()

    def ops(self) -> Iterator[tuple[tuple[int, int], Op]]:
        """Yield ((subgraph index, op index), op) over the whole file."""
        for s, subgraph in enumerate(self.subgraphs):
            for o, op in enumerate(subgraph.ops):
                yield (s, o), op

    def input_names(self) -> list[str]:
        """Return the argument names of the main subgraph, in its input order: the signature's where there is one."""
        return self._names(self.main.inputs, "inputs")

    def output_names(self) -> list[str]:
        """Return the result names of the main subgraph, in its output order."""
        return self._names(self.main.outputs, "outputs")

    def _names(self, indices: tuple[int, ...], side: str) -> list[str]:
        named: dict[int, str] = {}
        for signature in self.signatures:
            if signature.subgraph == 0 and not named:
                named = {index: name for name, index in getattr(signature, side)}
        return [named.get(index, self.main.tensors[index].name) for index in indices]


class IdentityCache:
    """Values that are computed once for certain objects, which are told apart by identity and not by their content.

    The objects are kept alive with the value, because Python gives the id of a dead one to the next.

    >>> cache, weight = IdentityCache(), np.ones(3)
    >>> cache.once(lambda: "first", weight), cache.once(lambda: "second", weight)
    ('first', 'first')
    >>> cache.once(lambda: "other object", np.ones(3)), cache.once(lambda: "other key", weight, key=4)
    ('other object', 'other key')
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[tuple[object, ...], Any]] = {}

    def once(self, make: Callable[[], T], *objects: object, key: Hashable = None) -> T:
        """Return what `make` gave when it was first called for these objects and `key`, which counts by its content."""
        place = tuple(map(id, objects)), key
        if place not in self._entries:
            self._entries[place] = objects, make()
        value: T = self._entries[place][1]
        return value

    def __len__(self) -> int:
        return len(self._entries)

    def __reduce__(self) -> tuple[type["IdentityCache"], tuple[()]]:
        return IdentityCache, ()  # in another process, or in a copy, the objects are others
