"""Files are written beside their path and renamed, so that no half-written file is ever seen."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.reading import forget_pages
from tfq_converters.flatbuffer.writing import pieces
from tfq_converters.graph import Graph


def save(graph: Graph, path: str | os.PathLike, behind: bool = False) -> None:
    """Write the file beside `path` and rename it, so that no half-written file is ever seen; `behind` as in `pieces`.

    Raises:
        TfqError: the path cannot be written.
    """
    save_pieces(pieces(graph, behind), path)


@contextmanager
def scratch(graph: Graph) -> Iterator[str]:
    """The path of a temporary file of `graph`, for an interpreter to map."""
    with tempfile.TemporaryDirectory(prefix="tfq_fine_") as folder:
        path = Path(folder) / "scratch.tflite"
        save_pieces(pieces(graph, behind=True), path)
        forget_pages()
        yield str(path)


def save_pieces(content: Iterator[bytes | memoryview], path: str | os.PathLike) -> None:
    """Write `content` beside `path`, then rename it."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            with beside.open("wb") as file:
                for piece in content:
                    file.write(piece)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise TfqError(f"{target} cannot be written: {error.strerror}") from error
