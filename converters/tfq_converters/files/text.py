"""Text files of users."""

from pathlib import Path

from tfq_converters.errors import TfqError

MOST_BYTES = 2**28  # no recipe or report is larger


def read_text(path: str) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        TfqError: the file cannot be read, holds no text, or more than 256 MiB.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise TfqError(f"{path}: expected a text file of at most {MOST_BYTES:,} bytes")
        return content.decode()
    except OSError as error:
        raise TfqError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TfqError(f"{path} is no text: {error.reason} at byte {error.start}") from error
