"""Devices: requests that a row makes, operators that it lacks, and sources for a microcontroller that compile."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tfq_fine as tfq
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.kernels import RUNTIMES
from tfq_converters.runtime import Runner
from tfq_fine.devices import DEVICES, export_micro, not_running
from tfq_fine.devices.micro_export import adding
from tfq_fine.devices.operators import MICRO

RANDOM = np.random.default_rng(2)
SAMPLES = RANDOM.normal(size=(20, 11)).astype(np.float32)


def _dense() -> bytes:
    """x [1, 11] -> FULLY_CONNECTED -> SOFTMAX."""
    weight = RANDOM.normal(size=(7, 11)).astype(np.float32)
    tensors = (
        Tensor("x", (1, 11), "float32"),
        Tensor("w", (7, 11), "float32", data=weight),
        Tensor("logits", (1, 7), "float32"),
        Tensor("scores", (1, 7), "float32"),
    )
    dense = {"fusedActivationFunction": 0, "weightsFormat": 0, "keepNumDims": False, "asymmetricQuantizeInputs": False}
    ops = (
        Op("FULLY_CONNECTED", (0, 1, -1), (2,), Options("FullyConnectedOptions", dense | {"quantizedBiasType": 0})),
        Op("SOFTMAX", (2,), (3,), Options("SoftmaxOptions", {"beta": 1.0})),
    )
    return flatbuffer.write(Graph((Subgraph("main", tensors, ops, (0,), (3,)),)))


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    place = tmp_path_factory.mktemp("micro")
    result = tfq.quantize(_dense(), data=SAMPLES, target="cortex-m")
    result.save(place / "model.tflite")
    return result, str(place / "model.tflite")


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_rows_name_what_exists(device):
    assert set(device.runtimes) <= set(RUNTIMES)
    assert device.recipe in tfq.RECIPES
    assert bool(device.not_measured) or device.name in ("pc", "openvino")  # the two that files were run on here
    assert device.sources or device.name == "pc"


def test_a_target_sets_what_is_not_given(micro):
    result, _ = micro
    graph = result.graph
    assert {graph.main.tensors[t].dtype for t in (*graph.main.inputs, *graph.main.outputs)} == {"int8"}
    assert result.report.recipe == "full_int8"
    assert not_running(graph, DEVICES["cortex-m"]) == []
    own = tfq.quantize(_dense(), "full_int16x8", SAMPLES, target="cortex-m", output_type="int16").graph
    assert [own.main.tensors[t].dtype for t in own.main.outputs] == ["int16"]
    with pytest.raises(TfqError, match=r"unknown target 'toaster'; known: pc, .*cortex-m"):
        tfq.quantize(_dense(), target="toaster")


def test_operators_that_a_device_lacks_are_named():
    tensors = (
        Tensor("x", (1, 4, 3), "float32", (-1, -1, 3)),
        Tensor("y", (1, 4, 3), "float32"),
        Tensor("z", (1, 4, 3), "float32"),
    )
    ops = (Op("GELU", (0,), (1,)), Op("TANH", (1,), (2,)))
    graph = Graph((Subgraph("main", tensors, ops, (0,), (2,)),))
    assert not_running(graph, DEVICES["pc"]) == []
    assert not_running(graph, DEVICES["esp32"]) == [
        "TFLite Micro has no GELU (1 operator)",
        "input x has no fixed shape",
    ]
    assert not_running(graph, DEVICES["edgetpu"]) == [
        "GELU is not among its operators (1 operator)",
        "TANH computes float32, not int8 (1 operator)",
        "input x has no fixed shape",
    ]


def test_all_operators_of_tflite_micro_have_a_name_in_its_resolver():
    names = {adding(code) for code in MICRO}
    assert len(names) == len(MICRO)
    assert {"AddConv2D", "AddAveragePool2D", "AddPadV2", "AddSpaceToBatchNd", "AddL2Pool2D", "AddSplitV"} <= names


STUBS = {
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": """#pragma once
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
#define TF_LITE_ENSURE_STATUS(a) do { if ((a) != kTfLiteOk) return kTfLiteError; } while (0)
namespace tflite { template <unsigned int n> struct MicroMutableOpResolver { %s }; }
""",
    "tensorflow/lite/micro/micro_interpreter.h": """#pragma once
