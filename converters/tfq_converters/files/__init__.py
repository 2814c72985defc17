"""Files on disk: paths that are written whole or not at all, temporary folders, arrays for another process."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.files.array_file import ArrayFile, ArrayWriter
    from tfq_converters.files.pages import forget_file
    from tfq_converters.files.temporary import temporary_folder
    from tfq_converters.files.writing import Place, write_file
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "array_file": "ArrayFile ArrayWriter",
            "pages": "forget_file",
            "temporary": "temporary_folder",
            "writing": "Place write_file",
        },
    )

__all__ = ["ArrayFile", "ArrayWriter", "Place", "forget_file", "temporary_folder", "write_file"]
