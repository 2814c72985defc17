"""A file as C++ sources for TFLite Micro: the array, the operators, the arena, and a program that runs it once.

The names of the resolver's functions are those of tensorflow/lite/micro/micro_mutable_op_resolver.h.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError, raise_all
from tfq_converters.files import temporary_folder, write_file
from tfq_converters.graph import Graph, Tensor
from tfq_converters.runtime import started
from tfq_fine.devices.operators import not_running
from tfq_fine.devices.table import DEVICES

ALIGNMENT = 16  # bytes, which TFLite Micro asks for of arena and model
COLUMNS = 12  # bytes in a line of the array
TIMEOUT = 120.0  # seconds that a run on TFLite Micro may take
OWN_NAMES = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
HEADER = """// The model as bytes, as tfq_fine wrote it.
#ifndef MODEL_DATA_H_
#define MODEL_DATA_H_

extern const unsigned char g_model[];
extern const unsigned int g_model_size;

#endif  // MODEL_DATA_H_
"""
SOURCE = """#include "model_data.h"

alignas({alignment}) const unsigned char g_model[] = {{
{lines}
}};
const unsigned int g_model_size = {size};
"""
RESOLVER = """// The operators of the model, and no others.
#ifndef MODEL_OPERATORS_H_
#define MODEL_OPERATORS_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

constexpr unsigned int kOperators = {count};
// What TFLite Micro's own interpreter took on a 64-bit machine{margin}.
// A 32-bit one takes less: its pointers are half as long.
constexpr unsigned int kArenaSize = {arena};

inline TfLiteStatus AddOperators(tflite::MicroMutableOpResolver<kOperators>& resolver) {{
{adds}
  return kTfLiteOk;
}}

#endif  // MODEL_OPERATORS_H_
"""
MAIN = """// Runs the model once on zeros and prints the codes of its first output.
#include <cstdio>
#include <cstring>

#include "model_data.h"
#include "model_operators.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

alignas({alignment}) static unsigned char g_arena[kArenaSize];

int main() {{
  tflite::MicroMutableOpResolver<kOperators> resolver;
  if (AddOperators(resolver) != kTfLiteOk) return 1;
  tflite::MicroInterpreter interpreter(tflite::GetModel(g_model), resolver, g_arena, kArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) return 2;
{inputs}
  if (interpreter.Invoke() != kTfLiteOk) return 3;
{outputs}
  return 0;
}}
"""


@dataclass(frozen=True)
class MicroExport:
    """The sources that were written for a microcontroller: the operators by name, and the bytes of the arena."""

    operators: tuple[str, ...]
    arena_bytes: int
    files: tuple[Path, ...]


def export_micro(tflite: str, folder: str) -> MicroExport:
    """Write C++ sources that hold and run a .tflite file on TFLite Micro: four files in `folder`, which is made.

    Args:
        tflite: path of the file.
        folder: where the sources go.

    Raises:
        TfqError: the file holds operators that TFLite Micro lacks, or cannot be run by its interpreter.
    """
    graph = flatbuffer.read(tflite)
    raise_all(not_running(graph, DEVICES["cortex-m"]), f"{tflite} does not run on TFLite Micro:")
    content = Path(tflite).read_bytes()
    operators = tuple(sorted({op.label for _, op in graph.ops()}))
    arena = arena_bytes(tflite)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    texts = {
        "model_data.h": HEADER,
        "model_data.cc": SOURCE.format(alignment=ALIGNMENT, lines=array_lines(content), size=len(content)),
        "model_operators.h": RESOLVER.format(
            count=len(operators),
            arena=_rounded_up(arena),
            margin=f", {arena:,} bytes, rounded up to a multiple of {ALIGNMENT}",
            adds="\n".join(f"  TF_LITE_ENSURE_STATUS(resolver.{adding(name)}());" for name in operators),
        ),
        "main.cc": MAIN.format(
            alignment=ALIGNMENT, inputs=_inputs(graph), outputs=_outputs(graph.main.tensors[graph.main.outputs[0]])
        ),
    }
    for name, text in texts.items():
        write_file(str(place / name), [text.encode()])
    return MicroExport(operators, _rounded_up(arena), tuple(place / name for name in texts))


def adding(code: str) -> str:
    """Return the resolver's function that adds an operator.

    >>> adding("DEPTHWISE_CONV_2D"), adding("L2_NORMALIZATION"), adding("RELU6"), adding("BATCH_MATMUL")
    ('AddDepthwiseConv2D', 'AddL2Normalization', 'AddRelu6', 'AddBatchMatMul')
    """
    return "Add" + OWN_NAMES.get(
        code, "".join(part.capitalize() if not part[0].isdigit() else part for part in code.split("_"))
    )


def array_lines(content: bytes) -> str:
    """Return bytes as lines of a C array.

    >>> array_lines(bytes([0, 255]))
    '    0x00, 0xff,'
    """
    rows = (content[start : start + COLUMNS] for start in range(0, len(content), COLUMNS))
    return "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)


def arena_bytes(tflite: str) -> int:
    """Return the bytes that TFLite Micro's interpreter allocates for a file, measured in a process of its own.

    Raises:
        TfqError: tflite-micro is not installed, or refuses the file.
    """
    with temporary_folder() as folder:
        process = started("tfq_fine.devices.arena", folder, subprocess.PIPE, str(Path(tflite).resolve()), site=True)
        try:
            process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise TfqError(f"TFLite Micro did not open {tflite} within {TIMEOUT:.0f} seconds") from error
        finally:
            process.kill()
            process.wait()
        said = (folder / "errors").read_text(errors="replace").strip().splitlines()
    total = re.search(r"Arena allocation total (\d+) bytes", "\n".join(said))
    if process.returncode == 0 and total is not None:
        return int(total[1])
    if any("No module named 'tflite_micro'" in line for line in said):
        raise TfqError("the arena is measured by tflite-micro: pip install 'tfq-fine[micro]'")
    raise TfqError(f"TFLite Micro refuses {tflite}: {said[-1] if said else 'it gives no reason'}")


def _rounded_up(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def _inputs(graph: Graph) -> str:
    tensors = [graph.main.tensors[t] for t in graph.main.inputs]
    call = "  std::memset(interpreter.input({k})->data.raw, 0, interpreter.input({k})->bytes);  // {meaning}"
    return "\n".join(call.format(k=k, meaning=_meaning(tensor)) for k, tensor in enumerate(tensors))


def _outputs(tensor: Tensor) -> str:
    kinds = {
        "int8": ("int8", "%d"),
        "uint8": ("uint8", "%d"),
        "int16": ("i16", "%d"),
        "float32": ("f", "%g"),
        "int32": ("i32", "%d"),
    }
    field, form = kinds.get(tensor.dtype, ("raw", "%d"))
    width = "sizeof(float)" if field == "f" else f"sizeof(*interpreter.output(0)->data.{field})"
    return (
        f"  const TfLiteTensor* output = interpreter.output(0);  // {_meaning(tensor)}\n"
        f"  for (unsigned int k = 0; k < output->bytes / {width}; ++k) {{\n"
        f'    std::printf("{form}\\n", output->data.{field}[k]);\n'
        "  }"
    )


def _meaning(tensor: Tensor) -> str:
    """Return how codes are read, for a comment."""
    shape = "x".join(map(str, tensor.shape))
    if tensor.quantization is None:
        return f"{tensor.dtype} {shape}"
    scale, zero = float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])
    return f"{tensor.dtype} {shape}, value = {scale:.9g} * (code - {zero})"
