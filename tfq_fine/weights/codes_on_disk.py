"""Fitted codes on disk, by content: a later run of the same job takes them from there.

The name of an entry is a digest of all that its codes follow from: the weight and its place in the file, the algorithm
with its options and its source text, and the values that the operator reads on the samples, in float and as the
quantized operators before it compute them. So whatever changes earlier in the model, in the data or in the settings
leads to other entries, and a job that was interrupted finds those of the layers that it finished.
"""

import hashlib
import inspect
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import scipy

import tfq_fine.algorithms
import tfq_fine.numerics
from tfq_converters.errors import TfqError
from tfq_converters.files import write_file
from tfq_converters.graph import ABSENT, AnyArray, Float64Array
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms import MomentInputs, OperatorInputs, WeightProblem, algorithm_of
from tfq_fine.request import WeightSpec

MOST_BYTES = 2**30  # bytes of all entries, beyond which entries that were long unused are deleted
ENDING = ".codes.npz"
T = TypeVar("T")


@dataclass(frozen=True)
class FittedCodes:
    """The codes of one weight, and what else is known once they are fitted.

    Attributes:
        codes: the codes as the algorithm chose them.
        how: how they were found.
        means: the mean patches (exact, quantized) of the inputs, each float64 [groups, K]; None where no bias is
            corrected by them.
    """

    codes: WeightCodes
    how: str
    means: tuple[Float64Array, Float64Array] | None


class CodesOnDisk:
    """A folder of fitted codes.

    Args:
        folder: is made where it is missing.

    Raises:
        TfqError: there can be no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._notes: list[str] = []
        self._writes = True  # until that fails
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TfqError(f"cache_dir={os.fspath(folder)!r} cannot be a folder: {error.strerror}") from error

    def find(self, name: str, read: Callable[[Mapping[str, AnyArray]], T]) -> T | None:
        """Return what `read` makes of the arrays of an entry; None where there is none, or none that can be read.

        Args:
            name: the name of the entry.
            read: raises KeyError or ValueError for arrays that are not those of the entry.
        """
        path = self._folder / (name + ENDING)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                entry = read(content)
            os.utime(path)  # used now
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            self._notes.append(f"{path} cannot be read, and its content was computed anew ({error})")
            return None
        return entry

    def keep(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Write the arrays of an entry, and delete old entries where all of them take more than `MOST_BYTES`.

        Where it cannot be written, a note says so, and no more entries are written: the codes are good without.
        """
        if not self._writes:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        try:
            write_file(self._folder / (name + ENDING), [buffer.getbuffer()])
            self._make_room()
        except (TfqError, OSError) as error:
            self._writes = False
            self._notes.append(f"no more fitted codes are kept in cache_dir: {error}")

    def taken_notes(self) -> list[str]:
        """Return, once, what users should know of entries that could not be read or written."""
        notes, self._notes = self._notes, []
        return notes

    def _make_room(self) -> None:
        entries = []
        for path in self._folder.glob("*" + ENDING):
            try:
                entries.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            except FileNotFoundError:  # another job made room
                continue
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)


def arrays_of_codes(codes: WeightCodes, prefix: str = "") -> dict[str, Any]:
    """Return codes as arrays by name."""
    parts = {
        "codes": codes.codes,
        "scale": codes.scale,
        "zero_point": codes.zero_point,
        "bits": codes.bits,
        "block": codes.block,
    }
    return {prefix + name: part for name, part in parts.items()}


def codes_of_arrays(content: Mapping[str, AnyArray], prefix: str = "") -> WeightCodes:
    """Return the codes that `arrays_of_codes` made arrays of.

    Raises:
        KeyError: an array is missing.
    """
    return WeightCodes(
        content[prefix + "codes"],
        content[prefix + "scale"],
        content[prefix + "zero_point"],
        int(content[prefix + "bits"]),
        tuple(int(size) for size in content[prefix + "block"]),
    )


