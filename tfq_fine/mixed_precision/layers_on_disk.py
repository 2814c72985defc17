"""Figures of layers and files on disk, by content: a search with another budget starts from them.

The name of an entry is a digest of all that it follows from: the float model, the samples and their statistics, the
plan, the source text of this package, and the versions of the libraries that it computes with.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.quantized import OpKey, WeightCodes
from tfq_fine.calibration import Statistics
from tfq_fine.mixed_precision.units import Unit
from tfq_fine.planning import Plan
from tfq_fine.request import WeightedSpec
from tfq_fine.variants import SplitSamples
from tfq_fine.weights import CodesOnDisk, add_content, algorithm_source, arrays_of_codes, codes_of_arrays

LIBRARIES = ("numpy", "scipy", "ai-edge-litert")


@dataclass(frozen=True)
class KeptLayer:
    """One candidate of one layer: what it does to the outputs, and its codes."""

    loss: float
    codes: Mapping[tuple[OpKey, int], WeightCodes]


class LayersOnDisk:
    """The entries of one model on its samples.

    Args:
        on_disk: the folder; None where nothing is kept.
        graph: the float graph.
        samples: those that weights are fitted to, and those that layers are measured on.
        statistics: those of all samples.
    """

    def __init__(
        self, on_disk: CodesOnDisk | None, graph: Graph, samples: SplitSamples, statistics: Statistics
    ) -> None:
        self._on_disk = on_disk
        digest = hashlib.blake2b(digest_size=20)
        if on_disk is not None:
            content = np.frombuffer(flatbuffer.write(graph), np.uint8)
            add_content(digest, (sources(), content, samples.judged, samples.fitted, statistics))
        self._common = digest.hexdigest()

    def name(self, *parts: object) -> str:
        """Return the name of an entry that follows from `parts` and from what all entries of the model follow from."""
        digest = hashlib.blake2b(digest_size=20)
        add_content(digest, (self._common, *parts))
        return digest.hexdigest()

    def layer(self, name: str) -> KeptLayer | None:
        """Return the entry of one candidate of one layer; None where there is none."""

        def read(content: Mapping[str, AnyArray]) -> KeptLayer:
            places = [(int(o), int(slot)) for o, slot in content["places"]]
            codes = {((0, o), slot): codes_of_arrays(content, f"{o}.{slot}.") for o, slot in places}
            return KeptLayer(float(content["loss"]), codes)

        return None if self._on_disk is None else self._on_disk.find(name, read)

    def keep_layer(self, name: str, layer: KeptLayer) -> None:
        """Write the entry of one candidate of one layer."""
        if self._on_disk is None:
            return
        arrays: dict[str, Any] = {"loss": layer.loss}
        arrays["places"] = np.array([(key[1], slot) for key, slot in layer.codes], np.int64).reshape(-1, 2)
        for (key, slot), codes in layer.codes.items():
            arrays |= arrays_of_codes(codes, f"{key[1]}.{slot}.")
        self._on_disk.keep(name, arrays)

    def numbers(self, name: str) -> list[float] | None:
        """Return an entry of plain numbers; None where there is none."""
        if self._on_disk is None:
            return None
        return self._on_disk.find(name, lambda content: [float(x) for x in content["numbers"]])

    def keep_numbers(self, name: str, numbers: Sequence[float]) -> None:
        """Write an entry of plain numbers."""
        if self._on_disk is not None:
            self._on_disk.keep(name, {"numbers": np.array(numbers, np.float64)})


def plan_text(plan: Plan) -> str:
    """Return a text that is another one for every other plan, and for other algorithms of the user's."""
    specs = {decision.spec.weights for decision in plan.values() if isinstance(decision.spec, WeightedSpec)}
    own = sorted(f"{spec!r} {algorithm_source(spec)}" for spec in specs)
    said = sorted((key, repr(decision.spec), decision.form, decision.repeated) for key, decision in plan.items())
    return repr((said, own))


def unit_place(unit: Unit) -> str:
    """Return a text that tells a layer from the others of its model."""
    return repr(unit.keys)


def machine() -> str:
    """Return a text that tells this machine from others, for times."""
    return repr((platform.node(), platform.machine(), platform.processor()))


@cache
def sources() -> str:
    """Return a digest of the source text of this package and of the versions of the libraries that it computes with."""
    digest = hashlib.blake2b(" ".join(map(version, LIBRARIES)).encode(), digest_size=20)
    for package in ("tfq_fine", "tfq_converters"):
        for folder in getattr(find_spec(package), "submodule_search_locations", None) or ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(path.read_bytes())
    return digest.hexdigest()
