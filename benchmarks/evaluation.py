"""The accuracy of a file on labelled samples, and the distance of its outputs from those of the float file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import Graph
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.verification.side import Side
from tfq_fine.verification.task_metrics import top1

BATCH, THREADS = 20, 2


@dataclass(frozen=True)
class Evaluation:
    """One file against the float file on the same samples."""

    samples: int
    float_top1: float
    top1: float
    sqnr_db: float  # over all outputs and samples
    bytes: int
    others: int = 0  # samples whose class is another one than the float file's


def outputs(path: Path, samples: np.ndarray) -> np.ndarray:
    """Return the first output (n, *output) as real values, on the default kernels, in batches where possible."""
    graph = flatbuffer.read(str(path))
    side = Side(graph, str(path), threads=THREADS)
    step = BATCH if graph.main.tensors[graph.main.inputs[0]].dynamic_shape[0] == -1 else 1
    starts = range(0, len(samples), step)
    return np.concatenate([side.run([np.ascontiguousarray(samples[i : i + step])])[0] for i in starts])


def evaluate(path: Path, samples: np.ndarray, labels: np.ndarray, expected: np.ndarray) -> Evaluation:
    """Run the file on samples (n, *input) whose outputs in float are `expected`."""
    values = outputs(path, samples)
    right = top1(expected, labels), top1(values, labels)
    others = int(np.sum(expected.argmax(-1) != values.argmax(-1)))
    return Evaluation(len(samples), *right, ErrorSums.of(expected, values).sqnr_db, path.stat().st_size, others)


def has_int16_activations(graph: Graph) -> bool:
    """Return whether operators compute on int16, which the kernels for CPUs do slowly."""
    return any(tensor.dtype == "int16" and not tensor.is_constant for tensor in graph.main.tensors)
