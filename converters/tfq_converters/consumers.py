"""Consumers of files that are known by rules: compilers run nothing, so that no cell of theirs can be measured.

Vela 5.2.0 compiled the file of every cell with 8-bit weights, and those of FULLY_CONNECTED, CONV_2D and
DEPTHWISE_CONV_2D with fewer, for ethos-u55-128 and ethos-u85-256, and the CNN of `tests/consumers` for ethos-u65-256
too: int8 and int16x8 operators went to the NPU, floats stayed on the CPU, INT4 ended the process and INT2 raised an
exception. Not on every NPU: int16 BATCH_MATMUL and GATHER, which the ethos-u55 leaves to the CPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tfq_converters.kernel_table import ABSENT, Run


@dataclass(frozen=True)
class Rule:
    """What becomes of all weights that match; an empty field matches everything."""

    run: Run
    ops: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()  # of the cells
    bits: tuple[int, ...] = ()
    granularities: tuple[str, ...] = ()

    def holds(self, op: str, mode: str, bits: int, granularity: str) -> bool:
        """Whether the rule is about such weights."""
        asked = ((self.ops, op), (self.modes, mode), (self.bits, bits), (self.granularities, granularity))
        return all(not named or value in named for named, value in asked)


CORRECT = Run("correct")
_FLOATS = "the NPU computes in integers only: floats stay on the CPU"
_MULTIPLY = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "BATCH_MATMUL")

# runtime -> rules, the first that holds counts; where none does, nothing is known
RULES: Mapping[str, tuple[Rule, ...]] = {
    "ethos-u": (
        Rule(Run("crashes", "Vela dies with SIGFPE on any INT4 tensor"), bits=(4,)),
        Rule(Run("refuses", "Vela knows no INT2"), bits=(2,)),
        Rule(Run("refuses", _FLOATS), modes=("float", "weight_only", "dynamic")),
        Rule(Run("refuses", "Vela knows no blocks"), granularities=("blocks",)),
        Rule(Run("refuses", "one scale only"), ops=("BATCH_MATMUL", "GATHER"), granularities=("per_channel",)),
        Rule(CORRECT, ops=_MULTIPLY, modes=("integer8", "integer16")),
        Rule(CORRECT, ops=("GATHER",), modes=("integer8",)),
    ),
}
# runtime -> why it does not read float16 constants, of which there are no cells
NO_FLOAT16: Mapping[str, str] = {
    "ethos-u": _FLOATS,
    "tflite-micro": "its DEQUANTIZE takes no float16",
}


def by_rule(variant: str, op: str, mode: str, bits: int, granularity: str) -> Run:
    """What the consumer `variant` makes of such weights; the arguments are those of `kernels.status`."""
    stored = "per_channel" if granularity == "channel_groups" else granularity
    return next((rule.run for rule in RULES[variant] if rule.holds(op, mode, bits, stored)), ABSENT)
