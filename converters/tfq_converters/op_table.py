"""draft"""
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scales = Literal["free", "same", "fixed"]


@dataclass(frozen=True)
class OpRow:
    data: tuple[int, ...] | None = (0,)
    scales: Scales = "free"
    same: tuple[int, ...] | None = None
    fixed: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    weight: int | None = None
    bias: int | None = None
    channel_axis: int | None = None
    outputs: tuple[int, ...] | None = None
    other_output: str = "int32"
    int8: bool = True
    int16: bool = True
    steps: int = 1
    steps_int16: int = 1
    version_int8: int = 2
    version_int16: int = 2
    max_rank: int | None = None
    note: str = ""


OPS: dict[str, OpRow] = {}
