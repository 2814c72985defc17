"""The file format: bytes or a path -> Graph -> bytes. The only folder that touches the schema.

Constants are views into the file (memory-mapped for paths), so reading holds no copy. Files beyond 2 GB, which a
flatbuffer cannot address, keep their constants after it, each found by the `offset` and `size` of its buffer.
"""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.flatbuffer.names import IDENTIFIER
    from tfq_converters.flatbuffer.reading import forget_pages, read
    from tfq_converters.flatbuffer.saving import save, scratch
    from tfq_converters.flatbuffer.writing import pieces, with_outputs, write
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "names": "IDENTIFIER",
            "reading": "forget_pages read",
            "saving": "save scratch",
            "writing": "pieces with_outputs write",
        },
    )

__all__ = ["IDENTIFIER", "forget_pages", "pieces", "read", "save", "scratch", "with_outputs", "write"]
