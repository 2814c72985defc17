"""Questions asked of the kernel table: does a cell work where the file must run, and if not, why and what else does.

For some consumers, which no probe runs, the answer is a rule (`consumers`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tfq_converters.errors import TfqError
from tfq_converters.graph import Op, Subgraph
from tfq_converters.kernels.consumers import by_rules
from tfq_converters.kernels.runtimes import DEFAULT_RUNTIMES, RUNTIMES, rules_of
from tfq_converters.kernels.table import ABSENT, Cell, KernelTable, Run, Status, load

# (operator of the float graph, mode) -> operator and mode of the cells, where `realize` writes another one
WRITTEN_AS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("GATHER", "weight_only"): ("EMBEDDING_LOOKUP", "weight_only"),
    ("GATHER", "dynamic"): ("EMBEDDING_LOOKUP", "weight_only"),
}
STORED = ("per_tensor", "per_channel", "blocks")
BITS = (8, 4, 2)
FORMS = ("", "3x3", "1x1", "grouped")  # forms of operators in the cells
WORDS: Mapping[Status, str] = {
    "refuses": "refuses",
    "wrong": "silently wrong",
    "crashes": "crashes",
    "absent": "not measured",
}


@dataclass(frozen=True)
class Choice:
    """How the weights of an operator can be held."""

    mode: str
    bits: int
    granularity: str


@dataclass(frozen=True)
class Target:
    """The runtimes that a file must run on: names of `RUNTIMES`, and their measurements.

    Raises:
        TfqError: an unknown runtime, or one that the table says nothing of.
    """

    runtimes: tuple[str, ...] = DEFAULT_RUNTIMES
    table: KernelTable | None = None  # the shipped one when None

    def __post_init__(self) -> None:
        unknown = [name for name in self.runtimes if name not in RUNTIMES]
        if unknown or not self.runtimes:
            named = ", ".join(map(repr, unknown)) or "none"
            raise TfqError(f"expected runtimes among {', '.join(RUNTIMES)}; found {named}")
        variants = self.measured.variants
        missing = [v for v in self.variants if v not in variants and not rules_of(v)]
        if missing:
            raise TfqError(
                f"the kernel table has no measurements of {', '.join(missing)}, only of {', '.join(variants)}; "
                "name other runtimes, or install what is missing and measure again: tfq-fine kernels --probe"
            )

    @property
    def measured(self) -> KernelTable:
        """The table."""
        return load() if self.table is None else self.table

    @property
    def variants(self) -> tuple[str, ...]:
        """The runtime variants that the file must be right on."""
        return tuple(dict.fromkeys(variant for name in self.runtimes for variant in RUNTIMES[name].variants))

    @property
    def compiles(self) -> bool:
        """Whether a compiler is among them, which is of no use to a file that it does not take."""
        return any(RUNTIMES[name].compiles for name in self.runtimes)

    @property
    def no_float16(self) -> str:
        """Why float16 constants are not read everywhere; "" when they are."""
        names = dict.fromkeys(self.runtimes)
        reasons = [f"{name} ({RUNTIMES[name].no_float16})" for name in names if RUNTIMES[name].no_float16]
        return f"float16 weights are not read on {'; '.join(reasons)}" if reasons else ""


def cell_form(op: Op, subgraph: Subgraph) -> str | None:
    """Return the form of the cells that stand for `op`; None where it is unknown, and every form counts."""
    if op.code != "CONV_2D":
        return ""
    data, weight = (subgraph.tensors[t].shape for t in op.inputs[:2])
    if len(data) != 4 or len(weight) != 4:
        return None
    if data[3] != weight[3]:
        return "grouped"
    return "1x1" if weight[1:3] == (1, 1) else "3x3"


def status(
    op: str,
    mode: str,
    bits: int,
    granularity: str,
    variant: str,
    form: str | None = None,
    table: KernelTable | None = None,
) -> Run:
    """Return the answer of one runtime variant for a cell.

    Args:
        op: operator of the file: EMBEDDING_LOOKUP is one, the GATHER of a float graph that becomes it is another.
        mode: "float", "weight_only", "dynamic", "integer8" or "integer16".
        bits: the bits of the weights; 32 in mode "float".
        granularity: "per_tensor", "per_channel", "channel_groups" (stored per channel) or "blocks"; "" for float.
        variant: a runtime variant, such as "litert-no-delegate".
        form: the form of a convolution, "3x3", "1x1" or "grouped"; None for the worst of all.
        table: the shipped one when None.
    """
    if rules := rules_of(variant):
        return by_rules(rules, op, form, mode, bits, granularity)
    measured = (load() if table is None else table).cells
    stored = "per_channel" if granularity == "channel_groups" else granularity
    cells = [Cell(op, f, mode, bits, stored) for f in (FORMS if form is None else (form,))]
    runs = [measured[cell].get(variant, ABSENT) for cell in cells if cell in measured] or [ABSENT]
    return next((run for run in runs if run.status != "correct"), runs[0])


def _cell_mode(mode: str, activation_bits: int | None) -> str:
    return f"{mode}{activation_bits}" if mode == "integer" and activation_bits else mode


def _failures(code: str, mode: str, bits: int, granularity: str, target: Target, form: str | None) -> dict[str, Run]:
    op, written = WRITTEN_AS.get((code, mode), (code, mode))
    runs = {v: status(op, written, bits, granularity, v, form, target.measured) for v in target.variants}
    return {variant: run for variant, run in runs.items() if run.status != "correct"}


def working(
    code: str, mode: str, activation_bits: int | None = None, target: Target | None = None, form: str | None = None
) -> tuple[Choice, ...]:
    """Return the cells that all runtimes of the target compute correctly in a mode; empty without a kernel there.

    Args:
        code: operator of the float graph.
        mode: "weight_only", "dynamic" or "integer".
        activation_bits: in mode "integer".
        target: where the file must run.
        form: see `status`.
    """
    cell_mode, where = _cell_mode(mode, activation_bits), target or Target()
    return tuple(
        Choice(mode, bits, granularity)
        for bits in BITS
        for granularity in STORED
        if not _failures(code, cell_mode, bits, granularity, where, form)
    )


def fault(
    code: str,
    mode: str,
    bits: int,
    granularity: str,
    activation_bits: int | None = None,
    target: Target | None = None,
    form: str | None = None,
) -> str:
    """Return why such weights would not be computed, and what would be in this mode; "" when they are.

    Args:
        code: operator of the float graph.
        mode: "weight_only", "dynamic" or "integer".
        bits: the bits of the weights.
        granularity: see `status`.
        activation_bits: in mode "integer".
        target: where the file must run.
        form: see `status`.
    """
    where, cell_mode = target or Target(), _cell_mode(mode, activation_bits)
    failures = _failures(code, cell_mode, bits, granularity, where, form)
    if not failures:
        return ""
    works = working(code, mode, activation_bits, where, form)
    if not works:
        kernel = f"no {cell_mode.replace('_', '-')} kernel for quantized weights"
        told = "; ".join(failures[name].message for name in failures if rules_of(name))
        return f"{code} has {kernel} on {', '.join(where.runtimes)}{f' ({told})' if told else ''}"
    return (
        f"{code} does not compute int{bits} {granularity} weights in mode {cell_mode} on {_said(failures)}; "
        f"what works: {_by_bits(works)}"
    )


def _said(failures: Mapping[str, Run]) -> str:
    """Return `litert, tflite (silently wrong: off by 142 steps)`; variants under a rule have their own reason."""
    grouped: dict[tuple[Status, str], list[str]] = {}
    for variant, run in failures.items():
        grouped.setdefault((run.status, variant if rules_of(variant) else ""), []).append(variant)
    said = []
    for (what, _), variants in grouped.items():
        message = failures[variants[0]].message
        said.append(f"{', '.join(variants)} ({WORDS[what]}{f': {message}' if what != 'absent' and message else ''})")
    return "; ".join(said)


def _by_bits(choices: Iterable[Choice]) -> str:
    grouped: dict[int, list[str]] = {}
    for choice in choices:
        grouped.setdefault(choice.bits, []).append(choice.granularity)
    return "; ".join(f"int{bits} {', '.join(kinds)}" for bits, kinds in grouped.items())


def somewhere(
    code: str,
    mode: str,
    activation_bits: int | None = None,
    granularity: str | None = None,
    table: KernelTable | None = None,
) -> bool:
    """Return whether any runtime that was measured computes quantized weights of any width.

    Args:
        code: operator of the float graph.
        mode: "weight_only", "dynamic" or "integer".
        activation_bits: in mode "integer".
        granularity: see `status`; None for any.
        table: the shipped one when None.
    """
    measured = load() if table is None else table
    op, written = WRITTEN_AS.get((code, mode), (code, _cell_mode(mode, activation_bits)))
    return any(
        status(op, written, bits, kind, variant, None, measured).status == "correct"
        for variant in measured.variants
        for bits in BITS
        for kind in (STORED if granularity is None else (granularity,))
    )
