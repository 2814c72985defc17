"""Keras layer wrappers: mark layers, simulate their quantization, fine-tune, and get exactly that in the file.

Names are loaded when they are first used, as Keras is with them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfq_fine.layers.annotation import annotate
    from tfq_fine.layers.fine_quantize import FineQuantize
    from tfq_fine.layers.folding import fold_batch_norm
    from tfq_fine.layers.loading import load_model
    from tfq_fine.layers.rows import Kernel, LayerRow
    from tfq_fine.layers.simulation import simulate
    from tfq_fine.layers.wrapped import freeze_ranges

__all__ = [
    "FineQuantize",
    "Kernel",
    "LayerRow",
    "annotate",
    "fold_batch_norm",
    "freeze_ranges",
    "load_model",
    "simulate",
]

_MODULES = {  # no name may be that of a module here, or importing the module would replace it
    "FineQuantize": "fine_quantize",
    "Kernel": "rows",
    "LayerRow": "rows",
    "annotate": "annotation",
    "fold_batch_norm": "folding",
    "freeze_ranges": "wrapped",
    "load_model": "loading",
    "simulate": "simulation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
