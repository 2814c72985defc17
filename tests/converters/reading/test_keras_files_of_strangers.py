"""A saved Keras file may compute, and nothing else: not write, not read, not import, not call what a file names."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from support.keras_models import run
from tfq_converters.errors import TfqError
from tfq_converters.reading.conversion.silence import silenced
from tfq_converters.reading.reader import read_model
from tfq_converters.reading.safety.keras_code import refuse_code
from tfq_converters.reading.safety.keras_file import SavedConfig

Change = Callable[[Any], None]
FORMS = (".keras", ".h5")


def changed(path: Path, change: Change) -> Path:
    """Return a saved model whose architecture is changed by hand, as a stranger would."""
    evil = path.with_name(f"evil{path.suffix}")
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as good, zipfile.ZipFile(evil, "w") as archive:
            for name in good.namelist():
                content = good.read(name)
                if name == "config.json":
                    config = json.loads(content)
                    change(config)
                    content = json.dumps(config).encode()
                archive.writestr(name, content)
        return evil
    evil.write_bytes(path.read_bytes())
    with h5py.File(evil, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return evil


def layer(config: Any, kind: str) -> Any:
    return next(entry for entry in config["config"]["layers"] if entry["class_name"] == kind)


@pytest.fixture(scope="module", params=FORMS)
def calling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of tf_keras whose layers call functions of TensorFlow by name."""
    import tf_keras

    x = tf_keras.Input((3, 5))
    model = tf_keras.Model(x, tf.nn.relu(tf.math.reduce_mean(x[:, 1:], axis=-1)) + 1.0)
    path = tmp_path_factory.mktemp("calling") / f"good{request.param}"
    with silenced():
        model.save(path)
    return path


def test_functions_that_compute_are_called(calling: Path):
    found = read_model(calling)
    x = np.random.default_rng(0).normal(size=(1, 3, 5)).astype(np.float32)
    (output,) = run(found.graph, found.content, {found.graph.input_names()[0]: x}).values()
    # Sums of five values in float32, in any order.
    np.testing.assert_allclose(output, np.maximum(x[:, 1:].mean(-1), 0) + 1, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        "compat.v1.io.write_file",
        "io.write_file",
        "io.read_file",
        "compat.v1.write_file",
        "compat.v1.load_op_library",
        "load_library",
        "raw_ops.WriteFile",
        "print",
        "compat.v1.print",
        "summary.create_file_writer",
        "nn.fixed_unigram_candidate_sampler",  # reads a vocabulary
        "numpy_function",
        "map_fn",
        "keras.utils.get_file",
        "no_such_function",
    ],
)
def test_a_function_that_does_more_than_compute_is_refused_by_name(calling: Path, function: str, tmp_path: Path):
    marker = tmp_path / "marker"

    def change(config: Any) -> None:
        call = layer(config, "TFOpLambda")
        call["config"]["function"] = function
        call["inbound_nodes"] = json.loads(
            json.dumps(call["inbound_nodes"]).replace('"axis": -1', f'"filename": "{marker}"')
        )

    with pytest.raises(TfqError, match=rf"--unsafe(.|\n)*calls tf\.{function}$"):
        read_model(changed(calling, change))
    assert not marker.exists()


def test_a_file_that_would_be_written_is_not(tmp_path: Path):
    """The file is whole: with `safe_mode=False` it writes."""
    import tf_keras

    marker = tmp_path / "marker"
    name = tf_keras.Input((), dtype=tf.string)
    path = tmp_path / "writer.h5"
    with silenced():
        model = tf_keras.Model(name, tf.strings.upper(name))
        model.save(path)

    def change(config: Any) -> None:
        call = layer(config, "TFOpLambda")
        call["config"]["function"] = "io.write_file"
        ((_, _, _, _),) = call["inbound_nodes"]
        call["inbound_nodes"] = [["_CONSTANT_VALUE", -1, str(marker), {"contents": "text"}]]

    evil = changed(path, change)
    with pytest.raises(TfqError, match=r"calls tf\.io\.write_file"):
        read_model(evil)
    assert not marker.exists()
    with pytest.raises(TfqError):  # such a model cannot be converted, but its file was opened
        read_model(evil, safe_mode=False)
    assert marker.read_text() == "text"


def test_all_that_a_file_does_is_listed_in_one_error():
    entries = [
        {"class_name": "TFOpLambda", "config": {"name": "writes", "function": "io.write_file"}},
        {"class_name": "ClassMethod", "config": {"name": "method", "cls_symbol": "io.TFRecordWriter"}},
        {"class_name": "InstanceMethod", "config": {"name": "any", "method_string": "eval"}},
        {"class_name": "TensorFlowOpLayer", "config": {"name": "raw", "node_def": ""}},
        {"class_name": "ResidualWrapper", "config": {"name": "residual"}},
        {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "bytecode"}},
        {"class_name": "function", "module": "builtins", "config": "breakpoint"},
        {"class_name": "function", "module": "keras.utils", "config": "get_file"},
        {"class_name": "Dense", "module": "os", "config": {"name": "imported"}},
        {"class_name": "Unheard", "config": {"name": "unheard"}},
    ]
    saved = SavedConfig({"layers": entries[:7]}, "2.15.0", training=entries[7:])
    with pytest.raises(TfqError) as error:
        refuse_code(Path("model.h5"), saved, ("keras", "tf_keras"))
    lines = str(error.value).splitlines()[1:]
    assert [next(w for w in entry_words if w in line) for line, entry_words in zip(lines, WORDS, strict=True)]


