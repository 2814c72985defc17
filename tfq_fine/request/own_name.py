"""The name of an algorithm or transform that a user gives as an object."""

from typing import Any

from tfq_converters.errors import TfqError


class OwnName(str):
    """A name that stands for an object, wherever names are used; two of them are equal if their objects are one.

    Attributes:
        given: a function, or a row.
    """

    __slots__ = ("given",)
    given: Any

    def __new__(cls, given: Any) -> "OwnName":
        """Name an object as its function is called."""
        function = getattr(given, "solve", None) or getattr(given, "propose", None) or given
        name = str.__new__(cls, getattr(function, "__name__", type(given).__name__))
        name.given = given
        return name

    def __getnewargs__(self) -> tuple[Any]:
        return (self.given,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnName) and self.given is other.given

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), id(self.given)))

    @property
    def unsaved(self) -> str:
        """Why JSON cannot hold it."""
        return (
            f"{str(self)!r} is given as an object, which JSON cannot hold: save a recipe that names a row of a table, "
            "and pass the object to each call"
        )


def as_name(given: Any, what: str) -> str:
    """Return a name unchanged, and an object as an `OwnName`.

    Args:
        given: a name, a function, or a row with a function `solve` or `propose`.
        what: what it is, for the error.

    Raises:
        TfqError: it is neither.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, type) or not (callable(given) or hasattr(given, "solve") or hasattr(given, "propose")):
        raise TfqError(f"{what}={given!r}: expected a name, a function or a row of its table")
    return OwnName(given)
