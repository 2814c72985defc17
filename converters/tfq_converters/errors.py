"""The error type, the habit of reporting every problem at once, and what to install where a package is missing."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

# Extra -> what needs it, and the packages that come with it, by the names that they are imported by.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "keras": ("Keras models, SavedModels, layers, images and learned roundings need", ("keras", "tensorflow", "h5py")),
    "keras2": ("models of Keras 2 need", ("tf_keras",)),
    "tfmot": ("tfq_fine.tfmot needs", ("tensorflow_model_optimization",)),
    "report": ("HTML reports need", ("jinja2", "markupsafe", "matplotlib")),
    "metrics": ("metrics of scikit-learn need", ("sklearn",)),
    "distributed": ("calibration on a Dask cluster needs", ("dask", "distributed")),
}


# Characters that a terminal obeys instead of showing them: control characters of both sets but tabs and ends of lines,
# and those that turn the direction of text.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return a text whose control characters are written as escapes: names in strangers' files may hold any.

    >>> print(printable("dense\x1b]0;title\x07\n\x9b2J"))
    dense\x1b]0;title\x07
    \x9b2J
    """
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class TfqError(ValueError):
    """Something that the caller can mend: bad input, an impossible request, a file that must not be handed over.

    The message names the layer or tensor, says what was found, and what would work. It can be printed to a terminal.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def raise_all(problems: Iterable[str], heading: str = "") -> None:
    """Raise one `TfqError` that lists all `problems`; do nothing when there are none.

    Args:
        problems: one sentence each, already naming the layer or tensor.
        heading: a first line, used when there are several problems.

    Raises:
        TfqError: when `problems` is not empty.
    """
    listed = list(problems)
    if not listed:
        return
    if len(listed) == 1 and not heading:
        raise TfqError(listed[0])
    lines = [heading or f"{len(listed)} problems:"] + [f"  - {problem}" for problem in listed]
    raise TfqError("\n".join(lines))


@contextmanager
def extras_named(extra: str | None = None) -> Iterator[None]:
    """Turn "No module named ..." into a sentence that says which extra of tfq_fine brings the package.

    A context manager, and a decorator of functions. Errors about packages that no extra brings are left alone.

    Args:
        extra: the extra to name, whichever package is missing; None: the first one in `EXTRAS` that brings it.

    Raises:
        TfqError: a package of an extra is not installed.

    >>> with extras_named():  # doctest: +ELLIPSIS
    ...     raise ModuleNotFoundError("No module named 'keras'", name="keras")
    Traceback (most recent call last):
    tfq_converters.errors.TfqError: ... need keras, which is not installed: pip install "tfq-fine[keras]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        name = extra or next((name for name, (_, packages) in EXTRAS.items() if package in packages), None)
        if name is None:
            raise
        raise TfqError(
            f'{EXTRAS[name][0]} {package}, which is not installed: pip install "tfq-fine[{name}]"'
        ) from error


@extras_named()
def require(package: str) -> None:
    """Check that a package of an extra is installed, before work that will need it.

    Raises:
        TfqError: it is not.
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
