"""The one table of runtimes: a row for each name that a user gives as `runtimes=`, and everything that differs.

The probe measures some of them (`kernels.json` has the answers); of the others, rules sum up what they were found to do
(`consumers`). The command line, the questions of `queries` and the probe derive what they need from these rows. A new
runtime that is known by rules is one row here; one that the probe measures also needs a way to open files
(`probe.runtimes.OPENERS`) and a table that was measured again.
"""

from dataclasses import dataclass
from typing import Literal

from tfq_converters.kernels import consumers
from tfq_converters.kernels.consumers import Rule


@dataclass(frozen=True)
class Variant:
    """One set of kernels of a runtime, as the probe runs it and the kernel table names it."""

    name: str
    distribution: str  # the package that has the runtime
    kernels: Literal["default", "optimized", "reference"]


@dataclass(frozen=True)
class Runtime:
    """A place where a file may have to run. It has either variants that the probe measures, or rules."""

    name: str
    help: str  # one line for people
    measured: tuple[Variant, ...] = ()
    rules: tuple[Rule, ...] = ()  # the first that holds counts; where none does, nothing is known
    compiles: bool = False  # a file of which a compiler takes nothing is of no use: nobody falls back unasked
    no_float16: str = ""  # why it does not read float16 constants, of which there are no cells
    default: bool = False

    def __post_init__(self) -> None:
        assert bool(self.measured) != bool(self.rules), self.name

    @property
    def distribution(self) -> str:
        """Return the package that has the runtime; "" of those that are known by rules."""
        return self.measured[0].distribution if self.measured else ""

    @property
    def variants(self) -> tuple[str, ...]:
        """Return the names of the variants that a file must be right on.

        LiteRT is among them where rules answer, because the file is checked there before it is handed over.
        """
        if self.measured:
            return tuple(variant.name for variant in self.measured)
        return (*RUNTIMES["litert"].variants, self.name)


def _measured(name: str, distribution: str, help: str, default: bool = False, no_float16: str = "") -> Runtime:
    """Return a runtime whose fast kernels have a delegate, which is measured with it and without."""
    fast, plain = Variant(name, distribution, "default"), Variant(f"{name}-no-delegate", distribution, "optimized")
    return Runtime(name, help, (fast, plain), default=default, no_float16=no_float16)


def _reference(name: str, distribution: str, help: str, no_float16: str = "") -> Runtime:
    return Runtime(name, help, (Variant(name, distribution, "reference"),), no_float16=no_float16)


_ROWS = (
    _measured("litert", "ai-edge-litert", "LiteRT", default=True),
    _reference("litert-reference", "ai-edge-litert", "the reference kernels of LiteRT"),
    _measured("tflite", "tensorflow", "TensorFlow Lite", default=True),
    _reference("tflite-reference", "tensorflow", "the reference kernels of TensorFlow Lite"),
    _reference("tflite-micro", "tflite-micro", "TFLite Micro", no_float16="its DEQUANTIZE takes no float16"),
    Runtime(
        "ethos-u", "NPUs for which Vela compiles", rules=consumers.ETHOS_U, compiles=True, no_float16=consumers.FLOATS
    ),
    Runtime("openvino", "OpenVINO", rules=consumers.OPENVINO),
    Runtime("tosa", "TOSA", rules=consumers.TOSA),
)
RUNTIMES = {runtime.name: runtime for runtime in _ROWS}
DEFAULT_RUNTIMES = tuple(name for name, runtime in RUNTIMES.items() if runtime.default)
VARIANTS = {variant.name: variant for runtime in _ROWS for variant in runtime.measured}  # that the probe measures


def rules_of(variant: str) -> tuple[Rule, ...]:
    """Return the rules that answer for `variant`; none where the kernel table does."""
    return RUNTIMES[variant].rules if variant in RUNTIMES else ()


def families() -> dict[str, list[str]]:
    """Return name of a measured runtime -> the variants in the kernel table that its package has.

    >>> families()["tflite"]
    ['tflite', 'tflite-no-delegate', 'tflite-reference']
    """
    variants: dict[str, list[str]] = {}
    names: dict[str, str] = {}  # package -> the first runtime that it has
    for runtime in RUNTIMES.values():
        if runtime.measured:
            first = names.setdefault(runtime.distribution, runtime.name)
            variants.setdefault(first, []).extend(runtime.variants)
    return variants
