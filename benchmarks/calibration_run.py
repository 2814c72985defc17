"""Calibrations to be timed, and one in a process of its own: `python -m benchmarks.calibration_run TFLITE OBSERVER N`.

The process prints the peak of its resident memory. Its samples are random, and made one by one, so they take no memory.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import tfq_fine as tfq
from benchmarks import child
from tfq_converters import flatbuffer
from tfq_converters.kernels import Target
from tfq_converters.runtime import Runner
from tfq_fine.activations.observed_ranges import chosen, observer_needs
from tfq_fine.activations.search_ranges import AUTO, best_ranges, counted, looked_at
from tfq_fine.calibration import ReadingOptions, algorithm_needs, gather, range_needs
from tfq_fine.planning import Policy, make_plan
from tfq_fine.request.presets import named

THREADS = os.cpu_count() or 1


def inference_s(tflite: Path, samples: np.ndarray) -> float:
    """Seconds to open the file and to run all samples one by one."""
    start = time.perf_counter()
    runner = Runner(str(tflite), threads=THREADS)
    for index in range(len(samples)):
        runner.run([samples[index : index + 1]])
    return time.perf_counter() - start


def calibration_s(tflite: Path, samples: np.ndarray, observer: str, also: tuple[str, ...] = ()) -> float:
    """Seconds from the file to the ranges of all tensors that an observer chooses."""
    start = time.perf_counter()
    graph = flatbuffer.read(str(tflite))
    recipe = named("full_int8").with_observer(observer)
    plan = make_plan(graph, recipe.resolve(graph), Policy("speed", False, Target()))
    needs = range_needs(graph).also(observer_needs(graph, plan)).also(algorithm_needs(graph, also))
    gathered = gather(graph, samples, needs, ReadingOptions(threads=THREADS))
    assert gathered.statistics is not None
    ranges = chosen(graph, plan, gathered.statistics)
    if observer == AUTO:
        few = looked_at(graph, gathered.samples)
        histograms, _ = counted(graph, plan, few, THREADS)
        best_ranges(graph, plan, gathered.statistics, ranges, few, histograms, THREADS)
    return time.perf_counter() - start


def sharded_s(tflite: Path, samples: np.ndarray, processes: int) -> float:
    """Seconds of a calibration in as many shards as processes, one thread each; the processes run already."""
    shards = np.array_split(samples, processes)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(_ready, range(processes)))
        start = time.perf_counter()
        tfq.calibrate(str(tflite), shards, executor=pool, progress=False)
        return time.perf_counter() - start


def _ready(number: int) -> int:
    """Return `number` from a process that has loaded the library."""
    time.sleep(0.5)  # so that every process of the pool gets one
    return number


def peak_bytes(tflite: Path, observer: str, samples: int) -> int:
    """Peak resident memory of a process that calibrates on so many samples."""
    command = child.command("calibration_run", tflite, observer, samples)
    done = subprocess.run(command, env=child.environment(), capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def _random(tflite: Path, count: int) -> Iterator[np.ndarray]:
    main = flatbuffer.read(str(tflite)).main
    (tensor,) = (main.tensors[t] for t in main.inputs)
    rng = np.random.default_rng(0)
    for _ in range(count):
        if tensor.dtype == "float32":
            yield rng.normal(size=tensor.shape).astype(np.float32)
        else:
            yield rng.integers(0, 100, tensor.shape).astype(tensor.dtype)


if __name__ == "__main__":
    path, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    tfq.calibrate(str(path), _random(path, number), observer=name, progress=False)
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
