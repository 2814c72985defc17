"""OpenVINO on the CPU, told not to round: by default it quantizes activations on the fly, and may use bfloat16."""

from pathlib import Path

import numpy as np

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}


def outputs(content: bytes, inputs: list[np.ndarray], folder: Path) -> np.ndarray:
    """The first output for each input, as float64, [samples, ...].

    Raises:
        RuntimeError: it does not take the file.
    """
    import openvino

    path = folder / "model.tflite"
    path.write_bytes(content)
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", EXACT)
    return np.concatenate([model([one])[0] for one in inputs]).astype(np.float64)
