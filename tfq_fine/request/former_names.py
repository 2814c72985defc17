"""Former names of arguments, accepted for one release with a warning."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that accepts arguments by their former names: former name -> name.

    >>> @renamed(repairs="transforms")
    ... def quantize(transforms="auto"):
    ...     return transforms
    >>> with warnings.catch_warnings(action="ignore"):
    ...     quantize(repairs=None), quantize(transforms=())
    (None, ())
    """

    def accepting(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **named: P.kwargs) -> R:
            for former, name in names.items():
                if former in named:
                    if name in named:
                        raise TypeError(f"{function.__name__}() got both {name!r} and its former name {former!r}")
                    warn_of(former, name)
                    named[name] = named.pop(former)
            return function(*args, **named)

        return call

    return accepting


def warn_of(former: str, name: str) -> None:
    """Warn that a name has become another, at the line that called the caller of this function."""
    warnings.warn(f"{former!r} is now called {name!r}", DeprecationWarning, stacklevel=3)
