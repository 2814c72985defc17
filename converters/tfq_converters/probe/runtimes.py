"""The runtimes that are probed, each through the same few calls. Only the child process opens one."""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from tfq_converters.graph import AnyArray
from tfq_converters.kernels import VARIANTS
from tfq_converters.runtime import Kernels, Runner

ARENA = 1 << 23  # bytes that TFLite Micro may use; the largest cell in float takes less
SECONDS = 60  # after which a file counts as one that takes the process down


def installed() -> dict[str, str]:
    """Return distribution -> version, for the runtimes that are installed."""
    versions = {}
    for name in dict.fromkeys(variant.distribution for variant in VARIANTS.values()):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


class Opened(Protocol):
    """A file that a runtime has taken."""

    def feed(self, inputs: Sequence[AnyArray]) -> None:
        """Set the inputs, and all state to zero."""

    def invoke(self) -> object:
        """Run the interpreter on the inputs that are set."""

    def output(self) -> AnyArray:
        """Return a copy of the first output."""

    def delegated(self, tensor: int) -> bool:
        """Return whether a delegate writes `tensor`."""


class _Lite:
    """`tf.lite` and LiteRT, whose interpreters are alike."""

    def __init__(self, interpreter: Any):
        self._interpreter = interpreter
        interpreter.allocate_tensors()
        self._inputs = [detail["index"] for detail in interpreter.get_input_details()]
        self._output = interpreter.get_output_details()[0]["index"]
        self.invoke = interpreter.invoke

    def feed(self, inputs: Sequence[AnyArray]) -> None:
        self._interpreter.reset_all_variables()
        for index, array in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, array)

    def output(self) -> AnyArray:
        output: AnyArray = self._interpreter.get_tensor(self._output)
        return output

    def delegated(self, tensor: int) -> bool:
        details = self._interpreter._get_ops_details()
        return any(row["op_name"] == "DELEGATE" and tensor in row["outputs"] for row in details)


class _Micro:
    """TFLite Micro."""

    def __init__(self, interpreter: Any):
        self._interpreter = interpreter
        self._fed: Sequence[AnyArray] = ()

    def feed(self, inputs: Sequence[AnyArray]) -> None:
        self._interpreter.reset()
        self._fed = inputs

    def invoke(self) -> None:
        for index, array in enumerate(self._fed):  # what is computed may take the place of the inputs
            self._interpreter.set_input(array, index)
        self._interpreter.invoke()

    def output(self) -> AnyArray:
        output: AnyArray = self._interpreter.get_output(0)
        return output

    def delegated(self, tensor: int) -> bool:
        return False


Open = Callable[[bytes, Kernels], Opened]


def _litert() -> Open:
    return lambda content, kernels: _Lite(Runner(content, kernels)._interpreter)


def _tflite() -> Open:
    import tensorflow as tf

    kinds = tf.lite.experimental.OpResolverType
    resolvers = {
        "default": kinds.BUILTIN,
        "optimized": kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": kinds.BUILTIN_REF,
    }

    def opened(content: bytes, kernels: Kernels) -> Opened:
        options = {"num_threads": 1, "experimental_op_resolver_type": resolvers[kernels]}
        return _Lite(tf.lite.Interpreter(model_content=content, **options))

    return opened


def _micro() -> Open:
    from tflite_micro import runtime

    return lambda content, kernels: _Micro(runtime.Interpreter.from_bytes(content, arena_size=ARENA))


OPENERS: Mapping[str, Callable[[], Open]] = {  # by distribution
    "ai-edge-litert": _litert,
    "tensorflow": _tflite,
    "tflite-micro": _micro,
}


def opener(variant: str) -> Callable[[bytes], Opened]:
    """Load the runtime of `variant`; the result opens files on it, or raises RuntimeError or ValueError.

    Raises:
        ImportError: the runtime is not there, or broken.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    row = VARIANTS[variant]
    opened = OPENERS[row.distribution]()
    return lambda content: opened(content, row.kernels)
