"""Planning: from what a recipe asks to what the kernels can give each operator."""

from tfq_fine.planning.choice import fineness
from tfq_fine.planning.decision import (
    FLOAT,
    HALF_MINIMUM,
    Decision,
    OnUnsupported,
    Plan,
    Policy,
    Prefer,
    touches_float,
)
from tfq_fine.planning.index_paths import index_movers
from tfq_fine.planning.kernel_support import no_integer_kernel
from tfq_fine.planning.plan import half_of, make_plan

__all__ = [
    "FLOAT",
    "HALF_MINIMUM",
    "Decision",
    "OnUnsupported",
    "Plan",
    "Policy",
    "Prefer",
    "fineness",
    "half_of",
    "index_movers",
    "make_plan",
    "no_integer_kernel",
    "touches_float",
]
