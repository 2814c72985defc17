"""Quantize Keras models as finely as the TFLite runtimes can execute, and verify every file.

Public names are loaded when they are first used: importing the package loads neither TensorFlow nor an interpreter.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfq_converters.errors import TfqError
    from tfq_fine.api import calibrate, quantize
    from tfq_fine.calibration.dataset import CalibrationData
    from tfq_fine.calibration.statistics import Statistics
    from tfq_fine.data import ImageFolder
    from tfq_fine.layers import annotate, fold_batch_norm, load_model, simulate
    from tfq_fine.mixed_precision import analyze, search
    from tfq_fine.request.granularity import Blocks, ChannelGroups, PerChannel, PerTensor
    from tfq_fine.request.presets import RECIPES
    from tfq_fine.request.recipe import Recipe, Rule
    from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec
    from tfq_fine.verification import verify

__version__ = "0.1.0"

__all__ = [
    "RECIPES",
    "ActivationSpec",
    "Blocks",
    "CalibrationData",
    "ChannelGroups",
    "ImageFolder",
    "OpSpec",
    "PerChannel",
    "PerTensor",
    "Recipe",
    "Rule",
    "Statistics",
    "TfqError",
    "WeightSpec",
    "__version__",
    "analyze",
    "annotate",
    "calibrate",
    "fold_batch_norm",
    "load_model",
    "quantize",
    "search",
    "simulate",
    "verify",
]

# No public name may be the name of a module here, or importing the module would replace it.
_MODULES = {
    "ActivationSpec": "tfq_fine.request.specs",
    "Blocks": "tfq_fine.request.granularity",
    "CalibrationData": "tfq_fine.calibration.dataset",
    "ChannelGroups": "tfq_fine.request.granularity",
    "ImageFolder": "tfq_fine.data",
    "OpSpec": "tfq_fine.request.specs",
    "PerChannel": "tfq_fine.request.granularity",
    "PerTensor": "tfq_fine.request.granularity",
    "RECIPES": "tfq_fine.request.presets",
    "Recipe": "tfq_fine.request.recipe",
    "Rule": "tfq_fine.request.recipe",
    "Statistics": "tfq_fine.calibration.statistics",
    "TfqError": "tfq_converters.errors",
    "WeightSpec": "tfq_fine.request.specs",
    "analyze": "tfq_fine.mixed_precision",
    "annotate": "tfq_fine.layers",
    "calibrate": "tfq_fine.api",
    "fold_batch_norm": "tfq_fine.layers",
    "load_model": "tfq_fine.layers",
    "quantize": "tfq_fine.api",
    "search": "tfq_fine.mixed_precision",
    "simulate": "tfq_fine.layers",
    "verify": "tfq_fine.verification",
}


_SUBMODULES = ("layers", "tfmot")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"tfq_fine.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})


def _register_with_keras() -> None:
    """Make `FineQuantize` known to a Keras that is loaded already, so that its `load_model` finds it."""
    keras: Any = sys.modules.get("keras")
    if hasattr(keras, "saving") and "tensorflow" in sys.modules and keras.backend.backend() == "tensorflow":
        importlib.import_module("tfq_fine.layers.fine_quantize")


_register_with_keras()
