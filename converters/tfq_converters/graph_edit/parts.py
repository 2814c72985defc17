"""A graph in parts: consecutive operators as graphs of their own, for values to be handed from one to the next.

Kernels hold a weight that a DEQUANTIZE makes float as floats, the default ones twice: several times the size of a file
of few bits. In parts, only those of one part are held at a time.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph, Tensor

PART_BYTES = 2**28  # floats that the weights of a part are unpacked to; files below that are run whole
T = TypeVar("T")
UNCHECKED_TYPES = frozenset({"resource", "variant", "string"})


@dataclass(frozen=True)
class Part:
    """Some operators of the main subgraph as a graph; `inputs` and `outputs` name its borders in the whole."""

    graph: Graph
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def part(graph: Graph, indices: Sequence[int], outputs: Collection[int] | None = None) -> Part:
    """Return the operators `indices` of the main subgraph.

    Args:
        graph: the whole.
        indices: the indices, in order.
        outputs: the computed tensors to return; all that an interpreter can hand over when None.
    """
    main = graph.main
    ops = tuple(main.ops[o] for o in indices)
    made = dict.fromkeys(t for op in ops for t in op.outputs)
    read = dict.fromkeys(t for op in ops for t in op.inputs if t != ABSENT and t not in made)
    inputs = tuple(t for t in read if not main.tensors[t].is_constant and not main.tensors[t].is_variable)
    shown = tuple(t for t in made if main.tensors[t].dtype not in UNCHECKED_TYPES and (outputs is None or t in outputs))
    pruned = without_unused(replace(main, ops=ops, inputs=inputs, outputs=shown))
    return Part(Graph((pruned, *graph.subgraphs[1:])), inputs, shown)


def on_given_values(graph: Graph, given: Collection[int], wanted: Sequence[int]) -> Part:
    """Return what computes `wanted` from given values: each operator reads those, not what the one before it computes.

    A part whose operators do not inherit the errors of one another. Tensors may be both given and wanted.

    Args:
        graph: the whole.
        given: computed tensors of the main subgraph whose values are fed.
        wanted: computed tensors of the main subgraph, in the order in which they are returned.
    """
    main = graph.main
    producers = main.producers()
    reached: set[int] = set()  # operators
    waiting = [*wanted]
    while waiting:
        o = producers.get(waiting.pop())
        if o is not None and o not in reached:
            reached.add(o)
            waiting += [t for t in main.ops[o].inputs if t not in given]
    read = {t for o in reached for t in main.ops[o].inputs} & {*given, *main.inputs}
    inputs = tuple(sorted(read))
    fed = {t: len(main.tensors) + k for k, t in enumerate(inputs)}
    copies = tuple(replace(main.tensors[t], name=f"{main.tensors[t].name}/given") for t in inputs)
    ops = tuple(replace(main.ops[o], inputs=tuple(fed.get(t, t) for t in main.ops[o].inputs)) for o in sorted(reached))
    whole = replace(main, tensors=(*main.tensors, *copies), ops=ops, inputs=tuple(fed.values()), outputs=tuple(wanted))
    return Part(Graph((without_unused(whole), *graph.subgraphs[1:])), inputs, tuple(wanted))


def keeps_state(subgraph: Subgraph) -> bool:
    """Return whether it has values that cannot be handed from one part to another."""
    return any(tensor.is_variable or tensor.dtype in UNCHECKED_TYPES for tensor in subgraph.tensors)


def cut(graph: Graph, wanted: Collection[int]) -> list[Part]:
    """Return the parts of a graph whose weights unpack to more than `PART_BYTES`; none when it is run whole.

    Args:
        graph: the graph of the file.
        wanted: tensors of the main subgraph that the parts must show, next to its outputs.
    """
    main = graph.main
    if sum(_unpacked(main, op) for op in main.ops) <= PART_BYTES or keeps_state(main):
        return []
    runs = list(_runs(main))
    place = {t: k for k, run in enumerate(runs) for o in run for t in main.ops[o].outputs}
    later = {t for k, run in enumerate(runs) for o in run for t in main.ops[o].inputs if place.get(t, k) < k}
    return [part(graph, run, {*wanted, *main.outputs, *later}) for run in runs]


def _runs(main: Subgraph) -> Iterator[list[int]]:
    """Return the operators of each part, by index; what is computed of constants alone is computed where it is read."""
    last = {t: o for o, op in enumerate(main.ops) for t in op.inputs}
    fixed, until = {ABSENT}, 0  # tensors that are known beforehand; the last operator that reads one of them
    current: list[int] = []
    size = 0
    for o, op in enumerate(main.ops):
        nbytes = _unpacked(main, op)
        if current and nbytes and o > until and size + nbytes > PART_BYTES:
            yield current
            current, size = [], 0
        current.append(o)
        size += nbytes
        if all(t in fixed or main.tensors[t].is_constant for t in op.inputs):
            fixed |= {*op.outputs}
            until = max([until, *(last.get(t, o) for t in op.outputs)])
    yield current


def _unpacked(main: Subgraph, op: Op) -> int:
    """Return the bytes of the floats that `op` makes of a constant; 0 for all but DEQUANTIZE."""
    if op.code != "DEQUANTIZE" or not main.tensors[op.inputs[0]].is_constant:
        return 0
    return 4 * int(np.prod(main.tensors[op.outputs[0]].shape, dtype=np.int64))


def without_unused(subgraph: Subgraph) -> Subgraph:
    """Return the subgraph without the tensors that it does not use."""
    return compact(subgraph)[0]


def compact(subgraph: Subgraph) -> tuple[Subgraph, dict[int, int]]:
    """Return the subgraph without unused tensors, and the map from old indices to new ones (ABSENT too)."""
    ops = subgraph.ops
    named = {t for op in ops for t in (*op.inputs, *op.outputs, *op.intermediates)} - {ABSENT}
    used = sorted(named | {*subgraph.inputs, *subgraph.outputs})
    places = {old: new for new, old in enumerate(used)} | {ABSENT: ABSENT}

    def move(indices: Sequence[int]) -> tuple[int, ...]:
        return tuple(places[index] for index in indices)

    moved = (
        replace(op, inputs=move(op.inputs), outputs=move(op.outputs), intermediates=move(op.intermediates))
        for op in ops
    )
    small = replace(
        subgraph,
        tensors=tuple(subgraph.tensors[t] for t in used),
        ops=tuple(moved),
        inputs=move(subgraph.inputs),
        outputs=move(subgraph.outputs),
    )
    return small, places


def float_bytes(tensor: Tensor) -> int:
    """Return the bytes of a value of this tensor in float32."""
    return 4 * int(np.prod(tensor.shape, dtype=np.int64))


def chunks(items: Iterable[T], nbytes: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Yield neighbouring items that hold at most `limit` bytes together, or one that holds more alone.

    >>> [*chunks([3, 4, 9, 1], lambda size: size, 8)]
    [[3, 4], [9], [1]]
    """
    chunk: list[T] = []
    total = 0
    for item in items:
        size = nbytes(item)
        if chunk and total + size > limit:
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size
    if chunk:
        yield chunk
