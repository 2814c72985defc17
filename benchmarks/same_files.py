"""Whether two versions of the code write the same files: every recipe of a set of models, compared byte by byte.

`python -m benchmarks.same_files write FOLDER [--quick]` writes the files with the code that is imported;
`python -m benchmarks.same_files compare BEFORE AFTER` compares those of two folders, and names the first tensors that
differ, and how. A recipe that is refused leaves its message, which is compared as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo import CASES, FILES
from benchmarks.zoo.structures import STRUCTURES
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Tensor
from tfq_fine import RECIPES, TfqError, quantize

QUICK = ("convolutions", "recurrent", "attention", "arithmetic")
MODELS = (*STRUCTURES, "tones", "small_mobilenet_v2", "resnet8", "mtcnn_pnet", "iris_landmark")
SAMPLES = 16
NAMED_TENSORS = 3  # that are named of a pair of files; one difference makes others after it


@dataclass(frozen=True)
class Difference:
    """Two files of one model and recipe that are not equal."""

    file: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n    ".join((self.file, *self.reasons))


def case_of(name: str) -> Any:
    """Return the model `name` with its data: a structure, or a case or file of the zoo."""
    tables: tuple[dict[str, Callable[[], Any]], ...] = (STRUCTURES, CASES, FILES)
    (make,) = (table[name] for table in tables if name in table)
    return make()


def write(folder: Path, models: Sequence[str], recipes: Sequence[str]) -> None:
    """Write the file, or the reason why there is none, of each recipe of each model."""
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        case, start = case_of(model), time.perf_counter()
        for recipe in recipes:
            try:
                result = quantize(case.model, recipe, case.calibration[:SAMPLES], progress=False)
            except TfqError as error:
                (folder / f"{model}.{recipe}.refused").write_text(str(error))
            else:
                result.save(folder / f"{model}.{recipe}.tflite")
        print(f"{model}: {len(recipes)} recipes in {time.perf_counter() - start:.1f} s", flush=True)


def compare(before: Path, after: Path, models: Sequence[str] = ()) -> list[Difference]:
    """Return the files that differ, or that one folder alone has; of all models when none is named."""
    names = sorted({path.name for folder in (before, after) for path in folder.iterdir() if path.is_file()})
    differences = []
    for name in names:
        if models and name.split(".")[0] not in models:
            continue
        pair = [folder / name for folder in (before, after)]
        lacking = [str(path.parent) for path in pair if not path.exists()]
        if lacking:
            differences.append(Difference(name, (f"not in {lacking[0]}",)))
        elif pair[0].read_bytes() != pair[1].read_bytes():
            differences.append(Difference(name, tuple(_reasons(*pair))))
    return differences


def _reasons(before: Path, after: Path) -> Iterator[str]:
    if before.suffix != ".tflite":
        yield f"{before.read_text()!r} became {after.read_text()!r}"
        return
    old, new = (flatbuffer.read(path.read_bytes()) for path in (before, after))
    differences = list(_differences(old, new))
    yield from differences[:NAMED_TENSORS] or ["the graphs are equal; their bytes are laid out in another way"]
    if len(differences) > NAMED_TENSORS:
        yield f"and {len(differences) - NAMED_TENSORS} more differences"


def _differences(old: Graph, new: Graph) -> Iterator[str]:
    """Each operator and tensor that differs, in the order of the file."""
    for s, (one, other) in enumerate(zip(old.subgraphs, new.subgraphs, strict=False)):
        codes = [[op.code for op in subgraph.ops] for subgraph in (one, other)]
        if codes[0] != codes[1]:
            pairs = zip(*codes, strict=False)
            at = next((o for o, (code, changed_code) in enumerate(pairs) if code != changed_code), min(map(len, codes)))
            old_code, new_code = (code[at] if at < len(code) else "no operator" for code in codes)
            counts = f"{len(codes[0])} operators became {len(codes[1])}"
            yield f"subgraph {s}, operator {at}: {old_code} became {new_code}; {counts}"
        for o, (op, changed) in enumerate(zip(one.ops, other.ops, strict=False)):
            if op.code == changed.code and repr(op) != repr(changed):  # options may be arrays, which `!=` cannot tell
                yield f"subgraph {s}, operator {o}: {op.code} has other inputs, outputs, options or version"
        for t, (tensor, changed_tensor) in enumerate(zip(one.tensors, other.tensors, strict=False)):
            reason = tensor_difference(tensor, changed_tensor)
            if reason:
                yield f"subgraph {s}, tensor {t} {tensor.name!r}: {reason}"
    if len(old.subgraphs) != len(new.subgraphs):
        yield f"{len(old.subgraphs)} subgraphs became {len(new.subgraphs)}"


def tensor_difference(old: Tensor, new: Tensor) -> str:
    """Return how a tensor changed; "" when it did not."""
    for field in ("name", "dtype", "shape", "dynamic_shape"):
        if getattr(old, field) != getattr(new, field):
            return f"{field} {getattr(old, field)!r} became {getattr(new, field)!r}"
    if (old.quantization is None) != (new.quantization is None):
        return "has quantization parameters in one file alone"
    if old.quantization is not None and new.quantization is not None:
        for field in ("scale", "zero_point"):
            one, other = getattr(old.quantization, field), getattr(new.quantization, field)
            if one.shape != other.shape:
                return f"{one.size} values of {field} became {other.size}"
            if not np.array_equal(one, other):
                most = np.abs(one.astype(np.float64) - other).max()
                return (
                    f"{field} differs at {np.count_nonzero(one != other)} of {one.size} places, by {most:.3g} at most"
                )
    one, other = old.data, new.data
    if (one is None) != (other is None):
        return "is constant in one file alone"
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype.kind in "fiub" and not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            most = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
            return f"values differ at {np.count_nonzero(one != other)} of {one.size} places, by {most:.3g} at most"
    elif one != other:
        return "holds other values"
    return ""


def main() -> int:
    """Run the command. Return its exit code: 1 where compared files differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writer = verbs.add_parser("write", help="write the files with the code that is imported")
    writer.add_argument("folder", type=Path)
    writer.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=tuple(RECIPES))
    comparer = verbs.add_parser("compare", help="compare the files of two folders")
    comparer.add_argument("before", type=Path)
    comparer.add_argument("after", type=Path)
    for verb in (writer, comparer):
        verb.add_argument("--models", nargs="+", help=f"default: {' '.join(MODELS)}")
        verb.add_argument("--quick", action="store_true", help=f"the same as --models {' '.join(QUICK)}")
    requested = parser.parse_args()
    models = requested.models or (QUICK if requested.quick else ())
    if requested.verb == "write":
        write(requested.folder, models or MODELS, requested.recipes)
        return 0
    differences = compare(requested.before, requested.after, models)
    print("\n".join(map(str, differences)) or "all files are equal")
    return 1 if differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