#include <cstddef>
struct TfLiteTensor {
  union { signed char* int8; unsigned char* uint8; short* i16; float* f; int* i32; char* raw; } data;
  std::size_t bytes; };
namespace tflite { struct Model {}; template <typename T> struct Anything {};
struct MicroInterpreter { template <typename R> MicroInterpreter(const Model*, R&, unsigned char*, std::size_t) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; } TfLiteStatus Invoke() { return kTfLiteOk; }
  TfLiteTensor* input(int) { return &tensor; } TfLiteTensor* output(int) { return &tensor; } TfLiteTensor tensor{}; }; }
""",
    "tensorflow/lite/schema/schema_generated.h": """#pragma once
namespace tflite { inline const Model* GetModel(const void*) { return nullptr; } }
""",
}
CHECK = """#include "model_data.h"
#include <cstdint>
#include <cstdio>
int main() { if (reinterpret_cast<std::uintptr_t>(g_model) % 16) return 1;
  std::fwrite(g_model, 1, g_model_size, stdout); return 0; }
"""


def test_sources_hold_the_file_and_its_operators(micro, tmp_path):
    pytest.importorskip("tflite_micro")
    _, path = micro
    made = export_micro(path, str(tmp_path / "firmware"))
    assert made.operators == ("FULLY_CONNECTED", "SOFTMAX")
    texts = {file.name: file.read_text() for file in made.files}
    assert re.findall(r"resolver\.(\w+)\(\)", texts["model_operators.h"]) == ["AddFullyConnected", "AddSoftmax"]
    assert "kOperators = 2;" in texts["model_operators.h"]
    content = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2}),", texts["model_data.cc"]))
    assert content == Path(path).read_bytes()
    assert made.arena_bytes % 16 == 0
    assert 11 + 7 < made.arena_bytes < 20_000  # at least its activations, and no more than a small model takes


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_sources_compile(micro, tmp_path):
    """The array keeps its bytes and its alignment; the rest is compiled against stand-ins of TFLite Micro's headers."""
    pytest.importorskip("tflite_micro")
    _, path = micro
    export_micro(path, str(tmp_path))
    calls = "TfLiteStatus AddFullyConnected() { return kTfLiteOk; } TfLiteStatus AddSoftmax() { return kTfLiteOk; }"
    for name, text in STUBS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text % calls if "%s" in text else text)
    (tmp_path / "check.cc").write_text(CHECK)
    strict = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", str(tmp_path)]
    subprocess.run([*strict, "model_data.cc", "check.cc", "-o", "check"], cwd=tmp_path, check=True)
    assert subprocess.run(["./check"], cwd=tmp_path, check=True, capture_output=True).stdout == Path(path).read_bytes()
    subprocess.run([*strict, "-c", "main.cc"], cwd=tmp_path, check=True)


def test_what_cannot_run_there_is_not_exported(tmp_path):
    (tmp_path / "float.tflite").write_bytes(b"no file")
    with pytest.raises(TfqError, match="is not a TFLite file"):
        export_micro(str(tmp_path / "float.tflite"), str(tmp_path / "out"))
    tensors = (Tensor("x", (1, 3), "float32"), Tensor("y", (1, 3), "float32"))
    graph = Graph((Subgraph("main", tensors, (Op("GELU", (0,), (1,)),), (0,), (1,)),))
    (tmp_path / "gelu.tflite").write_bytes(flatbuffer.write(graph))
    with pytest.raises(TfqError, match="has no GELU"):
        export_micro(str(tmp_path / "gelu.tflite"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_file_runs(micro):
    result, _ = micro
    runner = Runner(result.content)
    assert runner.run([np.zeros((1, 11), np.int8)])[0].shape == (1, 7)
