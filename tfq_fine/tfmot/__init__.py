"""TensorFlow Model Optimization: `FineQuantizeConfig` trains fine-grained weights, `tfq_fine.quantize` writes them.

Importing TFMOT makes `tf.keras` tf_keras for the whole process; it is imported only when `FineQuantizeConfig` is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfq_converters.errors import TfqError

if TYPE_CHECKING:
    from tfq_fine.tfmot.config import FineQuantizeConfig

__all__ = ["FineQuantizeConfig"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.config"), name)
    except ImportError as error:
        raise TfqError(
            f"tfq_fine.tfmot needs TensorFlow Model Optimization ({error}); install it: pip install 'tfq-fine[tfmot]'"
        ) from error
