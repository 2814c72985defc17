"""Files on disk: paths that are written whole or not at all, temporary folders, arrays for another process, JSON."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.files.array_file import ArrayFile, ArrayWriter
    from tfq_converters.files.codec import AS_OBJECT, from_plain, parsed, to_plain
    from tfq_converters.files.pages import forget_file
    from tfq_converters.files.temporary import temporary_folder
    from tfq_converters.files.text import read_text
    from tfq_converters.files.writing import Place, write_file
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "array_file": "ArrayFile ArrayWriter",
            "codec": "AS_OBJECT from_plain parsed to_plain",
            "pages": "forget_file",
            "temporary": "temporary_folder",
            "text": "read_text",
            "writing": "Place write_file",
        },
    )

__all__ = [
    "AS_OBJECT",
    "ArrayFile",
    "ArrayWriter",
    "Place",
    "forget_file",
    "from_plain",
    "parsed",
    "read_text",
    "temporary_folder",
    "to_plain",
    "write_file",
]
