"""The one table of devices: a row for each, with what runs there, what the file's borders are, and what is fast."""

from dataclasses import dataclass
from typing import Literal

from tfq_converters.errors import TfqError

X86_TABLE = "the costs are those of an x86-64 CPU with AVX512-VNNI: nothing was timed on this device"


@dataclass(frozen=True)
class Device:
    """A place where files run.

    Attributes:
        name: what `target=` and `--target` take.
        help: what it is, in a line.
        runtimes: whose kernels must compute the file right, as `quantize(runtimes=...)` takes them.
        recipe: the one to begin with: what is fast and small there.
        border: the type of the file's inputs and outputs.
        prefer: as `quantize(prefer=...)` takes it.
        fixed_shapes: whether tensors of unknown size, a batch that may vary for example, are refused.
        not_measured: what of this row could not be measured here; "" where all was.
        sources: where the facts come from.
    """

    name: str
    help: str
    runtimes: tuple[str, ...]
    recipe: str = "full_int8"
    border: str = "float32"
    prefer: Literal["speed", "size"] = "speed"
    fixed_shapes: bool = False
    not_measured: str = ""
    sources: tuple[str, ...] = ()


CPU, MICRO = ("litert", "tflite"), ("tflite-micro",)
XNNPACK = "https://github.com/google/XNNPACK (kernels by instruction set)"
GPU_GUIDE = "https://ai.google.dev/edge/litert/performance/gpu"
TFLM = "https://github.com/tensorflow/tflite-micro (measured through PyPI tflite-micro)"
EDGE_TPU_GUIDE = "https://coral.ai/docs/edgetpu/models-intro/"
REFERENCE = "measured on TFLite Micro's reference kernels; those of {} were not at hand"


def _on_cpu(name: str, help: str, not_measured: str = X86_TABLE) -> Device:
    return Device(name, help, CPU, not_measured=not_measured, sources=(XNNPACK,))


def _in_integers(name: str, help: str, not_measured: str, *sources: str, runtimes: tuple[str, ...] = MICRO) -> Device:
    sources = (TFLM, *sources)
    return Device(name, help, runtimes, "full_int8", "int8", "size", True, not_measured, sources)


_ROWS = (
    _on_cpu("pc", "x86-64 CPU, LiteRT with XNNPACK", ""),
    _on_cpu("android", "CPU of a phone (ARM64), LiteRT with XNNPACK"),
    _on_cpu("raspberry-pi", "Raspberry Pi (ARM64), LiteRT with XNNPACK"),
    _on_cpu("browser", "LiteRT in WebAssembly, whose kernels are XNNPACK's"),
    Device("gpu", "GPU delegate of LiteRT", CPU, "float16", not_measured="no GPU was at hand", sources=(GPU_GUIDE,)),
    _in_integers(
        "cortex-m",
        "Arm Cortex-M, TFLite Micro",
        REFERENCE.format("CMSIS-NN"),
        "https://github.com/ARM-software/CMSIS-NN",
    ),
    _in_integers(
        "esp32",
        "ESP32, ESP32-S3 and ESP32-P4, TFLite Micro",
        REFERENCE.format("ESP-NN"),
        "https://github.com/espressif/esp-nn",
    ),
    _in_integers(
        "ethos-u55",
        "Arm Ethos-U55 with a Cortex-M: Vela compiles, the rest runs on TFLite Micro",
        "compiled by Vela, not run on an NPU",
        "PyPI ethos-u-vela 5.2.0",
        runtimes=("ethos-u", *MICRO),
    ),
    Device(
        "edgetpu",
        "Coral Edge TPU: int8 throughout, fixed shapes",
        CPU,
        border="int8",
        prefer="size",
        fixed_shapes=True,
        not_measured="its compiler was not at hand: operators are those that its documentation lists",
        sources=(EDGE_TPU_GUIDE,),
    ),
    Device(
        "openvino", "Intel CPUs, GPUs and NPUs through OpenVINO", ("litert", "openvino"), sources=("PyPI openvino",)
    ),
)
DEVICES = {device.name: device for device in _ROWS}


def device(name: str) -> Device:
    """Return the row of that name.

    Raises:
        TfqError: there is no such device.
    """
    if name not in DEVICES:
        raise TfqError(f"unknown target {name!r}; known: {', '.join(DEVICES)}")
    return DEVICES[name]
