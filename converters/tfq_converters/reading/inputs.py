"""Random inputs that a float graph accepts: shapes, types, and indices that its tables hold."""

import numpy as np

from tfq_converters.graph import ABSENT, NUMPY_TYPES, Graph, Signature, Subgraph

TABLE_SLOTS = {"GATHER": (0, 1), "EMBEDDING_LOOKUP": (1, 0)}  # op -> slots of (table, indices)
INDEX_OPS = {  # operators through which an index passes unchanged
    *("CAST", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "UNPACK"),
    *("CONCATENATION", "PACK", "SELECT", "SELECT_V2", "ADD", "LESS", "MAXIMUM", "MINIMUM"),
}
UNBOUNDED = 8  # integers that index nothing are drawn below this


def random_inputs(graph: Graph, signature: Signature, samples: int, free: int, seed: int) -> dict[str, np.ndarray]:
    """Inputs for one signature, by argument name.

    Float inputs are drawn from a normal distribution for even seeds, uniformly from [0, 1) for odd ones; inputs that
    index tables are drawn from the indices that all of those tables have.

    Args:
        graph: the float graph.
        signature: the entry point to feed.
        samples: the size of an unknown first dimension.
        free: the size of every other unknown dimension.
        seed: of the generator.

    Raises:
        KeyError: an input has a type without numbers (strings).
    """
    subgraph = graph.subgraphs[signature.subgraph]
    rng = np.random.default_rng(seed)
    drawn: dict[str, np.ndarray] = {}
    for name, index in signature.inputs:
        tensor = subgraph.tensors[index]
        known = tensor.dynamic_shape
        shape = tuple((samples if axis == 0 else free) if size < 0 else size for axis, size in enumerate(known))
        drawn[name] = _draw(
            rng, shape, np.dtype(NUMPY_TYPES[tensor.dtype]), index_limit(subgraph, index), seed % 2 == 0
        )
    return drawn


def _draw(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, limit: int | None, normal: bool
) -> np.ndarray:
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if limit is not None:
        return rng.integers(0, limit, shape).astype(dtype)
    if np.issubdtype(dtype, np.integer):
        high = int(np.iinfo(dtype).max) + 1 if dtype.itemsize == 1 else UNBOUNDED
        return rng.integers(0, high, shape).astype(dtype)
    return (rng.standard_normal(shape) if normal else rng.random(shape)).astype(dtype)


def index_limit(subgraph: Subgraph, start: int) -> int | None:
    """How many rows the smallest table has that tensor `start` indexes; None when it indexes none."""
    consumers = subgraph.consumers()
    limits: list[int] = []
    seen, ahead = {start}, [start]
    while ahead:
        tensor = ahead.pop()
        for index, slot in consumers.get(tensor, []):
            op = subgraph.ops[index]
            table, indices = TABLE_SLOTS.get(op.code, (ABSENT, ABSENT))
            if slot == indices:
                rows = subgraph.tensors[op.inputs[table]].shape
                limits.append(rows[op.option("axis") if op.code == "GATHER" else 0])
            elif op.code in INDEX_OPS and _stays_index(subgraph, op.outputs):
                fresh = [output for output in op.outputs if output not in seen]
                seen.update(fresh)
                ahead.extend(fresh)
    return min(limits) if limits else None


def _stays_index(subgraph: Subgraph, outputs: tuple[int, ...]) -> bool:
    """Whether `outputs` are whole numbers or truth values; a float on the way is data, except at the very start."""
    return all(subgraph.tensors[output].dtype in ("int32", "int64", "bool") for output in outputs)
