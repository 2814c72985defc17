"""Roundings that were learned for a block, on disk by content, as `weights.codes_on_disk` keeps codes of one weight."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np

from tfq_converters.graph import ABSENT, AnyArray, Subgraph
from tfq_converters.quantized import ActivationEncoding, OpEncoding, OpKey, WeightCodes
from tfq_fine.algorithms import WeightProblem
from tfq_fine.weights.codes_on_disk import add_content, arrays_of_codes, codes_of, version
from tfq_fine.weights.reconstruction.blocks import Block
from tfq_fine.weights.reconstruction.fitting import Learned, Node
from tfq_fine.weights.reconstruction.learning import Observed

Problems = Mapping[tuple[OpKey, int], WeightProblem]


def block_name(
    subgraph: Subgraph,
    block: Block,
    problems: Problems,
    encodings: Mapping[OpKey, OpEncoding],
    observed: Observed,
    steps: int,
    learnable: Mapping[Node, Sequence[int]],
) -> str:
    """Return the digest of all that `fitting.learned` reads; the arguments are those of that function."""
    digest = hashlib.blake2b(digest_size=20)
    add_content(digest, (version(), _sources(), block, steps, sorted(learnable.items())))
    for o in range(block.first, block.stop):
        op = subgraph.ops[o]
        add_content(digest, (o, op.code, op.custom_code, op.options, op.inputs, op.outputs))
        tensors = [subgraph.tensors[t] for t in (*op.inputs, *op.outputs) if t != ABSENT]
        add_content(digest, (part for tensor in tensors for part in (tensor.shape, tensor.dtype, tensor.data)))
    for key in block.fitted:
        _add_encoding(digest, encodings[key])
        for (other, slot), problem in sorted(problems.items(), key=lambda pair: pair[0]):
            if other == key:
                parts = slot, problem.weight, problem.block, problem.codes, problem.axes, problem.floor
                add_content(digest, (*parts, problem.keeps_mean))
    for side in (observed.exact, observed.quantized):
        for values in side:
            add_content(digest, (part for pair in sorted(values.items(), key=lambda pair: pair[0]) for part in pair))
    add_content(digest, observed.target)
    return digest.hexdigest()


def _add_encoding(digest: Any, encoding: OpEncoding) -> None:
    """Add the codes and values that a block begins at, and the encodings of its activations."""
    add_content(digest, (encoding.mode, encoding.form, encoding.algorithm))
    add_content(digest, (sorted(encoding.inputs.items()), sorted(encoding.outputs.items()), encoding.partial))
    for slot, stored in sorted(encoding.weights.items(), key=lambda pair: pair[0]):
        parts = arrays_of_codes(stored).values() if isinstance(stored, WeightCodes) else [stored]
        add_content(digest, (slot, *parts))


@cache
def _sources() -> str:
    """Return the version of TensorFlow, and a digest of the source text of this package."""
    digest = hashlib.blake2b(digest_size=20)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"{version_of('tensorflow')} {digest.hexdigest()}"


def learned_arrays(learned: Learned) -> dict[str, Any]:
    """Return what was learned as arrays by name."""
    arrays: dict[str, Any] = {}
    for ((_, o), slot), codes in learned.codes.items():
        arrays |= arrays_of_codes(codes, f"{o}/{slot}/")
    arrays |= {f"{o}/bias": bias for (_, o), bias in learned.biases.items()}
    arrays |= {f"range/{t}/{bits}": _as_array(encoding) for (t, bits), encoding in learned.ranges.items()}
    return arrays | {f"{o}/how": how for (_, o), how in learned.how.items()}


def _as_array(encoding: ActivationEncoding) -> AnyArray:
    return np.array([encoding.scale, encoding.zero_point])


def learned_of(content: Mapping[str, AnyArray], block: Block, problems: Problems) -> Learned:
    """Return what `learned_arrays` made arrays of.

    Raises:
        KeyError: an array is missing.
        ValueError: they belong to other weights.
    """
    names = set(content)
    codes = {
        (key, slot): codes_of(content, problem, f"{key[1]}/{slot}/")
        for (key, slot), problem in problems.items()
        if key in block.fitted and f"{key[1]}/{slot}/codes" in names
    }
    biases = {key: np.asarray(content[f"{key[1]}/bias"]) for key in block.fitted if f"{key[1]}/bias" in names}
    ranges = {}
    for name in sorted(name for name in names if name.startswith("range/")):
        t, bits = (int(part) for part in name.split("/")[1:])
        scale, zero_point = content[name].tolist()
        ranges[t, bits] = ActivationEncoding("int8" if bits == 8 else "int16", scale, int(zero_point))
    return Learned(codes, biases, {key: str(content[f"{key[1]}/how"]) for key in block.fitted}, ranges)
