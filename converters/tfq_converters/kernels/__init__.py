"""The kernels of the runtimes: what they compute, what it costs, and how quantized weights are realized for them."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.kernels import costs
    from tfq_converters.kernels.delegation import is_delegated
    from tfq_converters.kernels.queries import Target, cell_form, somewhere, status
    from tfq_converters.kernels.realizations import KERNEL_BLOCKS, Fineness, form_of
    from tfq_converters.kernels.runtimes import DEFAULT_RUNTIMES, RUNTIMES, VARIANTS, families
    from tfq_converters.kernels.table import ABSENT, Cell, KernelTable, Run, load, save
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "costs": "costs",
            "delegation": "is_delegated",
            "queries": "Target cell_form somewhere status",
            "realizations": "Fineness KERNEL_BLOCKS form_of",
            "runtimes": "DEFAULT_RUNTIMES RUNTIMES VARIANTS families",
            "table": "ABSENT Cell KernelTable Run load save",
        },
    )

__all__ = [
    "ABSENT",
    "DEFAULT_RUNTIMES",
    "KERNEL_BLOCKS",
    "RUNTIMES",
    "VARIANTS",
    "Cell",
    "Fineness",
    "KernelTable",
    "Run",
    "Target",
    "cell_form",
    "costs",
    "families",
    "form_of",
    "is_delegated",
    "load",
    "save",
    "somewhere",
    "status",
]
