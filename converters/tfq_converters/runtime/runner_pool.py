"""Many samples through several interpreters of one file at once, results in the order of the samples."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tfq_converters.graph import AnyArray
from tfq_converters.runtime.runner import Runner


class RunnerPool:
    """`workers` interpreters, one thread each; an interpreter holds no more than the one sample that it runs."""

    def __init__(self, make: Callable[[], Runner], workers: int):
        self._runners = [make() for _ in range(workers)]

    def run_all(self, inputs: Iterable[Sequence[AnyArray]]) -> Iterator[list[AnyArray]]:
        """Yield the outputs for each of `inputs`, in their order; each begins without a state.

        `inputs` is read one element ahead per worker; an element is copied into its interpreter as soon as it is read,
        so that the caller may use its arrays again.
        """
        if len(self._runners) == 1:
            for arrays in inputs:
                self._runners[0].reset_variables()
                yield self._runners[0].run(arrays)
            return
        with ThreadPoolExecutor(len(self._runners)) as executor:
            running: deque[tuple[Runner, Future[None]]] = deque()
            free = deque(self._runners)
            for arrays in inputs:
                if not free:
                    yield _finished(running, free)
                runner = free.popleft()
                runner.reset_variables()
                runner.feed(arrays)
                running.append((runner, executor.submit(runner.invoke_fed)))
            while running:
                yield _finished(running, free)


def _finished(running: "deque[tuple[Runner, Future[None]]]", free: "deque[Runner]") -> list[AnyArray]:
    """Return the outputs of the longest running interpreter, which is free then."""
    runner, future = running.popleft()
    future.result()
    free.append(runner)
    return runner.outputs()
