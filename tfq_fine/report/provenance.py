"""The origin of a report: the model, the samples, the command, the day, and the versions of what was run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from tfq_fine.report.sections import Grid

PACKAGES = ("tfq_fine", "ai-edge-litert", "tensorflow", "keras", "numpy")


@dataclass(frozen=True)
class Provenance:
    """All that a reader needs to make the same report again.

    Attributes:
        model: the path of the float model, or its name and type.
        data: where the samples came from.
        made: the time in UTC, such as 2026-11-30T18:40:00+00:00; that of SOURCE_DATE_EPOCH where it is set.
        versions: package -> version, of those that are installed.
        command: the command line, "" for a call from Python.
        file: the path of the quantized file, "" where it was no file.
    """

    model: str
    data: str
    made: str
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    file: str = ""

    @staticmethod
    def of(model: object, data: object, file: object = "") -> "Provenance":
        """Describe a model and data as the caller gave them; `file` counts where it is a path."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
        now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
        path = os.fspath(file) if isinstance(file, str | os.PathLike) else ""
        return Provenance(described(model), described(data), now.isoformat(timespec="seconds"), _versions(), file=path)

    def by_command(self, command: str) -> "Provenance":
        """Return this with the command line that it came from."""
        return replace(self, command=command)

    def grid(self) -> Grid:
        """Return a table of two columns."""
        rows = [
            ("model", self.model),
            ("file", self.file),
            ("samples", self.data),
            ("command", self.command),
            ("made", self.made),
            ("versions", ", ".join(f"{name} {number}" for name, number in self.versions.items())),
        ]
        return Grid("Where this report comes from", ("", ""), [row for row in rows if row[1]])


def titled(title: str, provenance: Provenance | None) -> str:
    """Return a title with the name of the model after it, where it is known.

    >>> titled("Verification", Provenance("models/birds.keras", "photos", ""))
    'Verification of birds.keras'
    """
    return title if provenance is None else f"{title} of {os.path.basename(provenance.model.rstrip('/'))}"


def described(value: object) -> str:
    """Return what a model or data is in a few words: its path, its shape, or its name and type.

    >>> described("photos.npz"), described({"a": 1, "b": 2}), described(None)
    ('photos.npz', "dict of 'a', 'b'", 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    kind, shape, name = type(value).__name__, getattr(value, "shape", None), getattr(value, "name", None)
    if isinstance(value, Mapping):
        return f"{kind} of {', '.join(map(repr, value))}"
    if isinstance(shape, tuple):
        return f"{kind} of shape {shape}"
    return f"{name} ({kind})" if isinstance(name, str) else kind


@cache
def _versions() -> Mapping[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
