"""How many threads the linear algebra of NumPy and SciPy takes.

For matrices of a few hundred rows, several threads of OpenBLAS take longer than one: they wait for one another in
turns, and for the interpreter's threads (the moments of an encoder's layer, 12,800 rows of 256 values: 10 ms by one
thread, 340 by two on two busy cores).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

LARGE = 2048  # rows of a matrix, from which several threads pay


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Limit linear algebra to one thread while matrices have so many rows, unless they are large."""
    if rows >= LARGE:
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield
