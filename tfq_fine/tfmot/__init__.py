"""TensorFlow Model Optimization: `FineQuantizeConfig` trains fine-grained weights, `tfq_fine.quantize` writes them.

Importing TFMOT makes `tf.keras` tf_keras for the whole process; it is imported only when `FineQuantizeConfig` is used.
"""

from typing import TYPE_CHECKING, Any

from tfq_converters import face
from tfq_converters.errors import TfqError

if TYPE_CHECKING:
    from tfq_fine.tfmot.config import FineQuantizeConfig
    from tfq_fine.tfmot.qat import qat_model
else:
    _load, __dir__ = face(__name__, {"config": "FineQuantizeConfig", "qat": "qat_model"})

    def __getattr__(name: str) -> Any:
        try:
            return _load(name)
        except ImportError as error:
            raise TfqError(
                f"tfq_fine.tfmot needs TensorFlow Model Optimization ({error}); install it: "
                "pip install 'tfq-fine[tfmot]'"
            ) from error


__all__ = ["FineQuantizeConfig", "qat_model"]
