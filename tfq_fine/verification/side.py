"""One file as a function from real values to real values, whatever types its inputs and outputs have."""

import os
from collections.abc import Sequence

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import NUMPY_TYPES, AnyArray, Float32Array, Graph, IntArray, Quantization, Tensor
from tfq_converters.runtime import Apart, ApartRunner, Kernels, Runner

FLOAT_FILE, QUANTIZED_FILE = "the float model", "the quantized file"  # how errors call them


class Side:
    """One file on one set of kernels, fed with real values.

    Args:
        graph: the graph of the file.
        content: its bytes or path.
        kernels: which implementation of the operators runs.
        threads: the number of threads of the interpreter.
        elsewhere: the process that runs it; this one when None.
        what: how errors of that process call the file.

    State that the file keeps between runs is cleared after each, so that samples do not see one another.
    """

    def __init__(
        self,
        graph: Graph,
        content: bytes | str,
        kernels: Kernels = "default",
        threads: int = 1,
        elsewhere: Apart | None = None,
        what: str = "the file",
    ):
        self.graph = graph
        self.threads = threads
        self.runner: Runner | ApartRunner
        if elsewhere is None:
            self.runner = Runner(content, kernels, threads)
        else:
            self.runner = elsewhere.open(content, kernels, threads, what)
        self._open = lambda: Runner(content, kernels, threads)
        self._variables = any(tensor.is_variable for subgraph in graph.subgraphs for tensor in subgraph.tensors)
        self._resources = _assigns_resources(graph)

    def allow(self, seconds: float) -> None:
        """Let one run in another process take so long."""
        if isinstance(self.runner, ApartRunner):
            self.runner.limit = seconds

    def close(self) -> None:
        """Let another process forget the file."""
        if isinstance(self.runner, ApartRunner):
            self.runner.close()

    def encode(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Return `inputs`, in input order and of the shapes that the file takes, in the types that it takes."""
        tensors = [self.graph.main.tensors[index] for index in self.graph.main.inputs]
        return [encode(array, tensor) for array, tensor in zip(inputs, tensors, strict=True)]

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Return decoded outputs in output order, for `inputs` in input order, each [n, ...]."""
        return self.run_all([inputs])[0]

    def run_all(self, inputs: Sequence[Sequence[AnyArray]]) -> list[list[AnyArray]]:
        """Return the outputs for the inputs of several runs; a process elsewhere is asked once for all."""
        encoded = [self.encode(each) for each in inputs]
        if isinstance(self.runner, ApartRunner) and encoded[0] and not self._resources:
            return [self._decoded(outputs) for outputs in self.runner.run_all(encoded, self._variables)]
        return [self._decoded(self._run(each)) for each in encoded]

    def _run(self, encoded: Sequence[AnyArray]) -> list[AnyArray]:
        outputs = self.runner.run(encoded)
        if self._variables:
            self.runner.reset_variables()
        if self._resources and isinstance(self.runner, ApartRunner):
            self.runner.reopen()
        elif self._resources:
            self.runner = self._open()  # type: ignore[no-untyped-call]
        return outputs

    def _decoded(self, outputs: Sequence[AnyArray]) -> list[AnyArray]:
        tensors = [self.graph.main.tensors[index] for index in self.graph.main.outputs]
        return [decode(array, tensor) for array, tensor in zip(outputs, tensors, strict=True)]


def _assigns_resources(graph: Graph) -> bool:
    """Return whether resource variables are written outside of the subgraphs that initialize them once."""
    initial = {op.option("initSubgraphIndex") for _, op in graph.ops() if op.code == "CALL_ONCE"}
    return any(op.code == "ASSIGN_VARIABLE" and s not in initial for (s, _), op in graph.ops())


def encode(values: AnyArray, tensor: Tensor) -> AnyArray:
    """Return `values` in the type of input `tensor`: rounded to its codes when it holds codes of real values.

    The shape stays what it is.

    Raises:
        TfqError: real values for an integer input without a scale.
    """
    if tensor.dtype == "string":
        return values
    dtype = np.dtype(NUMPY_TYPES[tensor.dtype])
    if values.dtype == dtype:
        return values
    if dtype.kind in "iu" and values.dtype.kind == "f":
        if tensor.quantization is None:
            raise TfqError(f"input {tensor.name!r} is {tensor.dtype} without a scale; it cannot take {values.dtype}")
        scale, zero_point = np.float64(tensor.quantization.scale[0]), tensor.quantization.zero_point[0]
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
    return values.astype(dtype)


def decode(values: AnyArray, tensor: Tensor) -> AnyArray:
    """Return the real values, float32 of any shape, that the content of `tensor` stands for; unchanged if no code."""
    if values.dtype.kind in "iu" and tensor.quantization is not None:
        return dequantize(values, tensor.quantization)
    return values.astype(np.float32) if tensor.dtype == "float16" else values


def dequantize(codes: IntArray, quantization: Quantization) -> Float32Array:
    """Return float32 scale * (code - zero_point); scales per tensor, along one axis, or per block of the last axis.

    The result has the shape of `codes`.

    Args:
        codes: integers, any shape; [rows, ..., inputs] with blockwise scales [rows, blocks].
        quantization: the scales, zero points and their axis.
    """
    scale, zero_point = quantization.scale.astype(np.float64), quantization.zero_point
    if quantization.block_size:
        blocked = codes.reshape(*scale.shape, -1).astype(np.float64)
        zero = zero_point.reshape(*scale.shape, 1) if zero_point.size == scale.size else zero_point.reshape(-1)[:1]
        return np.asarray(((blocked - zero) * scale[..., None]).reshape(codes.shape).astype(np.float32))
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[quantization.axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return np.asarray((scale * (codes.astype(np.float64) - zero_point)).astype(np.float32))


def file_size(content: bytes | str) -> int:
    """Return the bytes of a file, given by content or path."""
    return os.stat(content).st_size if isinstance(content, str) else len(content)
