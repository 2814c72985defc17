"""litert-quantizer at the settings of `benchmarks.granularity`, where its interface has them.

Plain min/max of the weights, and plain min/max over the calibration samples (its default, a moving average, clips).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.float_files import Files
from benchmarks.granularity_settings import BITS, MODES
from benchmarks.tools import CORES, Made, Tool, Work

GRANULARITIES = {"per_tensor": "TENSORWISE", "per_channel": "CHANNELWISE"} | {
    f"blocks{size}": f"BLOCKWISE_{size}" for size in (32, 128)
}


def _load(mode: str, bits: int, granularity: str) -> Work:
    from litert_quantizer import qtyping, quantizer
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.recipe_manager import RecipeManager
    from litert_quantizer.utils.qsv_utils import min_max_update

    manager, every = RecipeManager(), qtyping.TFLOperationName.ALL_SUPPORTED
    fineness = qtyping.QuantGranularity[granularity]
    if mode == "weight_only":
        manager.add_weight_only_config(".*", every, bits, fineness)
    elif mode == "dynamic":
        manager.add_dynamic_config(".*", every, bits, fineness)
    else:
        manager.add_static_config(".*", every, 8, bits, fineness)

    def work(files: Files, samples: np.ndarray) -> Made:
        tool = quantizer.Quantizer(str(files.tflite), manager.get_quantization_recipe())
        ranges = None
        if tool.need_calibration:
            key, name = files.signature()
            calibrator = Calibrator(str(files.tflite), CORES, qsv_update_func=min_max_update)
            data = {key: [{name: samples[index : index + 1]} for index in range(len(samples))]}
            calibrator.calibrate(data, manager)
            ranges = calibrator.get_model_qsvs()
        made = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        return Made(bytes(made.quantized_model))

    return work


SETTINGS: dict[str, Tool] = {
    f"{mode}-int{bits}-{name}": Tool(
        f"litert-quantizer 0.11 {mode} int{bits} {name}", "float .tflite", partial(_load, mode, bits, granularity)
    )
    for mode in MODES
    for bits in BITS
    for name, granularity in GRANULARITIES.items()
}