def codes_of(content: Mapping[str, AnyArray], problem: WeightProblem, prefix: str = "") -> WeightCodes:
    """Return the codes that `arrays_of_codes` made arrays of.

    Raises:
        KeyError: an array is missing.
        ValueError: they are the codes of another weight than that of `problem`.
    """
    codes = codes_of_arrays(content, prefix)
    if (codes.codes.shape, codes.block, codes.scale.shape) != (problem.weight.shape, problem.block, problem.grid):
        raise ValueError("it holds another weight")
    return codes


def arrays_of(entry: FittedCodes) -> dict[str, Any]:
    """Return an entry as arrays by name."""
    means = {} if entry.means is None else {"exact_mean": entry.means[0], "quantized_mean": entry.means[1]}
    return {**arrays_of_codes(entry.codes), "how": entry.how, **means}


def entry_of(content: Mapping[str, AnyArray], problem: WeightProblem) -> FittedCodes:
    """Return the entry that `arrays_of` made arrays of.

    Raises:
        KeyError: an array is missing.
        ValueError: it holds the codes of another weight.
    """
    means = (content["exact_mean"], content["quantized_mean"]) if problem.keeps_mean else None
    return FittedCodes(codes_of(content, problem), str(content["how"]), means)


def entry_name(spec: WeightSpec, problem: WeightProblem) -> str:
    """Return the digest of all that the fitted codes of a weight follow from, the inputs of `problem` included."""
    row, inputs = algorithm_of(spec), problem.inputs
    digest = hashlib.blake2b(digest_size=20)
    options = sorted(row.with_defaults(dict(spec.options)).items())
    said = (version(), algorithm_source(spec), spec.algorithm, options, problem.block, problem.codes, problem.axes)
    add_content(digest, (*said, problem.keeps_mean))
    add_content(digest, (problem.weight, problem.floor, inputs.mean, inputs.absmax, inputs.second_moment))
    if inputs.values is not None:
        _add_inputs(digest, inputs.values)
    return digest.hexdigest()


def _add_inputs(digest: Any, inputs: OperatorInputs) -> None:
    """Add the samples of an operator's inputs, and all that says which of their values meet in its outputs."""
    op, tensors = inputs.op, inputs.subgraph.tensors
    shapes = [tensors[t].shape for t in (*op.inputs, *op.outputs) if t != ABSENT]
    add_content(digest, (op.code, op.custom_code, op.options, shapes, inputs.apart, len(inputs.exact)))
    add_content(digest, (*inputs.exact, *inputs.quantized))
    if isinstance(inputs, MomentInputs):
        for moments in (inputs.moments, inputs.moments_apart):
            add_content(digest, (moments.hessian, moments.cross, moments.exact_mean, moments.quantized_mean))


def add_content(digest: Any, parts: Iterable[object]) -> None:
    """Add arrays, also those inside tuples, lists, mappings and frozen values, by their content; all else by `repr`."""
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
        elif isinstance(part, tuple | list):
            digest.update(f"{len(part)}:".encode())
            add_content(digest, part)
        elif isinstance(part, Mapping):
            digest.update(f"{len(part)}:".encode())
            add_content(
                digest, (each for pair in sorted(part.items(), key=lambda pair: repr(pair[0])) for each in pair)
            )
        elif is_dataclass(part):
            digest.update(type(part).__name__.encode())
            add_content(digest, (getattr(part, each.name) for each in fields(part)))
        else:
            digest.update(f"{part!r};".encode())


def algorithm_source(spec: WeightSpec) -> str:
    """Return the source text of the algorithm of a spec, which may be the user's."""
    return _source(algorithm_of(spec).solve)


@cache
def version() -> str:
    """Return a digest of the algorithms' source text and of the libraries that they compute with."""
    digest = hashlib.blake2b(f"{np.__version__} {scipy.__version__}".encode(), digest_size=20)
    for package in (tfq_fine.algorithms, tfq_fine.numerics):
        for path in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _source(solve: Any) -> str:
    """Return the source text of the module of an algorithm, which may be the user's."""
    try:
        return inspect.getsource(inspect.getmodule(solve) or solve)
    except (OSError, TypeError):  # typed in, or made by a call: it is told by its code alone
        return repr(getattr(getattr(solve, "__code__", None), "co_code", solve))
