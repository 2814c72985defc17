"""The numbers of one operator."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tfq_converters.graph import Graph
from tfq_converters.quantized import ActivationEncoding, OpEncoding, OpKey
from tfq_fine.activations import EncodedPlan, Node
from tfq_fine.weights.bias import keeps_mean
from tfq_fine.weights.integer import integer_encoding
from tfq_fine.weights.solving import Solver


@dataclass(frozen=True)
class Encoder:
    """Encodes the operators of one graph.

    Attributes:
        graph: the float graph.
        placed: a decision per operator, ranges of activations, and their encodings.
    """

    graph: Graph
    placed: EncodedPlan

    def encoded(self, key: OpKey, solver: Solver, before: Mapping[OpKey, OpEncoding]) -> dict[OpKey, OpEncoding]:
        """Return {operator: its encoding}; empty for one that stays float.

        Args:
            key: the operator.
            solver: the solver of the graph's weights.
            before: the encodings of the operators before it.
        """
        subgraph, decision = self.graph.subgraphs[key[0]], self.placed.plan[key]
        op, spec = subgraph.ops[key[1]], decision.spec
        if spec is None:
            return {}
        if spec.mode == "float16":
            return {key: solver.half(op, subgraph)}
        if spec.mode == "integer":
            placed = self.placed
            return {key: integer_encoding(key, op, subgraph, decision, placed.encodings, solver, before, placed.ranges)}
        weights = decision.weighted.weights
        keeps = keeps_mean(op, subgraph, weights)
        constants = solver.codes(key, op, subgraph, decision, before, keeps_mean=keeps)
        constants |= solver.bias(key, op, subgraph, weights, constants, before)
        return {key: OpEncoding(spec.mode, constants, form=decision.form, algorithm=solver.how(key))}

    def with_learned(self, learned: Mapping[Node, ActivationEncoding]) -> "Encoder":
        """Return an encoder that gives some groups of tensors other encodings, by representative."""
        return replace(self, placed=self.placed.with_learned(self.graph, learned))
