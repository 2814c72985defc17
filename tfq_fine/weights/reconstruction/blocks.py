"""Runs of operators that one tensor leaves: residual, inverted residual and attention blocks.

Li et al. 2021, "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction" (arXiv 2102.05426),
section 3.2: the errors of layers that add up depend on one another, those of different blocks hardly do.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tfq_converters.graph import ABSENT, Subgraph
from tfq_converters.operators import facts_of, weight_axes
from tfq_converters.quantized import OpKey

MOST_IN_BLOCK = 16  # linear operators; a longer run without a cut is no block
MOST_IN_CHAIN = 3  # linear operators of a chain without branches that are taken together


@dataclass(frozen=True)
class Block:
    """Operators `first` to `stop` of the main subgraph, the last one left out, whose results leave by one tensor.

    Attributes:
        first: the index of the first operator.
        stop: the index after the last one.
        output: the tensor that later operators read.
        fitted: the linear operators whose weights are fitted.
    """

    first: int
    stop: int
    output: int
    fitted: tuple[OpKey, ...]


def operator_blocks(subgraph: Subgraph, fitted: Collection[int]) -> list[Block]:
    """Return one block for each of the operators `fitted`, by their indices."""
    return [Block(o, o + 1, subgraph.ops[o].outputs[0], ((0, o),)) for o in sorted(fitted)]


def blocks(subgraph: Subgraph, fitted: Collection[int]) -> list[Block]:
    """Return the blocks that hold the operators `fitted`, in graph order; single operators where there is no block.

    A block ends where one tensor alone goes on, of those that depend on a linear operator: masks and positions, which
    depend on the inputs alone, may go past it. Chains without branches are cut after `MOST_IN_CHAIN` linear operators.
    """
    cuts = narrow_cuts(subgraph)
    found: list[Block] = []
    chain: list[Block] = []
    first = 0
    for stop, output in cuts:
        inside = [o for o in range(first, stop) if _is_linear(subgraph, o)]
        if not inside:
            continue
        block = Block(first, stop, output, tuple((0, o) for o in inside if o in fitted))
        first = stop
        if len(inside) > MOST_IN_BLOCK:
            found += _joined(chain) + operator_blocks(subgraph, [o for o in inside if o in fitted])
            chain = []
        elif len(inside) > 1:
            found += [*_joined(chain), block]
            chain = []
        else:
            chain.append(block)
            if len(chain) == MOST_IN_CHAIN:
                found += _joined(chain)
                chain = []
    found += _joined(chain)
    left = set(fitted) - {o for block in found for _, o in block.fitted}
    found += operator_blocks(subgraph, left)
    return sorted((block for block in found if block.fitted), key=lambda block: block.first)


def narrow_cuts(subgraph: Subgraph) -> list[tuple[int, int]]:
    """Return (position, tensor) wherever one tensor that depends on a linear operator is all that goes on."""
    last = {t: o for o, op in enumerate(subgraph.ops) for t in op.inputs if t != ABSENT}
    last |= dict.fromkeys(subgraph.outputs, len(subgraph.ops))
    dependent: set[int] = set()
    live: set[int] = set()
    cuts = []
    for o, op in enumerate(subgraph.ops):
        if _is_linear(subgraph, o) or dependent.intersection(op.inputs):
            dependent.update(op.outputs)
            live.update(op.outputs)
        live = {t for t in live if last.get(t, -1) > o}
        if len(live) == 1:
            cuts.append((o + 1, next(iter(live))))
    return cuts


def _is_linear(subgraph: Subgraph, o: int) -> bool:
    op = subgraph.ops[o]
    return facts_of(op.code).linear and bool(weight_axes(op, subgraph))


def _joined(chain: Sequence[Block]) -> list[Block]:
    """Return a chain of blocks as one; none where the chain is empty."""
    if not chain:
        return []
    fitted = tuple(key for block in chain for key in block.fitted)
    return [Block(chain[0].first, chain[-1].stop, chain[-1].output, fitted)]
