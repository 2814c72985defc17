"""Does the float file compute what the model computes? Asked on random inputs, before anything is built on the file.

The stock converter rewrites the graph (it folds, fuses and reorders), and some rewrites of its releases are wrong:
2.21 drops the RELU of `relu(matmul(a, b))` for matrices that are both computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import NUMPY_TYPES, AnyArray, Graph, Signature
from tfq_converters.graph_edit import with_main
from tfq_converters.reading.comparison.inputs import random_inputs
from tfq_converters.runtime import Kernels, Runner, is_unrunnable

Arrays = dict[str, AnyArray]
Reference = Callable[[Mapping[str, AnyArray]], Arrays]  # inputs by name -> outputs by name

# A correct conversion differs from the model by the order of float32 additions alone: 4e-6 of the largest output on
# MobileNetV2, 5e-6 on ResNet-50, 4e-7 on a 4-layer encoder (random weights). A lost activation or a misplaced weight
# changes outputs by a tenth or more. The limit stands between them.
RELATIVE_LIMIT = 3e-4
ABSOLUTE_LIMIT = 1e-6  # for outputs that are all but zero
AMPLIFIED = 10.0  # a model that amplifies rounding may differ by this many times what two correct runtimes differ by
SAMPLES = 2
ROUNDS = 2
FREE_SIZES = (32, 8, 128, 224)  # tried in turn for dimensions that the model leaves open


@dataclass(frozen=True)
class Difference:
    """The largest difference between the model and its float file."""

    signature: str
    output: str
    largest: float
    limit: float
    inputs: Mapping[str, AnyArray]  # that it was found on

    def __str__(self) -> str:
        return (
            f"output {self.output!r} of signature {self.signature!r} differs by {self.largest:.3g} "
            f"(rounding explains {self.limit:.3g})"
        )


@dataclass(frozen=True)
class Check:
    """The result of comparing: the largest difference beyond rounding, or why nothing was compared."""

    difference: Difference | None = None
    notes: tuple[str, ...] = ()


def check_signature(graph: Graph, content: bytes, signature: Signature, reference: Reference) -> Check:
    """Compare one signature of a float file with the model that it was made from.

    Args:
        graph: what the file says.
        content: the file.
        signature: one of the graph's.
        reference: the model, from inputs by the signature's names to outputs by the signature's names.

    Raises:
        TfqError: the runtime cannot run the file.
    """
    custom = sorted({op.custom_code for (s, _), op in graph.ops() if is_unrunnable(op, graph.subgraphs[s])})
    if custom:
        return Check(notes=(f"the conversion was not compared with the model: {', '.join(custom)} cannot be run here",))
    if signature.subgraph != 0:
        graph, content = _standalone(graph, signature)
        signature = next(other for other in graph.signatures if other.key == signature.key)
    types = {graph.main.tensors[index].dtype for _, index in (*signature.inputs, *signature.outputs)}
    if types - set(NUMPY_TYPES):
        return Check(
            notes=(f"the conversion was not compared with the model: it has {types - set(NUMPY_TYPES)} tensors",)
        )
    notes: tuple[str, ...] = ()
    worst: Difference | None = None
    for seed in range(ROUNDS):
        other = _check_round(graph, content, signature, reference, seed)
        notes = tuple(dict.fromkeys((*notes, *other.notes)))
        if other.difference and (worst is None or other.difference.largest > worst.largest):
            worst = other.difference
    return Check(worst, notes)


def _standalone(graph: Graph, signature: Signature) -> tuple[Graph, bytes]:
    """Return the file with the subgraph of `signature` where interpreters start."""
    moved = with_main(graph, signature.subgraph)
    return moved, flatbuffer.write(moved)


def _check_round(graph: Graph, content: bytes, signature: Signature, reference: Reference, seed: int) -> Check:
    refusals = []
    for free in FREE_SIZES if _has_free_sizes(graph, signature) else FREE_SIZES[:1]:
        inputs = random_inputs(graph, signature, SAMPLES, free, seed)
        try:
            expected = reference(inputs)
        except Exception as error:  # a model is anyone's code, and raises anything on inputs that it does not take
            refusals.append(f"{type(error).__name__}: {str(error).strip()[:200]}")
            continue
        results = run_signature(graph, content, signature, inputs)
        worst = _largest(signature, inputs, expected, results, {})
        if worst is None:
            return Check()
        return _second_look(graph, content, signature, reference, worst, (expected, results))
    return Check(
        notes=(f"the conversion was not compared with the model, which refuses random inputs ({refusals[0]})",)
    )


def _has_free_sizes(graph: Graph, signature: Signature) -> bool:
    return any(size < 0 for _, index in signature.inputs for size in graph.main.tensors[index].dynamic_shape[1:])


def _second_look(
    graph: Graph,
    content: bytes,
    signature: Signature,
    reference: Reference,
    suspect: Difference,
    results: tuple[Arrays, Arrays],
) -> Check:
    """Return whether a difference remains after allowing for the model's randomness and amplified rounding."""
    expected, result = results
    again = reference(suspect.inputs)
    random = {name for name in expected if not np.array_equal(expected[name], again[name], equal_nan=True)}
    notes = tuple(
        f"output {name!r} of the model changes from call to call, and was not compared" for name in sorted(random)
    )
    try:
        other = run_signature(graph, content, signature, suspect.inputs, "reference")
    except TfqError as error:
        return Check(suspect, (f"the reference kernels refuse the float file: {error}",))
    spread = {name: AMPLIFIED * _distance(result[name], other[name]) for name in result}
    kept = {name: value for name, value in expected.items() if name not in random}
    return Check(_largest(signature, suspect.inputs, kept, result, spread), notes)


def run_signature(
    graph: Graph, content: bytes, signature: Signature, inputs: Mapping[str, AnyArray], kernels: Kernels = "default"
) -> Arrays:
    """Run a signature on subgraph 0 of a float file: inputs by name -> outputs by name."""
    by_index = {index: inputs[name] for name, index in signature.inputs}
    results = Runner(content, kernels).run([by_index[index] for index in graph.main.inputs])
    at = dict(zip(graph.main.outputs, results, strict=True))
    return {name: at[index] for name, index in signature.outputs}


def _largest(
    signature: Signature, inputs: Mapping[str, AnyArray], expected: Arrays, found: Arrays, spread: Mapping[str, float]
) -> Difference | None:
    """Return the output that differs most beyond its limit; None when all are within."""
    worst: Difference | None = None
    for name, reference in expected.items():
        size = float(np.max(np.abs(_finite(reference)), initial=0.0))
        limit = max(RELATIVE_LIMIT * size, ABSOLUTE_LIMIT, spread.get(name, 0.0))
        largest = _distance(reference, found[name])
        if largest > limit and (worst is None or largest / limit > worst.largest / worst.limit):
            worst = Difference(signature.key, name, largest, limit, inputs)
    return worst


def _finite(values: AnyArray) -> AnyArray:
    wide = np.asarray(values, np.complex128 if np.iscomplexobj(values) else np.float64)
    return np.where(np.isfinite(wide), wide, 0)


def _distance(first: AnyArray, second: AnyArray) -> float:
    """Return the largest absolute difference; infinite when shapes, or the places of NaN and infinity, differ."""
    if first.shape != second.shape:
        return float("inf")
    odd_first, odd_second = (np.where(np.isfinite(values), 0, values) for values in (first, second))
    if not np.array_equal(odd_first, odd_second, equal_nan=True):
        return float("inf")
    return float(np.max(np.abs(_finite(first) - _finite(second)), initial=0.0))
