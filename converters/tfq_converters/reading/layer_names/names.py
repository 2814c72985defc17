"""From the tensor names of a converted file to layers.

Such a name is `net_1/block_3/conv_1/Relu;net_1/block_3/conv_1/Conv2D`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tfq_converters.graph import ABSENT, Op, Subgraph
from tfq_converters.reading.keras_models.layers import Node

CALLS = re.compile(
    r"(Stateful)?PartitionedCall(_\d+)?(:\d+)?$"
)  # suffixes of outputs and functions: they name no layer
SUFFIX = re.compile(r"_\d+$")
KERNELS = {  # operator -> parts of the TensorFlow names of what it computes
    "CONV_2D": ("conv",),
    "DEPTHWISE_CONV_2D": ("depthwise",),
    "TRANSPOSE_CONV": ("conv",),
    "FULLY_CONNECTED": ("matmul", "einsum", "tensordot"),
    "BATCH_MATMUL": ("matmul", "einsum"),
    "AVERAGE_POOL_2D": ("avgpool",),
    "MAX_POOL_2D": ("maxpool",),
}


@dataclass(frozen=True)
class Resolver:
    """Finds the layer that a tensor name speaks of."""

    tree: Node
    suffixed: bool  # every scope is `name_1`, as Keras 3 writes them; else only those of second calls are

    def layer(self, tensor_name: str, code: str = "") -> str:
        """Return the path of the innermost layer in `tensor_name`, "" when it names none.

        Args:
            tensor_name: several names joined by `;` when the converter fused operations.
            code: the operator that writes the tensor; of several names the one of its own computation counts.
        """
        for scopes, _ in sorted(parts(tensor_name), key=lambda part: not computes(code, part[1])):
            path = self._descend(scopes)
            if path:
                return path
        return ""

    def _descend(self, scopes: list[str]) -> str:
        """Follow `scopes` down the tree; those that are no layer (loops, helpers of TensorFlow) are passed over."""
        node = self.tree
        if scopes and self._spellings(scopes[0])[0] == getattr(node.layer, "name", ""):
            scopes = scopes[1:]
        for scope in scopes:
            name = next((name for name in self._spellings(scope) if name in node.children), None)
            node = node.children[name] if name is not None else node
        return node.path

    def _spellings(self, scope: str) -> list[str]:
        short = SUFFIX.sub("", scope)
        return [short, scope] if self.suffixed else [scope, short]


def resolver(tree: Node, tensor_names: Iterable[str]) -> Resolver:
    """Return a resolver for the names of one file, which show whether each scope carries a number."""
    roots = {scopes[0] for name in tensor_names for scopes, _ in parts(name) if scopes}
    return Resolver(tree, suffixed=getattr(tree.layer, "name", "") not in roots)


def parts(tensor_name: str) -> list[tuple[list[str], str]]:
    """Return the names joined in `tensor_name`, each as (its scopes, its operation)."""
    result = []
    for name in tensor_name.split(";"):
        components = [component for component in name.split("/") if component and not CALLS.fullmatch(component)]
        if components:
            result.append((components[:-1], components[-1]))
    return result


def computes(code: str, operation: str) -> bool:
    """Return whether the TensorFlow `operation` is what operator `code` computes, going by its name."""
    kernels = KERNELS.get(code, (code.replace("_", "").lower(),))
    return bool(code) and any(name in operation.lower() for name in kernels)


def weights(subgraph: Subgraph, op: Op) -> list[int]:
    """Return the float constants of an operator, without shape arguments: unrelated layers share equal ones."""
    inputs = (index for index in op.inputs if index != ABSENT)
    return [
        index for index in inputs if (t := subgraph.tensors[index]).is_constant and t.dtype == "float32" and t.shape
    ]
