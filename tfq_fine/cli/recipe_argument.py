"""The `--recipe` argument."""

from tfq_converters.errors import TfqError
from tfq_converters.files import read_text
from tfq_fine.request import Recipe, named


def recipe_of(text: str) -> Recipe:
    """Return the recipe of that name, or in that file.

    Raises:
        TfqError: an unknown name, or a file that cannot be read.
    """
    if not text.endswith(".json"):
        return named(text)
    try:
        return Recipe.from_json(read_text(text))
    except TfqError as error:
        raise TfqError(f"recipe {text} cannot be read: {error}") from error
