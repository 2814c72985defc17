"""How many bytes a file spends on constants, by type."""

from tfq_converters.graph import BITS, Graph, Tensor

LARGE = 4 * 2**20  # bytes of constants


def constant_bytes(graph: Graph) -> dict[str, int]:
    """Return bytes of constants per type, as the file packs them; constants that tensors share count once."""
    sizes: dict[str, int] = {}
    counted: set[tuple[int, str]] = set()
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.data is None or (id(tensor.data), tensor.dtype) in counted:
                continue
            counted.add((id(tensor.data), tensor.dtype))
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + packed_bytes(tensor)
    return dict(sorted(sizes.items()))


def is_large(graph: Graph) -> bool:
    """Return whether the model is too large to measure choices on all samples."""
    return sum(constant_bytes(graph).values()) > LARGE


def packed_bytes(tensor: Tensor) -> int:
    """Return the bytes of one constant in the file."""
    if tensor.dtype in ("int4", "int2"):
        return -(-tensor.constant.size * BITS[tensor.dtype] // 8)
    return int(tensor.constant.nbytes)
