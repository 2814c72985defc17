"""Consumers of files that are known by rules instead of cells of the kernel table.

Each compiled or ran the file of every cell (`probe.cases`), which a table this small sums up; `docs/runtimes.md` has
what they said, and `tests/converters/kernels/test_consumers.py` asks them again for a whole network.

- "ethos-u": Vela 5.2.0 for ethos-u55-128 and ethos-u85-256, a compiler, whose files nothing here can run. Correct means
  that it put the operator on the NPU; int16 BATCH_MATMUL and GATHER only the ethos-u85 takes, and the CPU elsewhere.
- "openvino": OpenVINO 2026.4.1 on a CPU, told not to quantize activations on the fly.
- "tosa": tosa-converter-for-tflite 2026.2.0, its MLIR serialized and run by the reference model of tosa-tools 2026.8.0.
  Both compute dynamic-range operators in float over the dequantized weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tfq_converters.kernels.table import ABSENT, Run, Status


@dataclass(frozen=True)
class Rule:
    """A consumer's answer for all weights that match; an empty field matches everything."""

    status: Status
    message: str = ""
    ops: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()  # forms of convolutions
    modes: tuple[str, ...] = ()  # modes of the cells
    bits: tuple[int, ...] = ()
    granularities: tuple[str, ...] = ()

    def holds(self, op: str, form: str | None, mode: str, bits: int, granularity: str) -> bool:
        """Return whether the rule is about such weights; it may be where the form is not known."""
        asked = ((self.ops, op), (self.modes, mode), (self.bits, bits), (self.granularities, granularity))
        return all(not named or value in named for named, value in asked) and (
            not self.forms or form is None or form in self.forms
        )


FLOATS = "the NPU computes in integers only: floats stay on the CPU"
_MULTIPLY = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "BATCH_MATMUL")
_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_FLOAT_MODES = ("float", "weight_only", "dynamic")
_INTEGERS = ("integer8", "integer16")
_MEASURED = (
    Rule("correct", ops=_MULTIPLY),
    Rule("correct", ops=("GATHER",), modes=("weight_only", "integer8"), granularities=("per_tensor",)),
    Rule("correct", ops=("DEQUANTIZE", "CONV_3D", "EMBEDDING_LOOKUP"), modes=("weight_only",)),
)
_NO_BLOCKS = Rule("refuses", "it knows no blocks", granularities=("blocks",))

# Of each consumer the rules in their order: the first that holds counts; where none does, nothing is known.
ETHOS_U = (
    Rule("crashes", "Vela dies with SIGFPE on any INT4 tensor", bits=(4,)),
    Rule("refuses", "Vela knows no INT2", bits=(2,)),
    Rule("refuses", FLOATS, modes=_FLOAT_MODES),
    _NO_BLOCKS,
    Rule("refuses", "one scale only", ops=("BATCH_MATMUL", _LSTM), granularities=("per_channel",)),
    Rule("correct", ops=(_LSTM,), modes=("integer8",)),
    *_MEASURED,
)
OPENVINO = (
    Rule("refuses", "Unexpected type: int2", bits=(2,)),
    Rule("refuses", "it cannot transpose int4 of rank 4", ("CONV_2D",), ("3x3", "1x1"), bits=(4,)),
    Rule("refuses", "it cannot transpose int4 of rank 4 and 5", ("TRANSPOSE_CONV", "CONV_3D"), bits=(4,)),
    Rule("refuses", "it knows no blocks", ("EMBEDDING_LOOKUP",), granularities=("blocks",)),
    Rule("refuses", "it cannot read its state", ops=(_LSTM,)),
    Rule("wrong", "codes without their scales", modes=("weight_only",), granularities=("blocks",)),
    _NO_BLOCKS,
    *_MEASURED,
)
TOSA = (
    Rule("refuses", "tosa.const takes no int2", bits=(2,)),
    _NO_BLOCKS,
    Rule("refuses", "not in TOSA", ops=("EMBEDDING_LOOKUP", _LSTM)),
    Rule("refuses", "not legalized", ops=("BATCH_MATMUL",), modes=("dynamic", "integer16")),
    Rule("refuses", "not legalized", ("BATCH_MATMUL",), modes=_INTEGERS, granularities=("per_channel",)),
    Rule("refuses", "invalid graph", ("CONV_2D",), ("grouped",), ("integer16",)),
    Rule("refuses", "the reference model cannot split int4", ("CONV_2D",), ("grouped",), bits=(4,)),
    Rule("correct", "", ("CONV_2D", "TRANSPOSE_CONV"), modes=("integer8",), bits=(4,)),
    Rule("refuses", "the reference model cannot cast or reshape int4", bits=(4,)),
    *_MEASURED,
)


def by_rules(rules: Sequence[Rule], op: str, form: str | None, mode: str, bits: int, granularity: str) -> Run:
    """Return the answer of a consumer with these rules for such weights; the other arguments as in `queries.status`."""
    stored = "per_channel" if granularity == "channel_groups" else granularity
    matching = next((rule for rule in rules if rule.holds(op, form, mode, bits, stored)), None)
    return ABSENT if matching is None else Run(matching.status, matching.message)
