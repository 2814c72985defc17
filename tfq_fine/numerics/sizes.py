"""How many bytes a file spends on constants, by type."""

from tfq_converters.graph import BITS, Graph, Tensor

LARGE = 4 * 2**20  # bytes of constants


def constant_bytes(graph: Graph) -> dict[str, int]:
    """Return bytes of constants per type, as the file packs them; constants that tensors share count once."""
    found: dict[str, int] = {}
    seen: set[tuple[int, str]] = set()
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.data is None or (id(tensor.data), tensor.dtype) in seen:
                continue
            seen.add((id(tensor.data), tensor.dtype))
            found[tensor.dtype] = found.get(tensor.dtype, 0) + packed_bytes(tensor)
    return dict(sorted(found.items()))


def is_large(graph: Graph) -> bool:
    """Return whether running the model is dear enough that choices are measured on fewer samples."""
    return sum(constant_bytes(graph).values()) > LARGE


def packed_bytes(tensor: Tensor) -> int:
    """Return the bytes of one constant in the file."""
    assert tensor.data is not None
    if tensor.dtype in ("int4", "int2"):
        return -(-tensor.data.size * BITS[tensor.dtype] // 8)
    return int(tensor.data.nbytes)
