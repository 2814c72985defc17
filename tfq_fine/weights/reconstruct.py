"""Reconstruction of blocks: codes that were found operator by operator are learned on, block by block.

What was learned is kept where the block's output, as the kernels compute it on samples that nothing was fitted to, is
nearer to that of the float model than before.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import OpEncoding, OpKey, WeightCodes
from tfq_fine.activations import learnable_groups
from tfq_fine.algorithms import algorithm_named, algorithm_of, has_statistics
from tfq_fine.calibration import Cut, Layerwise
from tfq_fine.planning import Decision, Plan
from tfq_fine.request import WeightedSpec
from tfq_fine.weights.encoder import Encoder
from tfq_fine.weights.reconstruction.block_function import is_differentiable
from tfq_fine.weights.reconstruction.blocks import Block, blocks, operator_blocks
from tfq_fine.weights.reconstruction.fitting import Learned, learned
from tfq_fine.weights.reconstruction.learned_on_disk import block_name, learned_arrays, learned_of
from tfq_fine.weights.reconstruction.learning import Observed
from tfq_fine.weights.solving import Solver


def blocks_of(
    graph: Graph, plan: Plan, given: Mapping[tuple[OpKey, int], WeightCodes] | None = None
) -> tuple[Block, ...]:
    """Return the blocks whose roundings the algorithms of a plan learn by gradients, in graph order.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        given: (operator, slot) -> codes that were chosen already.
    """
    scopes = {o: _learns(decision) for (s, o), decision in plan.items() if s == 0}
    main, chosen = graph.main, {key for key, _ in given or {}}
    fitted = {
        o: scope
        for o, scope in scopes.items()
        if scope and (0, o) not in chosen and has_statistics(main.ops[o], main) and _owns_constants(graph, o)
    }
    chosen_blocks: list[Block] = []
    for block in blocks(main, fitted):
        whole = {fitted[o] for _, o in block.fitted} == {"block"} and is_differentiable(main, block)
        chosen_blocks += [block] if whole else operator_blocks(main, [o for _, o in block.fitted])
    return tuple(chosen_blocks)


def _learns(decision: Decision) -> str:
    """Return how many operators the algorithm of a decision learns at once: "operator", "block", or "" for none."""
    spec = decision.spec
    row = algorithm_named(spec.weights.algorithm) if isinstance(spec, WeightedSpec) else None
    return "" if row is None else row.learns


def _option(decision: Decision, name: str) -> int:
    """Return an option of the algorithm of a decision, a whole number."""
    spec = decision.weighted.weights
    return int(algorithm_of(spec).with_defaults(dict(spec.options))[name])


def _owns_constants(graph: Graph, o: int) -> bool:
    """Return whether no other operator reads the weights of an operator, which would need codes of their own."""
    main = graph.main
    return all(len(main.consumers()[main.ops[o].inputs[axes.slot]]) == 1 for axes in weight_axes(main.ops[o], main))


def stretches(plan: Plan, blocks: Sequence[Block]) -> Iterator[tuple[Block | None, list[OpKey]]]:
    """Yield the operators of a plan in its order, block by block; None for those in between."""

    def block_of(key: OpKey) -> Block | None:
        return next((block for block in blocks if key[0] == 0 and block.first <= key[1] < block.stop), None)

    for block, keys in itertools.groupby(plan, block_of):
        yield block, list(keys)


@dataclass(frozen=True)
class Reconstructed:
    """The result of learning a block.

    Attributes:
        encodings: operator of the block -> its encoding; empty where nothing that was learned is better.
        encoder: the encoder of the operators after it, which reads what the block writes.
    """

    encodings: Mapping[OpKey, OpEncoding]
    encoder: Encoder


def reconstructed(
    block: Block,
    keys: Collection[OpKey],
    start: Cut,
    layers: Layerwise,
    encoder: Encoder,
    solver: Solver,
    before: Mapping[OpKey, OpEncoding],
) -> Reconstructed:
    """Return the encodings of a block's operators with learned roundings, and learned scales of what they write.

    Kept is what the kernels compute best on samples apart: with all that was learned, with the scales that calibration
    chose, or as it was.

    Args:
        block: the block.
        keys: its operators that have a decision.
        start: what it reads.
        layers: gives what quantized operators compute.
        encoder: encodes operators.
        solver: the solver of the graph's weights.
        before: the encodings of its operators and of those before it.
    """
    unchanged = Reconstructed({}, encoder)
    if solver.is_interrupted:
        return unchanged
    end = layers.at(block.stop, before)
    fitted = len(start.exact) - start.apart
    target = [np.asarray(values[block.output]) for values in end.exact[:fitted]]
    observed = Observed(start.exact[:fitted], start.quantized[:fitted], target)
    try:
        result = _learned(encoder, block, solver, before, observed)
    except TfqError:
        return unchanged
    except KeyboardInterrupt:
        solver.interrupt()
        return unchanged
    again = solver.with_learned(result)
    kept, cut = unchanged, end
    for candidate in _candidates(encoder, result):
        layers.back_to(start)
        encodings = dict(before)
        for key in keys:
            encodings |= candidate.encoded(key, again, encodings)
        after = layers.at(block.stop, encodings)
        if output_error(after, block.output) < output_error(cut, block.output):  # NaN is never less
            kept, cut = Reconstructed({key: encodings[key] for key in keys if key in encodings}, candidate), after
    layers.back_to(cut)
    return kept


def _candidates(encoder: Encoder, result: Learned) -> list[Encoder]:
    """Return encoders with the scales that were learned for a block, and with those of calibration."""
    return [*([encoder.with_learned(result.ranges)] if result.ranges else []), encoder]


def _learned(
    encoder: Encoder, block: Block, solver: Solver, encodings: Mapping[OpKey, OpEncoding], observed: Observed
) -> Learned:
    """Return what `learned` gives, unless it is on disk."""
    graph, placed = encoder.graph, encoder.placed
    decisions = [placed.plan[key] for key in block.fitted]
    steps = max(_option(decision, "steps") for decision in decisions)
    learns = all(_option(decision, "ranges") for decision in decisions)
    learnable = learnable_groups(graph, placed, block.first, block.stop) if learns else {}
    on_disk, problems = solver.on_disk, solver.problems
    whole = graph.main, block, problems, encodings, observed, steps, learnable
    if on_disk is None:
        return learned(*whole)
    name = block_name(*whole)
    entry = on_disk.find(name, partial(learned_of, block=block, problems=problems))
    if entry is None:
        entry = learned(*whole)
        on_disk.keep(name, learned_arrays(entry))
    return entry


def output_error(cut: Cut, tensor: int) -> float:
    """Return the mean squared error of a tensor on the samples kept apart, or on all samples where there are none."""
    first = len(cut.exact) - cut.apart if cut.apart else 0
    pairs = zip(cut.exact[first:], cut.quantized[first:], strict=True)
    return float(np.mean([np.mean(np.square(one[tensor] - other[tensor])) for one, other in pairs]))
