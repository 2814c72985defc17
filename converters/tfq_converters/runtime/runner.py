"""All interpreters through one class. No other module imports one.

`Runner` holds one file on one set of kernels. Invocation releases the GIL, so several runners may work in threads.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfq_converters.errors import TfqError
from tfq_converters.files import forget_file
from tfq_converters.graph import AnyArray

Kernels = Literal["default", "optimized", "reference"]
RESOLVERS: dict[str, Any] = {
    "default": OpResolverType.BUILTIN,  # with the XNNPACK delegate, as on a phone
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


class Runner:
    """One file, ready to run.

    Args:
        model: the bytes of the file, or its path.
        kernels: which implementation of the operators runs.
        threads: intra-operator threads.
        keep_tensors: keep every intermediate tensor readable with `tensor` (slower; not with delegated kernels fused).

    Raises:
        TfqError: the runtime refuses the file.
    """

    def __init__(
        self,
        model: bytes | str,
        kernels: Kernels = "default",
        threads: int = 1,
        keep_tensors: bool = False,
    ):
        self.kernels = kernels
        self._path = model if isinstance(model, str) else None
        source: dict[str, Any] = {"model_path": model} if isinstance(model, str) else {"model_content": model}
        try:
            self._interpreter = Interpreter(
                **source,
                num_threads=threads,
                experimental_op_resolver_type=RESOLVERS[kernels],
                experimental_preserve_all_tensors=keep_tensors,
            )
            self._inputs = self._interpreter.get_input_details()
            self._outputs = self._interpreter.get_output_details()
            self._shapes: list[tuple[int, ...]] | None = None
        except (RuntimeError, ValueError) as error:
            raise TfqError(f"the runtime refuses the file on its {kernels} kernels: {error}") from error

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Feed `inputs` in input order, invoke, return copies of the outputs in output order.

        Inputs may have any shapes that the file can take; outputs have those that the run gave them.
        """
        self.invoke(inputs)
        return self.outputs()

    def invoke(self, inputs: Sequence[AnyArray]) -> None:
        """Feed `inputs` in input order and invoke; resizes the inputs when their shapes changed."""
        self.feed(inputs)
        self.invoke_fed()

    def feed(self, inputs: Sequence[AnyArray]) -> None:
        """Copy `inputs`, in input order and of any shapes that the file can take, into the interpreter."""
        shapes = [tuple(array.shape) for array in inputs]
        with self._named_errors():
            if shapes != self._shapes:
                self._allocate(shapes)
            for detail, array in zip(self._inputs, inputs, strict=True):
                self._interpreter.set_tensor(detail["index"], array)

    def invoke_fed(self) -> None:
        """Run on what was fed."""
        with self._named_errors():
            self._interpreter.invoke()

    def outputs(self) -> list[AnyArray]:
        """Return copies of the outputs of the last run, in output order, each of the shape that the run gave it."""
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._outputs]

    def output_view(self, index: int) -> AnyArray:
        """Return an output of the last run where the interpreter has it, which refuses to run as long as it is held."""
        result: AnyArray = self._interpreter.tensor(self._outputs[index]["index"])()
        return result

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise TfqError(f"the runtime fails on its {self.kernels} kernels: {error}") from error

    def _allocate(self, shapes: list[tuple[int, ...]]) -> None:
        for detail, shape in zip(self._inputs, shapes, strict=True):
            if shape != tuple(detail["shape"]) or self._shapes is not None:
                self._interpreter.resize_tensor_input(detail["index"], shape)
        self._interpreter.allocate_tensors()
        if self._path is not None and self.kernels == "default":
            forget_file(self._path)  # the delegate has packed the weights for itself
        self._shapes = shapes

    def run_signature(self, key: str, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Run one signature of the file on its arguments by name.

        Raises:
            TfqError: the runtime fails.
        """
        try:
            return dict(self._interpreter.get_signature_runner(key)(**inputs))
        except (RuntimeError, ValueError) as error:
            raise TfqError(f"the runtime fails on its {self.kernels} kernels, in {key!r}: {error}") from error

    def tensor(self, index: int, subgraph: int = 0) -> AnyArray:
        """Return a copy of tensor `index` after a run; needs `keep_tensors` unless it is an output."""
        result: AnyArray = self._interpreter.get_tensor(index, subgraph)
        return result

    def reset_variables(self) -> None:
        """Set the variables of the file (state of stateful operators) to zero, where they begin."""
        if self._shapes is not None:  # before the first run they have no memory yet
            self._interpreter.reset_all_variables()
