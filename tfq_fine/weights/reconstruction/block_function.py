"""A block of a graph as a differentiable function in TensorFlow: of batches of samples, and of its weights."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tfq_converters.graph import ABSENT, Op, Subgraph, Tensor
from tfq_converters.operators import facts_of
from tfq_fine.emulation import OPERATORS, in_float
from tfq_fine.weights.reconstruction.blocks import Block

Slot = tuple[int, int]  # (operator of the main subgraph, input slot)


def is_differentiable(subgraph: Subgraph, block: Block) -> bool:
    """Return whether every operator of a block is known in TensorFlow."""
    codes = {op.code for op in subgraph.ops[block.first : block.stop]}
    return all(code in OPERATORS or facts_of(code).linear for code in codes)


class BlockFunction:
    """Computes the output of a block for several samples at once, which are joined along their first axis.

    Args:
        subgraph: the main subgraph.
        block: the block, which `is_differentiable`.
    """

    def __init__(self, subgraph: Subgraph, block: Block):
        self._subgraph, self._block = subgraph, block
        made: set[int] = set()
        read: set[int] = set()
        for op in self.ops:
            read.update(t for t in op.inputs if t != ABSENT and t not in made)
            made.update(op.outputs)
        self.inputs = tuple(sorted(t for t in read if not subgraph.tensors[t].is_constant))

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operators of the block."""
        return self._subgraph.ops[self._block.first : self._block.stop]

    @property
    def largest(self) -> int:
        """The number of values of its largest tensor for one sample."""
        return max(math.prod(self._subgraph.tensors[t].shape) for op in self.ops for t in op.outputs)

    def __call__(
        self,
        tf: Any,
        inputs: Mapping[int, Any],
        constants: Mapping[Slot, Any],
        rounded: Callable[[int, Any], Any] | None = None,
    ) -> Any:
        """Return the output.

        Args:
            tf: TensorFlow.
            inputs: tensor -> its values for a batch of samples.
            constants: values that take the place of constants of the graph.
            rounded: (tensor, what an operator computed) -> what is held of it; None for all of it.
        """
        values = dict(inputs)
        for o, op in enumerate(self.ops, self._block.first):
            x = [constants.get((o, slot), self._value(tf, t, values)) for slot, t in enumerate(op.inputs)]
            results = self._computed(tf, op, x)
            for t, result in zip(op.outputs, results, strict=True):
                values[t] = result if rounded is None else rounded(t, result)
        return values[self._block.output]

    def _value(self, tf: Any, t: int, values: Mapping[int, Any]) -> Any:
        if t == ABSENT:
            return None
        return values[t] if t in values else tf.constant(self._subgraph.tensors[t].constant)

    def _computed(self, tf: Any, op: Op, x: list[Any]) -> list[Any]:
        if op.code == "TRANSPOSE_CONV":  # its first input is the shape of the output
            x = [tf.concat([tf.shape(x[2])[:1], x[0][1:]], 0), *x[1:]]
        if facts_of(op.code).linear:
            return [in_float(tf, op, x)]
        if op.code == "RESHAPE":
            return [_reshaped(tf, x[0], self._subgraph.tensors[op.outputs[0]])]
        results = OPERATORS[op.code](tf, op, [value for value in x if value is not None])
        return list(results) if isinstance(results, list | tuple) else [results]


def _reshaped(tf: Any, values: Any, output: Tensor) -> Any:
    """Return `values` in the shape of one sample's output, with as many rows as all samples have together."""
    return tf.reshape(values, (-1, *output.shape[1:]) if output.shape else ())
