"""Walks a `.tflite` graph and computes it in TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfq_converters.errors import raise_all
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph, Tensor
from tfq_converters.operators import facts_of
from tfq_fine.emulation.codes import ACTIVATIONS, decoded, encoded, is_quantized
from tfq_fine.emulation.constants import Constants
from tfq_fine.emulation.fixed_kernels import fixed, fixed_codes, reduced_axes
from tfq_fine.emulation.linear import linear, rounds_activations
from tfq_fine.emulation.operators import OPERATORS, cast
from tfq_fine.emulation.sums import mean
from tfq_fine.emulation.whole_numbers import in_whole_numbers, whole_numbers

SPECIAL = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST", "WHILE", "AVERAGE_POOL_2D"})


def _is_known(code: str) -> bool:
    return code in OPERATORS or code in SPECIAL or facts_of(code).linear


def refuse_unknown(graph: Graph) -> None:
    """Raise when an operator cannot be computed here.

    Raises:
        TfqError: lists every such operator.
    """
    unknown = {op.label: name for name, op in _named(graph) if not _is_known(op.code)}
    raise_all(f"{name}: simulate does not know the operator {label}" for label, name in unknown.items())


def _named(graph: Graph) -> list[tuple[str, Op]]:
    return [(graph.subgraphs[s].op_name(o), op) for (s, o), op in graph.ops()]


class Interpreter:
    """Computes a graph; every subgraph is a function of its inputs.

    Args:
        graph: the graph.
        has_gradients: gradients pass through it; TensorFlow's optimizer may then change the order of its sums.
    """

    def __init__(self, graph: Graph, has_gradients: bool = False):
        refuse_unknown(graph)
        self.graph, self._has_gradients = graph, has_gradients
        self._constants = Constants()
        self._ordered = rounds_activations(graph)

    def __call__(self, inputs: Sequence[Any], subgraph: int = 0) -> list[Any]:
        """Return the outputs of a subgraph: codes as the file's types, float as float32."""
        import tensorflow as tf

        current = self.graph.subgraphs[subgraph]
        values: dict[int, Any] = {}
        for t, value in zip(current.inputs, inputs, strict=True):
            tensor = current.tensors[t]
            values[t] = tf.cast(value, tf.float32) if is_quantized(tensor) else value
        for op in current.ops:
            results = self._run(tf, op, current, values)
            if not self._has_gradients:
                results = [_as_it_is(tf, value) for value in results]
            values |= dict(zip(op.outputs, results, strict=True))
        outputs = []
        for t in current.outputs:
            value = self._value(tf, current, t, values)
            outputs.append(tf.cast(value, current.tensors[t].dtype) if is_quantized(current.tensors[t]) else value)
        return outputs

    def _value(self, tf: Any, subgraph: Subgraph, t: int, values: dict[int, Any]) -> Any:
        if t == ABSENT:
            return None
        if t not in values:
            values[t] = self._constants.stored(tf, subgraph.tensors[t])
        return values[t]

    def _run(self, tf: Any, op: Op, subgraph: Subgraph, values: dict[int, Any]) -> list[Any]:
        x = [self._value(tf, subgraph, t, values) for t in op.inputs]
        operands = {slot: subgraph.tensors[t] for slot, t in enumerate(op.inputs) if t != ABSENT}
        if op.code == "WHILE":
            return self._loop(tf, op, x)
        output = subgraph.tensors[op.outputs[0]]
        if facts_of(op.code).linear:
            return [linear(tf, op, x, subgraph, self._constants, self._ordered)]
        if in_whole_numbers(op, {**operands, -1: output}):
            return [whole_numbers(tf, op, x, {**operands, -1: output})]
        if fixed(op, {**operands, -1: output}):
            return [fixed_codes(tf, op, x, {**operands, -1: output})]
        if op.code == "AVERAGE_POOL_2D" and is_quantized(output):
            return [_averaged(tf, op, x[0], operands[0])]
        real = [self._decoded(tf, value, operands[slot]) if slot in operands else None for slot, value in enumerate(x)]
        if op.code in ("QUANTIZE", "DEQUANTIZE"):
            results = [real[0]]
        elif op.code == "CAST":
            results = [cast(tf, real[0], output.dtype)]
        elif self._ordered and _is_spatial_mean(op, operands):
            results = [mean(tf, real[0], reduced_axes(operands), bool(op.option("keepDims")))]
        else:
            computed = OPERATORS[op.code](tf, op, [value for value in real if value is not None])
            results = list(computed) if isinstance(computed, list | tuple) else [computed]
        tensors = [subgraph.tensors[t] for t in op.outputs]
        return [encoded(v, t) if is_quantized(t) else v for v, t in zip(results, tensors, strict=True)]

    def _decoded(self, tf: Any, value: Any, tensor: Tensor) -> Any:
        """Return the real values of codes, and anything else unchanged."""
        if not is_quantized(tensor):
            return tf.cast(value, tf.float32) if tensor.dtype == "float16" else value
        if tensor.is_constant:
            return self._constants.real(tf, tensor)
        return decoded(value, tensor)

    def _loop(self, tf: Any, op: Op, x: list[Any]) -> list[Any]:
        test, body = op.option("condSubgraphIndex"), op.option("bodySubgraphIndex")
        free = [tf.TensorShape(None) for _ in x]
        return list(
            tf.while_loop(
                lambda *state: tf.reshape(self(state, test)[0], []),
                lambda *state: tuple(self(state, body)),
                tuple(x),
                shape_invariants=tuple(free),
            )
        )


def _as_it_is(tf: Any, value: Any) -> Any:
    """Hide `value` from TensorFlow's optimizer, which would add (x + bias) + y in another order."""
    return tf.raw_ops.Snapshot(input=value) if value.dtype == tf.float32 else value


def _is_spatial_mean(op: Op, given: Mapping[int, Tensor]) -> bool:
    """Return whether `op` is a mean whose order of sums is known: over axes that are known and not the last."""
    if op.code != "MEAN" or given[1].data is None or not given[1].data.size:
        return False
    return len(given[0].shape) - 1 not in reduced_axes(given)


def _averaged(tf: Any, op: Op, codes: Any, tensor: Tensor) -> Any:
    """Return the mean of codes, halves away from 0, as the integer kernel rounds it."""
    assert tensor.dtype in ACTIVATIONS
    mean = OPERATORS["AVERAGE_POOL_2D"](tf, op, [codes])
    return tf.sign(mean) * tf.floor(tf.abs(mean) + 0.5)
