"""Realization: the numbers of a `QuantizedGraph` become a graph that the kernels run."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.realize.builder import FLOAT, ValueForm
    from tfq_converters.realize.dynamic_range import VERSIONS
    from tfq_converters.realize.embedding import LOOKUP_VERSIONS, kernel_reads_rows
    from tfq_converters.realize.full_integer import WEIGHT_VERSIONS
    from tfq_converters.realize.realized import Realized, realize
    from tfq_converters.realize.rewrites import REWRITES
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "builder": "FLOAT ValueForm",
            "dynamic_range": "VERSIONS",
            "embedding": "LOOKUP_VERSIONS kernel_reads_rows",
            "full_integer": "WEIGHT_VERSIONS",
            "realized": "Realized realize",
            "rewrites": "REWRITES",
        },
    )

__all__ = [
    "FLOAT",
    "LOOKUP_VERSIONS",
    "REWRITES",
    "VERSIONS",
    "WEIGHT_VERSIONS",
    "Realized",
    "ValueForm",
    "kernel_reads_rows",
    "realize",
]
