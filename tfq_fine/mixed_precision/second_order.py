"""The noise that errors of layers make in the outputs, estimated by gradients: all layers from a few backward passes.

An error e in the output of a layer moves the outputs y of the model by J e, to first order, and what counts is
E |J e|^2, the Gauss-Newton form of the second-order term. With v of independent signs, E (v . J e)^2 is that
(Hutchinson 1990, "A stochastic estimator of the trace"), and v . J e = (J^T v) . e takes one backward pass for all
layers. The errors e are those of the layer on the float model's inputs, run on the kernels, so that codes whose errors
make up for each other count as such, which the diagonal alone (as HAWQ-V2 and Fisher information take it, Dong et al.
2019, arXiv 1911.03852) would not see.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tfq_converters.graph import Float32Array, Graph, Op, Tensor
from tfq_fine.calibration import Sample
from tfq_fine.emulation import pulled_back
from tfq_fine.mixed_precision.measures import WORST_LOSS
from tfq_fine.mixed_precision.sensitivity import Encodings, PartialRuns
from tfq_fine.mixed_precision.units import Unit
from tfq_fine.variants import FloatOutputs, judged, with_outputs

SIGNS = np.array([-1, 1], np.float32)
PROBES = 4  # backward passes of each sample


def second_order(
    runs: PartialRuns, layers: Mapping[Unit, Sequence[Encodings]], begin: Callable[[Unit], None]
) -> Iterator[tuple[Unit, list[float]]]:
    """Yield, for every layer, the estimated share of noise in the outputs for each way to encode it.

    Args:
        runs: the float model, at its inputs, on the samples.
        layers: the layers, in the order of their first operators -> the ways; empty for float.
        begin: is told which layer is next.
    """
    graph = runs.graph
    tensors = sorted({t for unit in layers for _, o in unit.keys for t in graph.main.ops[o].outputs})
    pulls = gradients(graph, runs.samples, runs.expected, tensors)
    for unit, several in layers.items():
        begin(unit)
        moved = [np.zeros((len(runs.samples), PROBES)) for _ in several]
        for key in unit.keys:
            runs.go_to(key[1])
            for total, encodings in zip(moved, several, strict=True):
                own = {key: encodings[key]} if key in encodings else {}
                for n, (before, after) in enumerate(runs.own_outputs(own) if own else ()):
                    for t, value in before.items():
                        total[n] += [float(np.vdot(pull, after[t] - value)) for pull in pulls[n][t]]
        squares = [float(np.square(total).mean()) for total in moved]
        yield unit, [min(square, WORST_LOSS) if np.isfinite(square) else WORST_LOSS for square in squares]


def gradients(
    graph: Graph, samples: Sequence[Sample], expected: FloatOutputs, tensors: Sequence[int]
) -> list[dict[int, list[Float32Array]]]:
    """Return, for every sample, tensor -> J^T v for each of `PROBES` v, of its shape.

    J is the Jacobian of what the outputs are judged by, each output divided by the root of its energy, so that |J e|^2
    is a share of noise; v has independent signs, the same ones at every call.

    Args:
        graph: the float graph.
        samples: inputs in input order.
        expected: the float model's outputs on them.
        tensors: the tensors of the main subgraph that J is taken with respect to.

    Raises:
        TfqError: TensorFlow does not know an operator of the graph.
    """
    judges = judged(graph)
    model, added = perturbed(with_outputs(graph, [judge.tensor for judge in judges]), tensors)
    betas, rng = [judge.beta for judge in judges], np.random.default_rng(0)
    pulls = []
    for n, sample in enumerate(samples):
        shapes = [np.shape(scores) for scores, _ in expected.expected[n]]
        roots = [_root(expected, n, k) for k in range(len(judges))]
        signs = [
            [(rng.choice(SIGNS, shape) / root).astype(np.float32) for shape, root in zip(shapes, roots, strict=True)]
            for _ in range(PROBES)
        ]
        by_probe = pulled_back(model, sample, added, betas, signs)
        pulls.append({t: [pull[k] for pull in by_probe] for k, t in enumerate(tensors)})
    return pulls


def _root(expected: FloatOutputs, n: int, k: int) -> float:
    """Return the root of the energy of what output `k` is judged by, times the number of outputs that count alike."""
    values = expected.judges[k].seen(expected.expected[n][k][0])
    energy = float(np.square(values, dtype=np.float64).sum())
    return float(np.sqrt(max(energy, 1e-3 * expected.energies[k][0], 1e-30) * len(expected.judges)))


def perturbed(graph: Graph, tensors: Sequence[int]) -> tuple[Graph, tuple[int, ...]]:
    """Return (the graph with an input added to each of these tensors, these inputs).

    Args:
        graph: a float graph.
        tensors: outputs of operators of the main subgraph.
    """
    main = graph.main
    own, ops, inputs = list(main.tensors), [], []
    renamed: dict[int, int] = {}  # tensor -> the sum that later operators read
    for op in main.ops:
        ops.append(replace(op, inputs=tuple(renamed.get(t, t) for t in op.inputs)))
        for t in op.outputs:
            if t in tensors:
                tensor = main.tensors[t]
                own += [
                    Tensor(f"{tensor.name}/error", tensor.shape, "float32"),
                    replace(tensor, name=f"{tensor.name}/sum"),
                ]
                inputs.append(len(own) - 2)
                renamed[t] = len(own) - 1
                ops.append(Op("ADD", (t, len(own) - 2), (len(own) - 1,)))
    outputs = tuple(renamed.get(t, t) for t in main.outputs)
    order = dict(zip(renamed, inputs, strict=True))
    added = tuple(order[t] for t in tensors)
    changed = replace(main, tensors=tuple(own), ops=tuple(ops), inputs=(*main.inputs, *added), outputs=outputs)
    return replace(graph, subgraphs=(changed, *graph.subgraphs[1:])), added
