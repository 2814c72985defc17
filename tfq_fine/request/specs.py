"""The specs that a user may request of an operator: frozen values, JSON both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from tfq_converters.errors import TfqError
from tfq_converters.files import AS_OBJECT, from_plain, to_plain
from tfq_converters.quantized import Mode
from tfq_fine.request.granularity import Blocks, ChannelGroups, Granularity, PerChannel, PerTensor
from tfq_fine.request.own_name import as_name

GRANULARITIES: dict[str, type] = {
    "per_tensor": PerTensor,
    "per_channel": PerChannel,
    "channel_groups": ChannelGroups,
    "blocks": Blocks,
}


def stored_bits(bits: int) -> int:
    """Return the bits of the smallest type that holds codes of `bits`."""
    return next(stored for stored in (2, 4, 8, 16) if stored >= bits)


@dataclass(frozen=True)
class WeightSpec:
    """How weights are quantized.

    `bits` 8, 4 and 2 are stored as such; 3, and 5 to 7, use fewer codes of the next larger type. Asymmetric weights
    (`symmetric=False`) are computed in mode "weight_only" alone. `algorithm` "auto" leaves it to
    `quantize(quality=...)`; it is a name, or a function of your own or its row (docs/algorithms.md). `options` are
    those of the algorithm, by name.
    `bias_correction` takes back through the bias what the weight error does to the mean output; it needs
    representative data, and does nothing without.
    """

    bits: int = 8
    granularity: Granularity = PerChannel()  # noqa: RUF009 - frozen
    symmetric: bool = True
    algorithm: str = "auto"
    bias_correction: bool = True
    options: tuple[tuple[str, float], ...] = field(default=(), metadata=AS_OBJECT)

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise TfqError(f"weights have 2 to 8 bits, found {self.bits}")
        object.__setattr__(self, "algorithm", as_name(self.algorithm, "algorithm"))
        if isinstance(self.options, Mapping):
            object.__setattr__(self, "options", tuple(sorted(self.options.items())))

    @property
    def stored_bits(self) -> int:
        """Bits of the type that holds the codes."""
        return stored_bits(self.bits)

    def __str__(self) -> str:
        used = f" ({self.bits} bits used)" if self.bits != self.stored_bits else ""
        return f"int{self.stored_bits}{used} {granularity_name(self.granularity)}"


@dataclass(frozen=True)
class ActivationSpec:
    """How activations are quantized: 8 bits asymmetric, or 16 bits symmetric (the kernels take no zero point).

    `observer` names how the range is chosen from what calibration saw (`tfq_fine.calibration.observers`); `options` are
    those of the observer.
    """

    bits: int = 8
    observer: str = "auto"
    options: tuple[tuple[str, float], ...] = field(default=(), metadata=AS_OBJECT)

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise TfqError(f"activations have 8 or 16 bits, found {self.bits}")
        if isinstance(self.options, Mapping):
            object.__setattr__(self, "options", tuple(sorted(self.options.items())))

    @property
    def dtype(self) -> str:
        """The type of the codes."""
        return f"int{self.bits}"


@dataclass(frozen=True)
class OpSpec:
    """The request for one operator: a mode, and the specs that the mode needs.

    Each mode has a class whose specs are never None, and `OpSpec(...)` makes an object of it: `WeightedSpec` in modes
    "weight_only" and "dynamic", `IntegerSpec` in mode "integer". "float" and "float16" have no specs.
    """

    mode: Mode
    weights: WeightSpec | None = None
    activations: ActivationSpec | None = None

    def __new__(
        cls, mode: Mode, weights: WeightSpec | None = None, activations: ActivationSpec | None = None
    ) -> "OpSpec":
        """Make a spec of the class of `mode`."""
        kind = IntegerSpec if mode == "integer" else WeightedSpec if mode in ("weight_only", "dynamic") else OpSpec
        if issubclass(kind, cls):
            return object.__new__(kind)
        return OpSpec(mode, weights, activations)  # `dataclasses.replace` asked for a mode with fewer specs

    def __reduce__(self) -> tuple[type["OpSpec"], tuple[Any, ...]]:
        return OpSpec, (self.mode, self.weights, self.activations)

    def __post_init__(self) -> None:
        problems = {
            "mode": self.mode not in get_args(Mode) and f"one of {', '.join(get_args(Mode))}",
            "weights": _unlike(self.weights, WeightSpec, isinstance(self, WeightedSpec)),
            "activations": _unlike(self.activations, ActivationSpec, isinstance(self, IntegerSpec)),
        }
        for name, expected in problems.items():
            if expected:
                raise TfqError(f"OpSpec: {name} must be {expected} in mode {self.mode!r}, found {getattr(self, name)}")


@dataclass(frozen=True, init=False)
class WeightedSpec(OpSpec):
    """A request with quantized weights: of mode "weight_only" or "dynamic"; in mode "integer" an `IntegerSpec`."""

    weights: WeightSpec

    def with_weights(self, **changes: Any) -> "WeightedSpec":
        """Return the spec with some fields of its weights changed."""
        return replace(self, weights=replace(self.weights, **changes))


@dataclass(frozen=True, init=False)
class IntegerSpec(WeightedSpec):
    """A request for arithmetic in integers: weights and activations are quantized."""

    activations: ActivationSpec


def _unlike(value: Any, kind: type, needed: bool) -> str:
    """Return what `value` must be and is not; "" where it is that."""
    if isinstance(value, kind if needed else type(None)):
        return ""
    return f"{'an' if kind is ActivationSpec else 'a'} {kind.__name__}" if needed else "None"


def named_options(text: str, kind: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Read the name of an observer or algorithm, and its options.

    Raises:
        TfqError: options that are no numbers.

    >>> named_options("percentile:lower=0,upper=99.9", "observer")
    ('percentile', (('lower', 0.0), ('upper', 99.9)))
    """
    name, _, rest = text.partition(":")
    try:
        pairs = [item.split("=") for item in rest.split(",") if item]
        return name, tuple(sorted((option.strip(), float(value)) for option, value in pairs))
    except ValueError as error:
        raise TfqError(
            f"{kind} {text!r} cannot be read; expected a name, or NAME:OPTION=NUMBER,OPTION=NUMBER"
        ) from error


def granularity_name(granularity: Granularity) -> str:
    """Return `per-channel`, `blocks of 32`, ...: the field's term, for people."""
    name = next(name for name, kind in GRANULARITIES.items() if isinstance(granularity, kind)).replace("_", "-")
    size = getattr(granularity, "size", None)
    return name if size is None else f"{name} of {size}"


def to_json(spec: OpSpec | None) -> Any:
    """Return plain values for `json.dumps`; None stands for "stay float"."""
    return to_plain(spec, brief=True)


def from_json(value: Any) -> OpSpec | None:
    """Return the specs of such plain values; the inverse of `to_json`.

    Raises:
        TfqError: an unknown key or value.
    """
    return None if value is None else from_plain(value, OpSpec, "a spec")
