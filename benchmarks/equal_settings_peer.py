"""litert-quantizer with each of its algorithms, at the settings of `benchmarks.equal_settings`.

Algorithms that it has for FULLY_CONNECTED alone stand next to OCTAV, or min/max at 8 bits, for all other operators.
Where activations are static, each algorithm is tried with its default calibration, a moving average, and with the
least and the largest value seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.float_files import Files
from benchmarks.tools import CORES, Made, Tool, Work

EVERYWHERE = {"min_max": "MIN_MAX_UNIFORM_QUANT", "octav": "OCTAV", "mse": "MSE"}
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "EMBEDDING_LOOKUP")  # and FULLY_CONNECTED
DENSE_ALONE = {
    "gptq": "GPTQ",
    "oscar": "OSCAR",
}  # its files with Hadamard rotations are larger, and kernels refuse them
CALIBRATIONS = ("moving", "extremes")


@dataclass(frozen=True)
class PeerSetting:
    """How it quantizes FULLY_CONNECTED, and all other operators; each as (mode, bits, granularity)."""

    dense: tuple[str, int, str]
    others: tuple[str, int, str] | None  # None: float

    @property
    def is_static(self) -> bool:
        """Whether activations are quantized by ranges."""
        return self.dense[0] == "static"


PEER_SETTINGS: dict[str, PeerSetting] = {
    "int8": PeerSetting(("static", 8, "CHANNELWISE"), ("static", 8, "CHANNELWISE")),
    "w4": PeerSetting(("weight_only", 4, "CHANNELWISE"), ("weight_only", 4, "CHANNELWISE")),
    "w4_block32": PeerSetting(("dynamic", 4, "BLOCKWISE_32"), ("weight_only", 4, "CHANNELWISE")),
    "w4a8": PeerSetting(("static", 4, "CHANNELWISE"), ("static", 4, "CHANNELWISE")),
    "w2_dense": PeerSetting(("dynamic", 2, "CHANNELWISE"), None),
}


def peer_tools(setting: str) -> dict[str, str]:
    """Return {algorithm: tool} of litert-quantizer at a setting; the algorithm ends with the calibration if it has one.

    >>> peer_tools("w4")["gptq"], list(peer_tools("int8"))[:2]
    ('litert-w4-gptq', ['min_max, moving', 'min_max, extremes'])
    """
    algorithms = (*EVERYWHERE, *DENSE_ALONE)
    if not PEER_SETTINGS[setting].is_static:
        return {algorithm: f"litert-{setting}-{algorithm}" for algorithm in algorithms}
    return {f"{a}, {c}": f"litert-{setting}-{a}-{c}" for a in algorithms for c in CALIBRATIONS}


def _load(setting: PeerSetting, algorithm: str, calibration: str | None, threads: int = CORES) -> Work:
    from litert_quantizer import qtyping, quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.recipe_manager import RecipeManager

    manager, every = RecipeManager(), qtyping.TFLOperationName.ALL_SUPPORTED

    def add(operator: Any, how: tuple[str, int, str], name: str) -> None:
        mode, bits, granularity = how
        fineness, key = qtyping.QuantGranularity[granularity], AlgorithmName[name]
        if mode == "static":
            manager.add_static_config(".*", operator, 8, bits, fineness, key)
        else:
            getattr(manager, f"add_{mode}_config")(".*", operator, bits, fineness, key)

    if setting.others is not None:
        plain = "min_max" if setting.others[1] == 8 else "octav"
        own = EVERYWHERE[algorithm if algorithm in EVERYWHERE else plain]
        add(every, setting.others, EVERYWHERE["min_max"])  # which alone has a rule for every operator
        for code in WEIGHTED:
            with suppress(ValueError):  # no such weights in such an operator
                add(qtyping.TFLOperationName[code], setting.others, own)
    add(qtyping.TFLOperationName.FULLY_CONNECTED, setting.dense, (EVERYWHERE | DENSE_ALONE)[algorithm])

    def work(files: Files, samples: np.ndarray) -> Made:
        tool = quantizer.Quantizer(str(files.tflite), manager.get_quantization_recipe())
        statistics = None
        if tool.need_calibration or algorithm in ("gptq", "oscar"):
            key, name = files.signature()
            data = {key: [{name: samples[index : index + 1]} for index in range(len(samples))]}
            options = {"qsv_update_func": _extremes} if calibration == "extremes" else {}
            calibrator = Calibrator(str(files.tflite), threads, **options)
            calibrator.calibrate(data, manager)
            statistics = calibrator.get_model_qsvs()
        made = tool.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
        return Made(bytes(made.quantized_model))

    return work


def _extremes(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statistics of a tensor over more samples: extremes, and means of what its algorithms read."""
    if not known:
        return dict(new)
    merged = {**known, **new, "min": np.minimum(known["min"], new["min"]), "max": np.maximum(known["max"], new["max"])}
    for name in ("hessian", "mu2"):
        if name in known and name in new:
            counts = known["num_samples"], new["num_samples"]
            merged[name] = (known[name] * counts[0] + new[name] * counts[1]) / sum(counts)
            merged["num_samples"] = sum(counts)
    return merged


TOOLS: dict[str, Tool] = {
    tool: Tool(
        f"litert-quantizer 0.11 {setting} {label}",
        "float .tflite",
        partial(_load, PEER_SETTINGS[setting], *(label.split(", ") if ", " in label else (label, None))),
    )
    for setting in PEER_SETTINGS
    for label, tool in peer_tools(setting).items()
}
DEFAULT_THREADS = 16  # its calibration takes so many where a user names no number
TOOLS["litert-w4-gptq-as_is"] = Tool(
    "litert-quantizer 0.11 w4 gptq, threads not set",
    "float .tflite",
    partial(_load, PEER_SETTINGS["w4"], "gptq", None, DEFAULT_THREADS),
)
