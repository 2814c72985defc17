"""tfq_fine and the tools it is compared with, each as a function from float files to a quantized file.

`load` imports the tool's library; what it returns does the work, so that a clock can start in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

import numpy as np

import tfq_fine as tfq
from benchmarks.float_files import Files

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Made:
    """The file that a tool made."""

    content: bytes  # the bytes of the .tflite file
    calibration_s: float | None = None  # None: the tool does not calibrate, or not apart from the rest


Work = Callable[[Files, np.ndarray], Made]  # (float files, calibration samples)


@dataclass(frozen=True)
class Tool:
    """A way to quantize."""

    title: str
    source: Literal["float .tflite", "SavedModel"]
    load: Callable[[], Work]


def _tfq_fine(recipe: str | tfq.Recipe) -> Work:
    from tfq_fine import api
    from tfq_fine.calibration import dataset as representative

    def work(files: Files, samples: np.ndarray) -> Made:
        spent: list[float] = []

        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            gathered = gather(*args, **options)
            spent.append(time.perf_counter() - start)
            return gathered

        gather = representative.gather
        with patch.object(representative, "gather", timed):
            result = api.quantize(files.tflite, recipe, samples)
        return Made(result.content, sum(spent) if spent else None)

    return work


def _litert_quantizer(recipe: str, mode: str, threads: int | None = CORES) -> Work:
    """Return the work of litert-quantizer with a function of its recipe module and a name in its CalibrationMode.

    It takes 16 threads when it is told no number (`threads` None), which is slower where there are fewer cores.
    """
    from litert_quantizer import quantizer
    from litert_quantizer import recipe as recipes
    from litert_quantizer.calibrator import CalibrationMode

    def work(files: Files, samples: np.ndarray) -> Made:
        key, name = files.signature()
        tool = quantizer.Quantizer(str(files.tflite), getattr(recipes, recipe)())
        start = time.perf_counter()
        data = {key: [{name: sample} for sample in _one_by_one(samples)]}
        options = {} if threads is None else {"num_threads": threads}
        statistics = tool.calibrate(data, mode=CalibrationMode[mode], **options)
        spent = time.perf_counter() - start
        result = tool.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
        return Made(bytes(result.quantized_model), spent)

    return work


def _tflite_converter(static: bool) -> Work:
    import tensorflow as tf

    def work(files: Files, samples: np.ndarray) -> Made:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(files.saved_model))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if static:
            converter.representative_dataset = lambda: ([sample] for sample in _one_by_one(samples))
        return Made(converter.convert())

    return work


def _one_by_one(samples: np.ndarray) -> Iterator[np.ndarray]:
    return (samples[index : index + 1] for index in range(len(samples)))


PEERS: dict[str, Tool] = {
    "tflite_converter_int8": Tool("TFLiteConverter 2.21 int8", "SavedModel", partial(_tflite_converter, True)),
    "tflite_converter_dynamic": Tool("TFLiteConverter 2.21 dynamic", "SavedModel", partial(_tflite_converter, False)),
    "litert_quantizer_int8": Tool(
        "litert-quantizer 0.11 int8",
        "float .tflite",
        partial(_litert_quantizer, "static_wi8_ai8", "CALIBRATION_PRESERVE_ALL_TENSORS"),
    ),
    "litert_quantizer_int8_profiler": Tool(
        "litert-quantizer 0.11 int8, profiler calibration",
        "float .tflite",
        partial(_litert_quantizer, "static_wi8_ai8", "CALIBRATION_PROFILER_BASED"),
    ),
    "litert_quantizer_int8_profiler_as_is": Tool(
        "litert-quantizer 0.11 int8, profiler calibration, threads not set",
        "float .tflite",
        partial(_litert_quantizer, "static_wi8_ai8", "CALIBRATION_PROFILER_BASED", None),
    ),
}
OURS: dict[str, Tool] = {
    recipe: Tool(f"tfq_fine {recipe}", "float .tflite", partial(_tfq_fine, recipe)) for recipe in tfq.RECIPES
}
FITTED: dict[str, Tool] = {  # one algorithm for all weights, at 4 bits per channel
    f"tfq_fine_{name}": Tool(
        f"tfq_fine weight_only_int4, {name}",
        "float .tflite",
        partial(_tfq_fine, tfq.RECIPES["weight_only_int4"].with_algorithm(name)),
    )
    for name in ("gptq", "balanced")
}
TOOLS: dict[str, Tool] = OURS | PEERS