WORDS = [
    ("'writes' calls tf.io.write_file",),
    ("'method' is a ClassMethod",),
    ("'any' is a InstanceMethod",),
    ("'raw' is a TensorFlowOpLayer",),
    ("'residual' is a ResidualWrapper",),
    ("'bytecode' is a Lambda",),
    ("'breakpoint' of module 'builtins'",),
    ("'get_file' of module 'keras.utils'",),
    ("'imported' is to be imported from module 'os'",),
    ("'unheard' is a Unheard",),
]


def test_a_registered_name_does_not_cover_another_class():
    """Keras 3 goes by `registered_name` in a `.keras` file and by `class_name` in an `.h5` file."""

    @keras.saving.register_keras_serializable("strangers", "Mine")
    class Mine(keras.layers.Layer):
        pass

    entry = {"class_name": "Mine", "module": "somewhere", "registered_name": "strangers>Mine", "config": {"name": "m"}}
    refuse_code(Path("model.keras"), SavedConfig(entry, "3.0"), ("keras",))
    with pytest.raises(TfqError, match="is a Lambda"):
        refuse_code(Path("m"), SavedConfig(entry | {"class_name": "Lambda", "module": None}, "3.0"), ("keras",))
    with pytest.raises(TfqError, match="module 'somewhere'"):
        refuse_code(Path("m"), SavedConfig(entry, "3.0"), ("tf_keras",))
    refuse_code(Path("m"), SavedConfig(entry, "3.0"), (), {"Mine": Mine})
    held = entry | {"class_name": "Held"}  # a model with wrappers is saved like this
    refuse_code(Path("m"), SavedConfig(held, "3.0", archive=True), ("keras",))
    del held["module"]
    with pytest.raises(TfqError, match="is a Held"):  # Keras would go by `class_name`
        refuse_code(Path("m"), SavedConfig(held, "3.0", archive=True), ("keras",))
    with pytest.raises(TfqError, match="holds Python bytecode"):
        refuse_code(
            Path("m"),
            SavedConfig(entry | {"class_name": "__lambda__", "module": "builtins"}, "3.0", archive=True),
            ("keras",),
        )


@pytest.mark.parametrize("framework", ["keras", "tf_keras"])
@pytest.mark.parametrize("kind", ["StringLookup", "TextVectorization"])
def test_a_vocabulary_is_not_read_from_a_path(tmp_path: Path, framework: str, kind: str):
    library: Any = __import__(framework)
    words = getattr(library.layers, kind)(vocabulary=["ab", "cd"])
    model = library.Sequential([library.layers.Input((1,), dtype="string"), words])
    path, secret = tmp_path / "good.keras", tmp_path / "secret"
    secret.write_text("password\n")
    model.save(path)
    read_model(path)

    def change(config: Any) -> None:
        layer(config, kind)["config"]["vocabulary"] = str(secret)

    with pytest.raises(TfqError, match=f"reads its vocabulary from file '{secret}'"):
        read_model(changed(path, change))


def test_weights_are_not_read_from_another_file(tmp_path: Path):
    path = tmp_path / "model.h5"
    with silenced():
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, name="dense")]).save(path)
    (tmp_path / "secret").write_bytes(bytes(60))
    with h5py.File(path, "r+") as file:
        (kernel,) = [name for name in names_of(file) if name.endswith("kernel")]
        del file[kernel]
        file.create_dataset(kernel, (3, 5), "f4", external=[(str(tmp_path / "secret"), 0, 60)])
    with pytest.raises(TfqError, match=r"kernel' are read from another file"):
        read_model(path)


def names_of(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return names


def test_a_file_of_two_kinds_is_refused(tmp_path: Path):
    """It would be checked as one and opened as the other."""
    path = tmp_path / "model.h5"
    with silenced():
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)]).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", "{}")
    with pytest.raises(TfqError, match="zip archive and an HDF5 file at once"):
        read_model(path)


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
def test_a_text_that_unpacks_to_far_more_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr("tfq_converters.reading.safety.keras_file.MOST_TEXT", 2**16)
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in ("config.json", "metadata.json"):
            archive.writestr(part, b"{}" + b" " * (2**20 if part == name else 0))
    with pytest.raises(TfqError, match=rf"{name} unpacks to 1,048,578 bytes; expected at most 65,536"):
        read_model(path)
