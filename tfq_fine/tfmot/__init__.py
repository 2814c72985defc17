"""TensorFlow Model Optimization: `FineQuantizeConfig` trains fine-grained weights, `tfq_fine.quantize` writes them.

Importing TFMOT makes `tf.keras` tf_keras for the whole process; it is imported only when `FineQuantizeConfig` is used.
"""

from typing import TYPE_CHECKING

from tfq_converters import face
from tfq_converters.errors import extras_named

if TYPE_CHECKING:
    from tfq_fine.tfmot.config import FineQuantizeConfig
    from tfq_fine.tfmot.qat import qat_model
else:
    _load, __dir__ = face(__name__, {"config": "FineQuantizeConfig", "qat": "qat_model"})
    __getattr__ = extras_named("tfmot")(_load)


__all__ = ["FineQuantizeConfig", "qat_model"]
