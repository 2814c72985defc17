"""Graphs written to files."""

from collections.abc import Iterator
from contextlib import contextmanager

from tfq_converters.files import Place, temporary_folder, write_file
from tfq_converters.flatbuffer.reading import forget_pages
from tfq_converters.flatbuffer.writing import pieces
from tfq_converters.graph import Graph


def save(graph: Graph, place: Place, constants_last: bool = False) -> None:
    """Write the file as `files.write_file` does; `constants_last` as in `pieces`.

    Raises:
        TfqError: the place cannot be written.
    """
    write_file(place, pieces(graph, constants_last))


@contextmanager
def scratch(graph: Graph) -> Iterator[str]:
    """Write `graph` to a temporary file for an interpreter to map, and yield its path."""
    with temporary_folder() as folder:
        path = folder / "scratch.tflite"
        save(graph, path, constants_last=True)
        forget_pages()
        yield str(path)
