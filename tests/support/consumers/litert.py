"""LiteRT, which the others are compared with."""

import numpy as np

from tfq_converters.quantized import ActivationEncoding
from tfq_converters.runtime.runner import Kernels, Runner
from tfq_fine.api import Result


def encoded(result: Result, data: np.ndarray) -> list[np.ndarray]:
    """The samples of `data` as the file takes them, each of its own."""
    tensor = result.graph.main.tensors[result.graph.main.inputs[0]]
    if tensor.quantization is None:
        return [sample[None] for sample in data]
    scale, zero_point = tensor.quantization.scale.item(), tensor.quantization.zero_point.item()
    encoding = ActivationEncoding(tensor.dtype, scale, zero_point)
    return [encoding.encode(sample[None]) for sample in data]


def outputs(content: bytes, inputs: list[np.ndarray], kernels: Kernels = "reference") -> np.ndarray:
    """The first output for each input, as float64, [samples, ...]: codes stay codes."""
    runner = Runner(content, kernels)
    return np.concatenate([runner.run([one])[0] for one in inputs]).astype(np.float64)
