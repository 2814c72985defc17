"""Opening a file runs no code that the file brings along, and prints nothing."""

import io
import logging
import os
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from support.child_programs import done
from support.keras_models import run, shared
from tfq_converters.errors import TfqError
from tfq_converters.reading.conversion.silence import silenced
from tfq_converters.reading.reader import read_model


@pytest.mark.parametrize("framework", ["keras", "tf_keras"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_with_code_is_opened_only_on_demand(tmp_path: Path, framework: str, suffix: str):
    library: Any = keras if framework == "keras" else __import__("tf_keras")
    inner = library.Sequential([library.layers.Input((4,)), library.layers.Lambda(lambda x: x * 2, name="twice")])
    model = library.Sequential([library.layers.Input((4,)), inner], name="outer")
    path = tmp_path / f"model{suffix}"
    with silenced():  # tf_keras warns of .h5
        model.save(path)
    with pytest.raises(TfqError, match=r"runs code when it is opened(.|\n)*'twice' is a Lambda"):
        read_model(path)
    found = read_model(path, safe_mode=False)
    (output,) = run(found.graph, found.content, {found.graph.input_names()[0]: np.ones((1, 4), np.float32)}).values()
    np.testing.assert_array_equal(output, np.full((1, 4), 2.0))


def test_a_file_for_tf_keras_may_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """tf_keras imports whatever module a file names."""
    import tf_keras

    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(3, name="dense")], name="old")
    model.save(tmp_path / "good.keras")

    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "evil.keras", "w") as evil:
        for name in good.namelist():
            content = good.read(name).decode("latin-1")
            if name == "config.json":
                content = content.replace(
                    '"module": "keras.layers", "class_name": "Dense"', '"module": "evil_module", "class_name": "Dense"'
                )
                assert "evil_module" in content
            evil.writestr(name, content.encode("latin-1"))
    with pytest.raises(TfqError, match="'dense' is to be imported from module 'evil_module'"):
        read_model(tmp_path / "evil.keras")
    assert "evil_module" not in sys.modules


def test_a_graph_that_writes_files_is_not_run(tmp_path: Path):
    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((2,), tf.float32, name="x")])
        def call(self, x):
            tf.io.write_file(str(tmp_path / "written"), "text")
            return {"y": x + 1.0}

    writer = Writer()
    tf.saved_model.save(writer, str(tmp_path / "model"), signatures={"serving_default": writer.call})
    with pytest.raises(TfqError, match=r"reads files or runs code outside of its graph(.|\n)*is a WriteFile"):
        read_model(tmp_path / "model")
    assert not (tmp_path / "written").exists()


def test_reading_is_silent(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    model = shared()
    read_model(model)
    model.export(str(tmp_path / "folder"), verbose=False)
    capfd.readouterr()
    read_model(tmp_path / "folder")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_silence_catches_loggers_of_a_notebook(monkeypatch: pytest.MonkeyPatch):
    """There, streams send their text elsewhere than to a descriptor, and handlers hold such a stream."""
    cell = io.StringIO()
    monkeypatch.setattr(sys, "stderr", cell)
    logger, handler = logging.getLogger("noisy"), logging.StreamHandler()
    monkeypatch.setattr(logger, "handlers", [handler])
    with silenced() as caught:
        logger.error("inside")
        said = caught()
    logger.error("outside")
    assert "inside" in said and cell.getvalue() == "outside\n"
    assert handler.stream is cell


def test_silence_catches_everything_and_ends(capfd: pytest.CaptureFixture[str]):
    def talk() -> None:
        with silenced() as caught:
            print("from Python")
            os.write(2, b"from native code\n")
            sys.stderr.write("from a stream\n")
            raise ValueError(caught(), sys.stderr)

    with pytest.raises(ValueError, match="from Python") as error:
        talk()
    found, kept = error.value.args
    assert sorted(found.splitlines()) == ["from Python", "from a stream", "from native code"]
    print("after", file=sys.stdout)
    os.write(1, b"after natively\n")
    kept.write("a logger that kept the stream\n")
    captured = capfd.readouterr()
    assert captured.out == "after\nafter natively\n"
    assert captured.err == "a logger that kept the stream\n"


def test_silences_that_overlap_end_with_the_last(capfd: pytest.CaptureFixture[str]):
    """One thread leaves while another is still in: each gets back what it found only by counting."""
    entered, left, texts = threading.Event(), threading.Event(), {}

    def second() -> None:
        with silenced() as caught:
            print("in the second")
            entered.set()
            left.wait()
            os.write(1, b"still silent\n")
            texts["second"] = caught()

    thread = threading.Thread(target=second)
    with silenced() as caught:
        print("in the first")
        thread.start()
        entered.wait()
        texts["first"] = caught()
    left.set()
    thread.join()
    print("after")
    os.write(2, b"after natively\n")
    assert texts == {"first": "in the first\nin the second\n", "second": "in the second\nstill silent\n"}
    assert capfd.readouterr() == ("after\n", "after natively\n")


def test_threads_that_quantize_at_once_leave_the_streams_alone():
    code = """
        import os, sys, threading, warnings
        import keras, tfq_fine as tfq
        models = [keras.Sequential([keras.Input((7,)), keras.layers.Dense(n + 1)]) for n in range(4)]
        before = sys.stdout, sys.stderr, list(warnings.filters), os.fstat(1).st_ino, os.fstat(2).st_ino
        found = []
        def work(model):
            for _ in range(2):
                found.append(len(tfq.quantize(model).content))
        threads = [threading.Thread(target=work, args=(model,)) for model in models]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert len(found) == 8
        after = sys.stdout, sys.stderr, list(warnings.filters), os.fstat(1).st_ino, os.fstat(2).st_ino
        assert after == before
        print("by Python")
        os.system("echo by a shell")
        print("an error", file=sys.stderr)
    """
    found = done(code)
    assert found.returncode == 0, found.stderr
    assert sorted(found.stdout.splitlines()) == ["by Python", "by a shell"]
    assert found.stderr.splitlines()[-1] == "an error"
