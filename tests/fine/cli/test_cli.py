"""The command line as a user runs it: what it prints, what it writes, and its exit codes."""

import dataclasses
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import logging

import tfq_fine as tfq
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op, Options, Quantization, Signature, Subgraph, Tensor
from tfq_fine.cli import calibrate as calibrate_command
from tfq_fine.cli import main, program
from tfq_fine.cli import quantize as quantize_command
from tfq_fine.cli import verify as verify_command
from tfq_fine.cli.arguments import parse
from tfq_fine.cli.data_argument import data_of
from tfq_fine.cli.native_output import hidden_native_output
from tfq_fine.report import FileSize, QuantizationReport, Report

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "converters")])}
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(5, 64)).astype(np.float32)
SAMPLES = RNG.normal(size=(40, 64)).astype(np.float32)


def run(*arguments: str | Path, cwd: Path, **options) -> Any:
    """`python -m tfq_fine` in a process of its own."""
    command = [sys.executable, "-P", "-m", "tfq_fine", *map(str, arguments)]
    defaults: dict[str, Any] = {"env": ENVIRONMENT, "text": True, "capture_output": True}
    return subprocess.run(command, cwd=cwd, **(defaults | options))


def _graph(weight: Tensor) -> Graph:
    """Scores of 5 classes."""
    tensors = (
        Tensor("x", (1, 64), "float32", (-1, 64)),
        weight,
        Tensor("logits", (1, 5), "float32", (-1, 5)),
        Tensor("scores", (1, 5), "float32", (-1, 5)),
    )
    dense = Options(
        "FullyConnectedOptions",
        {
            "fusedActivationFunction": 0,
            "weightsFormat": 0,
            "keepNumDims": False,
            "asymmetricQuantizeInputs": True,
            "quantizedBiasType": 0,
        },
    )
    ops = (
        Op("FULLY_CONNECTED", (0, 1, -1), (2,), dense),
        Op("SOFTMAX", (2,), (3,), Options("SoftmaxOptions", {"beta": 1.0})),
    )
    signature = Signature("serving_default", 0, (("x", 0),), (("scores", 3),))
    return Graph((Subgraph("main", tensors, ops, (0,), (3,)),), (signature,), {"min_runtime_version": b"2.3.0\0"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """float.tflite, int8.tflite (close to it), noisy.tflite (not), and data; the float one gets all labels right."""
    where = tmp_path_factory.mktemp("files")
    scale = np.abs(WEIGHT).max(axis=1) / 127
    codes = np.rint(WEIGHT / scale[:, None]).astype(np.int8)
    quantization = Quantization(scale.astype(np.float32), np.zeros(5, np.int64), 0)
    weights = {
        "float": Tensor("kernel", WEIGHT.shape, "float32", data=WEIGHT),
        "int8": Tensor("kernel", WEIGHT.shape, "int8", data=codes, quantization=quantization),
        "noisy": Tensor("kernel", WEIGHT.shape, "float32", data=WEIGHT + RNG.normal(size=WEIGHT.shape).astype("f")),
    }
    for name, weight in weights.items():
        flatbuffer.save(_graph(weight), where / f"{name}.tflite")
    np.savez(where / "test.npz", x=SAMPLES, labels=(SAMPLES @ WEIGHT.T).argmax(1))
    np.savez(where / "calib.npz", x=SAMPLES)
    return where


def _files(where: Path) -> set[str]:
    return {path.name for path in where.iterdir()}


# ----------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize("command", [(), ("quantize",), ("verify",), ("inspect",), ("recipes",), ("kernels",)])
def test_help_loads_nothing_heavy(command):
    code = (
        "import sys\n"
        "from tfq_fine.cli import main\n"
        "try:\n"
        f"    main({[*command, '--help']})\n"
        "finally:\n"
        "    heavy = {'numpy', 'rich', 'tensorflow', 'keras', 'ai_edge_litert', 'tfq_fine.api'} & set(sys.modules)\n"
        "    print(sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: tfq-fine")
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["quantise"], "invalid choice: 'quantise'"),
        (["quantize", "m.keras"], "-o/--output"),
        (["quantize", "m.keras", "--recipe", "float16"], "--output"),
        (["quantize", "m", "--recipe", "float16", "--output", "o", "--input-type", "int4"], "invalid choice: 'int4'"),
        (["quantize", "m", "--recipe", "float16", "--output", "o", "--samples", "0"], "at least 1, found 0"),
        (["verify", "m.tflite", "--data", "d.npz"], "TFLITE"),
        (["verify", "m", "q", "--data", "d", "--samples", "many"], "invalid positive_integer value: 'many'"),
        (["verify", "m", "q", "--data", "d", "--kernel", "default"], "unrecognized arguments: --kernel"),
        (["inspect"], "TFLITE"),
        (["recipes", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"tfq-fine {tfq.__version__}\n"


def test_hyphens_and_underscores():
    for option in ("--max-drop", "--max_drop"):
        found = program.parse(["tfq-fine", "verify", "m", "q", "--data", "d", option, "0.25", "--no-latency"])
        assert (found.max_drop, found.latency, found.layers, found.batch_size) == ("0.25", False, True, 1)


def test_the_timeout_is_a_number_of_seconds(capsys):
    for command in (["quantize", "m", "--recipe", "float16", "--output", "o"], ["verify", "m", "q", "--data", "d"]):
        assert program.parse(["tfq-fine", *command, "--timeout", "2.5"]).timeout == 2.5
        for bad in ("0", "-1", "nan", "soon"):
            with pytest.raises(SystemExit):
                program.parse(["tfq-fine", *command, f"--timeout={bad}"])
    assert "expected more than 0 seconds, found nan" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- recipes


def test_recipes(folder):
    done = run("recipes", cwd=folder)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(tfq.RECIPES)
    assert all(recipe.description in line for line, recipe in zip(lines, tfq.RECIPES.values(), strict=True))


# --------------------------------------------------------------------------------------------------- inspect


def test_inspect(folder):
    done = run("inspect", "int8.tflite", "--tensors", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    size = (folder / "int8.tflite").stat().st_size
    assert f"{size:,} bytes; subgraphs 1, tensors 4, operators 2; min_runtime_version 2.3.0" in done.stdout
    assert ["input", "x", "float32", "[?,", "64]"] in lines
    assert ["output", "scores", "float32", "[?,", "5]"] in lines
    assert ["FULLY_CONNECTED", "float32", "int8", "per-channel", "float32", "1", "1"] in lines
    assert ["SOFTMAX", "float32", "float32", "1", "1"] in lines
    assert ["int8", "320"] in lines
    assert ["serving_default", "0", "x", "scores"] in lines
    assert ["1", "kernel", "int8", "[5,", "64]", "5", "scales", "along", "axis", "0", "constant"] in lines
    assert "\x1b" not in done.stdout


# ---------------------------------------------------------------------------------------------------- verify


def test_verify_prints_and_writes_the_report(folder, tmp_path):
    done = run(
        "verify", "float.tflite", "int8.tflite", "--data", "test.npz", "--metric", "top1", "--max-drop", "0.05",
        "--report", tmp_path / "report.json", "--html", tmp_path / "report.html", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = Report.from_json((tmp_path / "report.json").read_text())
    printed, _, ending = done.stdout.partition("\n\nwrote ")
    assert printed == str(report)
    assert ending.splitlines()[-1].startswith("PASS: top1 got worse by ")
    assert report.samples == 40
    assert report.task is not None
    assert report.task.float_value == 1.0
    assert report.outputs[0].sqnr_db > 30  # 8 bits
    assert report.latency is not None
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert _files(tmp_path) == {"report.json", "report.html"}


@pytest.mark.parametrize(("allowed", "code"), [("90%", 0), ("0.01", 1), ("1%", 1)])
@pytest.mark.parametrize("option", ["--max-drop", "--max_drop"])
def test_verify_says_whether_it_passed(folder, tmp_path, allowed, code, option):
    done = run(
        "verify", "float.tflite", "noisy.tflite", "--data", "test.npz", "--metric", "top1", option, allowed,
        "--no-latency", "--report", tmp_path / "report.json", cwd=folder,
    )  # fmt: skip
    task = Report.from_json((tmp_path / "report.json").read_text()).task
    assert task is not None
    assert 0.01 < task.drop < 0.9
    assert done.returncode == code
    assert ("FAIL: top1 got worse by" in done.stderr) == (code == 1)
    assert "top1" in done.stdout  # the table is printed either way


def test_verify_takes_its_options(folder, tmp_path):
    done = run(
        "verify", "float.tflite", "int8.tflite", "--data", "calib.npz", "--samples", "9", "--batch-size", "4",
        "--kernels", "reference", "--threads", "2", "--no-layers", "--report", tmp_path / "r.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = Report.from_json((tmp_path / "r.json").read_text())
    assert report.latency is not None
    assert (report.samples, report.kernels, report.layers, report.task) == (9, "reference", (), None)
    assert (report.latency.batch_size, report.latency.threads) == (4, 2)


# -------------------------------------------------------------------------------------------------- quantize


@pytest.fixture(params=["full_int8 in processes", *tfq.RECIPES])
def recipe_and_run(request, monkeypatch, capsys) -> tuple[str, Callable[..., Any]]:
    """A recipe, and how a command is run: in this process, which has loaded all; a user's in processes of its own."""

    def run_here(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        with pytest.raises(SystemExit) as stopped:
            main(list(map(str, arguments)))
        return subprocess.CompletedProcess(arguments, stopped.value.code, *capsys.readouterr())

    recipe, _, apart = request.param.partition(" in ")
    return recipe, run if apart else run_here


def test_quantize_then_verify(folder, tmp_path, recipe_and_run):
    recipe, run = recipe_and_run
    out, report = tmp_path / "model.tflite", tmp_path / "report.json"
    done = run(
        "quantize", "float.tflite", "--recipe", recipe, "--data", "calib.npz", "--output", out, "--report", report,
        "--html", tmp_path / "report.html", "--prefer", "size", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _files(tmp_path) == {"model.tflite", "report.json", "report.html"}
    found = QuantizationReport.from_json(report.read_text())
    printed, _, ending = done.stdout.partition("\n\nwrote ")
    assert printed == str(found)
    assert ending.splitlines() == [
        f"{out} ({found.file_bytes:,} bytes)",
        *(f"wrote {path} ({path.stat().st_size:,} bytes)" for path in (report, tmp_path / "report.html")),
        f"next: tfq-fine verify float.tflite {out} -d calib.npz",
    ]
    assert (found.recipe, found.file_bytes) == (recipe, out.stat().st_size)
    assert found.float_bytes == (folder / "float.tflite").stat().st_size
    checked = run("verify", "float.tflite", out, "--data", "test.npz", "--no-latency", cwd=folder)
    assert checked.returncode == 0, checked.stderr


STOP = "far enough"


def _recorder(found: dict):
    def record(*arguments, **options):
        found.update(options, arguments=arguments)
        raise tfq.TfqError(STOP)

    return record


@pytest.mark.parametrize(("given", "safe_mode"), [((), True), (("--unsafe",), False)], ids=["safe", "unsafe"])
def test_options_reach_the_library(given, safe_mode, tmp_path, monkeypatch, capsys):
    found: dict = {}
    monkeypatch.setattr(quantize_command, "quantize", _recorder(found))
    monkeypatch.setattr(verify_command, "verify", _recorder(found))
    monkeypatch.chdir(tmp_path)
    arguments = ("quantize", "m", "--recipe", "float16", "--output", "o", "--prefer", "size", "--samples", "3", *given)
    with pytest.raises(SystemExit):
        main(arguments)
    assert found == {
        "arguments": ("m", tfq.RECIPES["float16"], None),
        "input_type": "float32",
        "output_type": "float32",
        "prefer": "size",
        "quality": "balanced",
        "runtimes": ("litert", "tflite"),
        "on_unsupported": None,
        "transforms": ("fold_batch_norm", "cross_layer", "smooth_quant", "bounded_masks", "bias_correction", "islands"),
        "kernels": None,
        "observer": None,
        "on_invalid": "error",
        "statistics": None,
        "num_samples": 3,
        "safe_mode": safe_mode,
        "timeout": None,
        "cache_dir": None,
        "layers": False,
        "target": None,
    }
    found.clear()
    with pytest.raises(SystemExit):
        main(("verify", "m", "q", "--data", "d", *given))
    assert found["arguments"] == ("m", "q", "d")
    assert found["safe_mode"] is safe_mode
    assert STOP in capsys.readouterr().err


def test_a_preset_of_few_bits_keeps_speed_in_mind(tmp_path):
    """As from Python: 3x3 convolutions stay at 8 bits unless size is preferred, and nothing has to be asked for."""
    (tmp_path / "cnn.tflite").write_bytes(flatbuffer.write(small_cnn()))
    np.savez(tmp_path / "data.npz", images=images(8))
    for prefer, weights in (("speed", "int8 per-channel"), ("size", "int4 per-channel")):
        done = run(
            "quantize", "cnn.tflite", "--recipe", "full_w4a8", "--data", "data.npz", "--output", "m.tflite",
            "--report", "report.json", "--prefer", prefer, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = QuantizationReport.from_json((tmp_path / "report.json").read_text()).rows
        assert [row.weights for row in rows if row.code == "CONV_2D"] == [weights]


def test_quantize_takes_a_recipe_from_a_file_and_types_of_the_borders(folder, tmp_path):
    (tmp_path / "mine.json").write_text(tfq.RECIPES["full_int8"].to_json())
    done = run(
        "quantize", "float.tflite", "--recipe", tmp_path / "mine.json", "--data", "calib.npz", "--output",
        tmp_path / "m.tflite", "--input-type", "int8", "--output_type", "uint8", "--samples", "8", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    main_graph = flatbuffer.read(tmp_path / "m.tflite").main
    assert main_graph.tensors[main_graph.inputs[0]].dtype == "int8"
    assert main_graph.tensors[main_graph.outputs[0]].dtype == "uint8"


# ------------------------------------------------------------------------------------------------- bad input

QUANTIZE = ("quantize", "float.tflite", "--recipe", "full_int8", "--data", "calib.npz", "--output", "out.tflite")
VERIFY = ("verify", "float.tflite", "int8.tflite", "--data", "test.npz")


def _with(arguments: Sequence[str], **changes: str) -> list[str]:
    """`arguments` with other values of options, or of the first positional ones."""
    found = list(arguments)
    for name, value in changes.items():
        if f"--{name}" in found:
            found[found.index(f"--{name}") + 1] = value
        elif name in ("model", "tflite"):
            found[1 if name == "model" else 2] = value
        else:
            found += [f"--{name}", value]
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (_with(QUANTIZE, model="no.keras"), "no.keras does not exist"),
        (_with(QUANTIZE, model="test.npz"), "test.npz is neither"),
        (_with(QUANTIZE, model="int8.tflite"), "already quantized"),
        (_with(QUANTIZE, recipe="full_int9"), "unknown recipe 'full_int9'"),
        (
            _with(QUANTIZE, recipe="dynamic_int8", runtime="tflite-micro"),
            "nearest: int8 per-tensor in mode weight_only",
        ),
        (_with(QUANTIZE, kernels="test.npz"), "kernel table test.npz cannot be read"),
        (_with(QUANTIZE, recipe="no.json"), "no.json cannot be read"),
        (_with(QUANTIZE, data="no.npz"), "no.npz cannot be read"),
        (QUANTIZE[:4] + QUANTIZE[6:], "needs representative data"),
        (_with(QUANTIZE, output="no/out.tflite"), "--output: no/out.tflite cannot be written: there is no folder"),
        (_with(QUANTIZE, output="."), "is a folder"),
        (_with(QUANTIZE, output="float.tflite"), "float.tflite is an input, and would be overwritten"),
        (_with(QUANTIZE, report="out.tflite"), "out.tflite is the file of --output too"),
        (_with(QUANTIZE, report="no/a.json", html="no/b.html"), "2 problems"),
        (_with(VERIFY, model="no.tflite"), "no.tflite does not exist"),
        (_with(VERIFY, tflite="no.tflite"), "no.tflite cannot be read"),
        (_with(VERIFY, tflite="test.npz"), "test.npz is not a TFLite file"),
        (_with(VERIFY, data="int8.tflite"), "none of .npz, .npy and .csv"),
        (_with(VERIFY, metric="f1"), "unknown metric 'f1'"),
        (_with(VERIFY, metric="top1", data="calib.npz"), "metric 'top1' needs labels"),
        ([*VERIFY, "--max-drop", "0.1"], "--max-drop needs --metric"),
        ([*VERIFY, "--metric", "top1", "--max-drop", "1"], "write 1% for 1 of 100"),
        ([*VERIFY, "--metric", "top1", "--max-drop=-0.1"], "expected a number from 0"),
        (_with(VERIFY, report="test.npz"), "test.npz is an input"),
        (("inspect", "no.tflite"), "no.tflite cannot be read"),
        (("inspect", "test.npz"), "test.npz is not a TFLite file"),
    ],
)
def test_bad_input_gets_one_clear_message(folder, arguments, message):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("tfq-fine: ")  # no line of a runtime comes before it
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_data_that_holds_objects_is_not_unpickled(folder, tmp_path):
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))
    done = run(*_with(VERIFY, data=str(tmp_path / "evil.npz")), cwd=folder)
    assert done.returncode == 2
    assert "without pickle" in done.stderr


# -------------------------------------------------------------------------------------- stdout, pipes, links


CALIBRATE = ("calibrate", "float.tflite", "--data", "calib.npz")


@pytest.mark.parametrize("path", ["-", "/dev/stdout"])
def test_an_output_that_is_stdout_stays_alone_there(folder, tmp_path, path):
    done = run(*_with(QUANTIZE, output=path), cwd=folder, text=False)
    assert done.returncode == 0, done.stderr
    assert flatbuffer.read(done.stdout).main.ops and b"Recipe full_int8" in done.stderr
    assert done.stdout == _written(tmp_path, folder, *_with(QUANTIZE, output=str(tmp_path / "m.tflite")))
    saved = run(*CALIBRATE, "--output", path, cwd=folder, text=False)
    (tmp_path / "s.npz").write_bytes(saved.stdout)
    assert tfq.Statistics.load(tmp_path / "s.npz").samples == 40 and b"40 samples" in saved.stderr
    told = run(*VERIFY, "--no-latency", "--report", path, cwd=folder)
    assert Report.from_json(told.stdout).samples == 40 and "Float against quantized" in told.stderr


def _written(tmp_path: Path, folder: Path, *arguments: str) -> bytes:
    assert run(*arguments, cwd=folder).returncode == 0
    (made,) = tmp_path.glob("*.tflite")
    return made.read_bytes()


def test_stdout_that_is_a_file_is_not_replaced(folder, tmp_path):
    """The shell's `> file` next to `--output file`: the shell's file is written, and nothing is lost."""
    with (tmp_path / "s.npz").open("wb") as file:
        before = os.fstat(file.fileno()).st_ino
        done = run(*CALIBRATE, "--output", tmp_path / "s.npz", cwd=folder, capture_output=False, stdout=file)
    assert done.returncode == 0 and (tmp_path / "s.npz").stat().st_ino == before
    assert tfq.Statistics.load(tmp_path / "s.npz").samples == 40


def test_only_one_output_can_be_stdout(folder):
    done = run(*_with(QUANTIZE, output="-", report="-"), cwd=folder)
    assert done.returncode == 2 and "- is the file of --output too" in done.stderr and done.stdout == ""


def test_stdout_that_nobody_reads_is_no_error(folder):
    reading, writing = os.pipe()
    os.close(reading)
    command = (*CALIBRATE, "--output", "-")
    done = run(*command, cwd=folder, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 141 and "Traceback" not in done.stderr


def test_an_output_that_is_a_fifo_or_a_link_stays_one(folder, tmp_path):
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to("target.tflite")
    reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)
    done = run(*_with(QUANTIZE, output=str(link), report=str(fifo)), cwd=folder)
    assert done.returncode == 0, done.stderr
    report, _ = reader.communicate(timeout=20)
    assert QuantizationReport.from_json(report.decode()).recipe == "full_int8"
    assert fifo.is_fifo() and link.is_symlink() and flatbuffer.read(tmp_path / "target.tflite").main.ops
    assert _files(tmp_path) == {"fifo", "link", "target.tflite"}


def test_modules_in_the_current_folder_are_not_imported(folder, tmp_path):
    """No child process takes what lies there for a package."""
    for name in ("numpy", "flatbuffers", "ai_edge_litert", "json", "tfq_converters"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.ran', 'w').close()\n")
    shutil.copy(folder / "float.tflite", tmp_path)
    shutil.copy(folder / "calib.npz", tmp_path)
    done = run(*QUANTIZE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.ran")) == []
    # A script that lies elsewhere and looks in the current folder for modules of its own, once it has what it needs.
    code = "import sys, tfq_fine as tfq; tfq.quantize; sys.path.insert(0, sys.argv[1]); tfq.quantize('float.tflite')"
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    script = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert script.returncode == 0, script.stderr
    assert list(tmp_path.glob("*.ran")) == []


# ------------------------------------------------------------------------------- interrupts, pipes, terminals


def _main_with(body: str, arguments: Sequence[str] = ("recipes",)) -> list[str]:
    """A command line whose `recipes` does something else."""
    code = f"import sys, time\nimport tfq_fine.cli.recipes as command\n{body}\ncommand.run = run\n"
    return [sys.executable, "-P", "-c", f"{code}from tfq_fine.cli import main\nmain({list(arguments)})"]


def _takes_interrupts() -> None:
    """In a new process: what runs in the background of a shell would ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_ends_cleanly():
    body = "def run(arguments):\n    print('ready', flush=True)\n    time.sleep(60)"
    with subprocess.Popen(
        _main_with(body),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_takes_interrupts,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.startswith("tfq-fine: interrupted")
    assert "Traceback" not in errors


def test_an_interrupt_while_writing_leaves_no_half_written_file(tmp_path, monkeypatch):
    report = Report(1, (), FileSize(1), FileSize(1))
    monkeypatch.setattr(os, "replace", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        report.save(tmp_path / "report.json")
    assert _files(tmp_path) == set()


def _interrupt(*_):
    raise KeyboardInterrupt


def test_a_defect_is_told_from_a_verification_that_fell_short():
    done = subprocess.run(
        _main_with("def run(arguments):\n    raise RuntimeError('oops')"),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 70
    assert "RuntimeError: oops" in done.stderr
    assert "a defect of the program" in done.stderr


def test_a_reader_that_goes_away_is_no_error(folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = run("inspect", "int8.tflite", cwd=folder, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ""


def test_messages_of_absl(folder):
    quiet, loud = run(*VERIFY, "--no-latency", cwd=folder), run(*VERIFY, "--no-latency", "--verbosity=0", cwd=folder)
    assert "comparing int8.tflite with float.tflite" not in quiet.stderr
    assert "comparing int8.tflite with float.tflite" in loud.stderr


def _in_terminal(stream: str, folder: Path) -> str:
    """What `verify` writes to `stream` when that is a terminal."""
    leader, follower = pty.openpty()
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {stream: follower}
    done = run(*VERIFY, "--no-latency", cwd=folder, capture_output=False, **options)
    assert done.returncode == 0
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux says so at the end of what was written
            break
        if not part:
            break
        written += part
    os.close(leader)
    return written.decode()


def test_a_terminal_gets_colours(folder):
    assert "\x1b[1m" in _in_terminal("stdout", folder)


def test_progress_is_shown_on_a_terminal_only(folder):
    assert "40 samples" in _in_terminal("stderr", folder)
    forced = {**ENVIRONMENT, "FORCE_COLOR": "1"}
    assert "samples" not in run(*VERIFY, "--no-latency", cwd=folder, env=forced).stderr


def test_mistakes_in_the_data_are_told_once(folder, tmp_path):
    done = run(*_with(QUANTIZE, output=str(tmp_path / "m.tflite"), samples="1"), cwd=folder)
    assert done.returncode == 0 and (done.stdout + done.stderr).count("the data has 1 sample") == 1


def test_reports_are_json_for_other_programs(folder, tmp_path):
    run(*VERIFY, "--no-latency", "--report", tmp_path / "r.json", cwd=folder)
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["kind"] == "tfq_fine.verification_report"
    assert content["outputs"][0]["sqnr_db"] > 30


def test_calibrate_then_quantize_from_its_statistics(folder, tmp_path):
    made = tmp_path / "s.npz"
    calibrate = ("calibrate", "float.tflite", "--data", "calib.npz", "--observer", "mse", "--output", made)
    done = run(*calibrate, "--samples", "20", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "20 samples, 3 tensors"
    assert run(*calibrate[:-1], tmp_path / "both.npz", "--resume", made, cwd=folder).stdout.startswith("60 samples")
    quantize = ("quantize", "float.tflite", "--recipe", "full_int8", "--observer", "mse")
    given = run(*quantize, "--statistics", made, "--output", tmp_path / "a.tflite", cwd=folder)
    direct = run(*quantize, "--data", "calib.npz", "--samples", "20", "--output", tmp_path / "b.tflite", cwd=folder)
    assert given.returncode == direct.returncode == 0, given.stderr + direct.stderr
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_bad_samples_are_an_error_or_skipped(folder, tmp_path):
    data = SAMPLES.copy()
    data[7, 3] = np.nan
    np.savez(tmp_path / "bad.npz", x=data)
    calibrate = ("calibrate", folder / "float.tflite", "--data", "bad.npz", "--output", "s.npz")
    refused = run(*calibrate, cwd=tmp_path)
    assert refused.returncode == 2 and "sample 7: nan is not a finite number" in refused.stderr
    skipped = run(*calibrate, "--on-invalid", "skip", cwd=tmp_path)
    assert skipped.returncode == 0 and skipped.stdout.startswith("39 samples, 1 skipped")


INTERRUPTED = """
import itertools, os, signal, sys
import numpy as np
from tfq_fine.api import calibrate

def data():
    for n in itertools.count():
        if n == 30:
            os.kill(os.getpid(), signal.SIGINT)
        yield np.full((1, 64), n, np.float32)

found = calibrate(sys.argv[1], data, progress=False)
assert 1 <= found.samples <= 31, found.samples
print(found.warnings[0])
"""


def test_ctrl_c_keeps_what_was_gathered(folder):
    command = [sys.executable, "-P", "-c", INTERRUPTED, "float.tflite"]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, text=True, capture_output=True, preexec_fn=_takes_interrupts
    )
    assert done.returncode == 0, done.stderr
    assert "calibration was interrupted: the statistics are those of the first" in done.stdout


def test_the_progress_of_a_calibration_has_rate_and_time_left(folder, tmp_path):
    leader, follower = pty.openpty()
    command = ("calibrate", "float.tflite", "--data", "calib.npz", "--output", tmp_path / "s.npz")
    done = run(*command, cwd=folder, capture_output=False, stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    shown = os.read(leader, 2**16).decode()
    os.close(leader)
    assert done.returncode == 0
    assert "calibrating" in shown and "/40" in shown


# ------------------------------------------------------------------------------------- what helps on a terminal


@pytest.mark.parametrize(
    "command", ["quantize", "search", "analyze", "calibrate", "verify", "compare", "inspect", "kernels"]
)
def test_help_has_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    examples = [line.split()[1:] for line in printed.partition("examples:")[2].splitlines() if line]
    assert examples
    for example in examples:
        assert parse(["tfq-fine", *example]).command == command


def test_short_options_and_sizes_of_images():
    words = ["-r", "full_int8", "-d", "photos", "-o", "m.tflite", "--image-size", "32x48"]
    arguments = parse(["tfq-fine", "quantize", "m.keras", *words])
    assert (arguments.recipe, arguments.data, arguments.output) == ("full_int8", ["photos"], "m.tflite")
    assert arguments.image_size == (32, 48)
    assert arguments.command_line.startswith("tfq-fine quantize m.keras -r full_int8")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("quantise m.keras", "quantize"),
        ("quantize m.keras -r float16 -o m.tflite --ouput x", "--output"),
        ("verify m.keras m.tflite -d x.npz --max_dorp 1%", "--max-drop"),
        ("quantize m.keras -r float16 -o m.tflite --quality bst", "best"),
    ],
)
def test_mistyped_words_get_a_suggestion(words, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["tfq-fine", *words.split()])
    assert ended.value.code == 2
    assert f"(did you mean {meant}?)" in capsys.readouterr().err


def test_a_metric_within_its_limit_passes_aloud(folder):
    done = run(*VERIFY, "--no-latency", "--no-layers", "--metric", "top1", "--max-drop", "50%", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "\nPASS: top1 got worse by" in done.stdout


def test_errors_name_options_of_the_command(folder, tmp_path):
    done = run(*QUANTIZE[:4], "--output", tmp_path / "m.tflite", cwd=folder)
    assert done.returncode == 2
    assert "give --data ..., or --statistics ..." in done.stderr


def test_data_may_be_a_folder_of_images(tmp_path, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        png = tf.io.encode_png(RNG.integers(0, 256, (9, 7, 3), np.uint8)).numpy()
        (tmp_path / "photos" / name / "1.png").write_bytes(png)
    monkeypatch.chdir(tmp_path)
    words = "tfq-fine verify m.keras m.tflite -d photos --image-size 8x4 --color grayscale --scale 0.5"
    folder = data_of(parse(words.split()))
    assert folder.classes == ["a", "b"]
    assert folder[0][0].shape == (1, 8, 4, 1)
    assert folder[0][0].max() <= 127.5
    with pytest.raises(tfq.TfqError, match="--image-size 224x224"):
        data_of(parse(["tfq-fine", "verify", "m.keras", "m.tflite", "-d", "photos"]))
    with pytest.raises(tfq.TfqError, match="--color, --offset: --data is no folder"):
        data_of(parse(["tfq-fine", "verify", "m.keras", "m.tflite", "-d", "x.npz", "--color", "rgb", "--offset", "1"]))


def test_calibrate_prints_the_widest_ranges(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(calibrate_command, "WIDEST", 1)
    for more, lines in ((), 1), (("--verbose",), 3):
        with pytest.raises(SystemExit) as ended:
            main([*CALIBRATE, *more, "--output", str(tmp_path / "s.npz")])
        assert ended.value.code == 0
        printed = capsys.readouterr().out.partition("\n\nwrote ")[0].splitlines()
        assert len(printed) == 2 + lines
        assert ("the 1 of the widest range" in printed[0]) == (lines == 1)
    table = tfq.Statistics.load(tmp_path / "s.npz")
    widest = max(table.ranges.values(), key=lambda limits: limits.high - limits.low)
    assert table.table(1).splitlines()[2].split()[0] == f"{widest.low:.4g}"


def test_an_interrupted_calibration_says_what_is_kept(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    whole = calibrate_command.calibrate
    warned = ("calibration was interrupted: the statistics are those of the first samples",)
    monkeypatch.setattr(
        calibrate_command, "calibrate", lambda *a, **k: dataclasses.replace(whole(*a, **k), warnings=warned)
    )
    with pytest.raises(SystemExit) as ended:
        main([*CALIBRATE, "--output", str(tmp_path / "s.npz")])
    assert ended.value.code == 130
    assert "interrupted: 40 samples are kept in" in capfd.readouterr().err
    assert tfq.Statistics.load(tmp_path / "s.npz").samples == 40


def test_lines_of_native_code_are_hidden_unless_asked_for(capfd):
    def printed(verbosity):
        before = logging.get_verbosity()
        logging.set_verbosity(verbosity)
        try:
            with hidden_native_output():
                os.write(2, b"INFO: native\n")
                print("a line of Python", file=sys.stderr)
        finally:
            logging.set_verbosity(before)
        return capfd.readouterr().err

    assert printed(logging.WARNING) == "a line of Python\n"
    assert sorted(printed(logging.DEBUG).splitlines()) == ["INFO: native", "a line of Python"]
