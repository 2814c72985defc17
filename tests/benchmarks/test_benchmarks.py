"""The pieces of the benchmarks: time in turns, memory of a tree, tables, and every tool on a tiny model."""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks import ablation, accuracy, full_int8, latency
from benchmarks.accuracy import Row
from benchmarks.arguments import names_of
from benchmarks.evaluation import Evaluation, evaluate, has_int16_activations, outputs
from benchmarks.file_latency import time_files
from benchmarks.float_files import Files, write_files
from benchmarks.full_int8 import Measured
from benchmarks.memory import peak_while_running
from benchmarks.tables import Table, save
from benchmarks.timing import FEWEST_ROUNDS, in_turns
from benchmarks.tool_run import ToolFailed, ToolRun, run_tool
from benchmarks.tools import PEERS, TOOLS
from benchmarks.zoo import Case
from tfq_converters import flatbuffer
from tfq_fine.numerics.errors import ErrorSums

SAMPLES = 20


@dataclass
class FakeTime:
    """A clock that only moves when something runs, and what ran."""

    now: int = 0
    ran: list[str] = field(default_factory=list)

    def run(self, name: str, cost: int):
        def spend() -> None:
            self.now += cost
            self.ran.append(name)

        return spend


def test_runs_take_turns():
    fake = FakeTime()
    times = in_turns({"a": fake.run("a", 10), "b": fake.run("b", 30)}, seconds=0, least_ns=10, clock=lambda: fake.now)
    assert "".join(fake.ran) == "aabb" + "abba" * (FEWEST_ROUNDS // 2) + "ab"
    assert (times.median("a"), times.median("b"), times.ratio("b", "a")) == (10, 30, 3)


def test_short_runs_are_repeated():
    fake = FakeTime()
    times = in_turns({"a": fake.run("a", 10), "b": fake.run("b", 30)}, seconds=0, least_ns=90, clock=lambda: fake.now)
    assert "".join(fake.ran).startswith("aabb" + 9 * "a" + 3 * "b" + 3 * "b" + 9 * "a")
    assert (times.median("a"), times.median("b")) == (10, 30)  # of one run, not of a batch


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_children_counts():
    held = 64 * 2**20
    child = f"import time; kept = b'x' * {held}; time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-P', '-c', {child!r}])"
    peak = peak_while_running(subprocess.Popen([sys.executable, "-P", "-c", parent]))
    assert held < peak < 3 * held  # two interpreters take far less than the rest


def test_names_are_known():
    assert names_of(["a", "b"])("b, a") == ("b", "a")
    with pytest.raises(argparse.ArgumentTypeError, match="unknown: c; known: a, b"):
        names_of(["a", "b"])("a,c")


def test_accuracy_table(tmp_path, capsys):
    rows = [Row("m", "full_int8", Evaluation(500, 0.8, 0.7904, 23.12, 98688)), Row("m", "litert_quantizer_int8", None)]
    table = accuracy.table(rows)
    assert "| m | tfq_fine full_int8 | 79.04 | -0.96 | 23.1 | 98,688 | 500 |" in table.markdown().splitlines()
    assert "| m | litert-quantizer 0.11 int8 | fails |  |  |  |  |" in table.markdown()
    table.show()
    assert "79.04" in capsys.readouterr().out
    save(tmp_path / "new" / "a.json", [table, table], {"rows": [1]})
    assert json.loads((tmp_path / "new" / "a.json").read_text())["rows"] == [1]
    assert (tmp_path / "new" / "a.md").read_text().count(table.markdown()) == 2


def test_ablation_table():
    """A line per setting, a column per model; what stayed is said."""
    settings = ("float", *ablation.SETTINGS, ablation.CONVERTER)
    rows = [
        ablation.Row(case, setting, Evaluation(50, 0.9, 0.5 + n / 100, 10.0 + n, 1), ("cross_layer",) * (case == "b"))
        for case in ("a", "b")
        for n, setting in enumerate(settings)
    ]
    table = ablation.table(rows)
    assert table.rows[1] == ("all off", "51.00 / 11.0", "51.00 / 11.0")
    assert len(table.rows) == 2 + 2 + 2 * len(ablation.TRANSFORMS) and all(len(row) == 3 for row in table.rows)
    assert table.notes[-1] == "What stayed of all: a: none; b: cross_layer."
    assert set(ablation.SETTINGS["without cross_layer"]) == set(ablation.TRANSFORMS) - {"cross_layer"}


def test_rows_and_columns_are_as_many():
    (first, *_), rule = Table("t", ("a", "b", "c"), (("1", "2", "3"),), labels=1).markdown().splitlines()[2:4], 4
    assert first.count("|") == rule


def test_full_int8_table_compares_medians():
    def runs(*seconds: float, calibration: float | None = 1.0) -> tuple[ToolRun, ...]:
        return tuple(ToolRun(s, s, calibration, 2**21, 0, 2**22) for s in seconds)

    rows = [
        Measured("m", full_int8.OURS, runs(1, 9, 2), 0.5, 0.25, 10),
        Measured("m", "tflite_converter_int8", runs(8, 18, 6, calibration=None), 1.0, 0.5, 20),
    ]
    ours, theirs = full_int8.table(rows).rows
    assert ours[3:] == ("1.00", "2.00", "2.00", "4", "2", "0.50", "0.25", "10")
    assert theirs[3:5] == ("–", "8.00 (3.00x)")  # rounds: 8, 2 and 3 times ours


def test_latency_table_names_offenders():
    ratios = {latency.AGAIN: 0.95, "float16": 1.1, "weight_only_int8": 1.04, "dynamic_int8": 0.5, "full_int16x8": 9.0}
    rows = [latency.Row("m", name, ratio, 1.0, ratio, name == "full_int16x8") for name, ratio in ratios.items()]
    table = latency.table(rows)
    assert table.rows == (("m", "1.000", "0.95", "**1.10**", "1.04", "0.50", "9.00"),)
    assert table.notes[-1].endswith(": m float16 1.10.")  # 1.04 may be noise where the same file gives 0.95


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    """A tiny CNN on disk; its labels are its own answers.

    It is calibrated on the test samples, or what lies outside the range would be most of the error.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    stack = [keras.Input((9, 7, 3)), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(5)]
    model = keras.Sequential(stack, name="tiny")
    samples = np.random.default_rng(0).normal(size=(SAMPLES, 9, 7, 3)).astype(np.float32)
    labels = np.asarray(model(samples)).argmax(1)
    return write_files(Case("tiny", model, samples, samples, labels, 5), tmp_path_factory.mktemp("tiny"))


# litert-quantizer's way to see every tensor:
@pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tensors:UserWarning")
@pytest.mark.parametrize("tool", ["full_int8", "dynamic_int8", *PEERS])
def test_tools_make_files_that_compute_the_same(files, tool, tmp_path):
    made = TOOLS[tool].load()(files, files.calibration())
    path = tmp_path / "made.tflite"
    path.write_bytes(made.content)
    expected = outputs(files.tflite, files.test())
    assert expected.shape == (SAMPLES, 5)
    # 8 bits over two layers stay above 25 dB; litert-quantizer's moving average of the ranges clips much of them
    least = 5 if tool.startswith("litert_quantizer") else 25
    assert ErrorSums.of(expected, outputs(path, files.test())).sqnr_db > least
    times_itself = TOOLS[tool].source == "float .tflite"  # dynamic_int8 calibrates to correct its biases
    assert (made.calibration_s is not None) == times_itself
    assert not has_int16_activations(flatbuffer.read(made.content))


def test_a_run_in_a_process_of_its_own(files, tmp_path):
    output = tmp_path / "made.tflite"
    run = run_tool("full_int8", files, output, samples=SAMPLES)
    assert run.calibration_s is not None and 0 < run.calibration_s < run.seconds
    assert run.cpu_s > 0 and min(run.tree_peak, run.self_peak, run.children_peak) > 2**20
    found = evaluate(output, files.test(), files.labels(), outputs(files.tflite, files.test()))
    assert (found.samples, found.float_top1, found.bytes) == (SAMPLES, 1, output.stat().st_size)
    assert found.top1 > 0.8 and found.sqnr_db > 25
    times = time_files({"float": files.tflite, "full_int8": output}, files.test()[:1], seconds=0)
    assert times.ratio("full_int8", "float") > 0
    calibration = full_int8.calibration("tiny", files, repeats=1)
    assert calibration.ratio == pytest.approx(calibration.seconds / calibration.inference_s)


def test_a_failing_tool_says_why(tmp_path):
    with pytest.raises(ToolFailed, match=r"full_int8 on .*exit code 1(.|\n)*calibration\.npy"):
        run_tool("full_int8", Files(tmp_path), tmp_path / "made.tflite")
