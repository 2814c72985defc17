"""What the runtimes execute correctly: the measured table `kernels.json`, and the questions asked of it."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any


@cache
def table() -> Mapping[str, Any]:
    """The content of `kernels.json`."""
    return json.loads(resources.files("tfq_converters").joinpath("kernels.json").read_text())


def refusal(code: str, mode: str, bits: int, granularity: str, activation_bits: int | None = None) -> str:
    """Why no kernel computes an operator with such weights; "" when one does.

    Args:
        code: operator name.
        mode: "weight_only", "dynamic" or "integer".
        bits: of the weights.
        granularity: "per_tensor", "per_channel", "channel_groups" or "blocks".
        activation_bits: in mode "integer".
    """
    stored = "per_channel" if granularity == "channel_groups" else granularity  # its scales are repeated
    cell = mode if activation_bits is None else f"{mode}{activation_bits}"
    modes = table()["correct"].get(code, {})
    if cell not in modes:
        return f"{code} has no {mode.replace('_', '-')} kernel"
    by_bits = modes[cell]
    if stored in by_bits.get(str(bits), ()):
        return ""
    works = "; ".join(f"int{b} {', '.join(kinds)}" for b, kinds in by_bits.items() if kinds)
    return f"{code} does not compute int{bits} {granularity} weights in mode {cell}; what works: {works or 'nothing'}"
