"""A SavedModel may compute, and read its own assets, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from support.keras_models import run
from tfq_converters.errors import TfqError
from tfq_converters.reading.reader import read_model
from tfq_converters.reading.safety.operation_types import COMPUTING
from tfq_converters.reading.safety.saved_model_graphs import refuse_unsafe_nodes

X = tf.TensorSpec((1, 3), tf.float32, name="x")


class Scaled(tf.Module):
    """A model with a variable, so that its folder has functions that save and restore."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable([1.0, 2.0, 3.0])

    @tf.function(input_signature=[X])
    def call(self, x: Any) -> Any:
        return {"y": x * self.scale}


class Looking(Scaled):
    """Has a table that is filled from a text file, which becomes an asset."""

    def __init__(self, words: Path) -> None:
        super().__init__()
        index = tf.lookup.TextFileIndex
        lines = tf.lookup.TextFileInitializer(str(words), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
        self.table = tf.lookup.StaticHashTable(lines, -1)

    @tf.function(input_signature=[tf.TensorSpec((2,), tf.string, name="words")])
    def call(self, words: Any) -> Any:
        return {"y": self.table.lookup(words)}


def saved(model: Any, folder: Path) -> Path:
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.call})
    return folder


def change(folder: Path, by: Callable[[Any], None]) -> None:
    """Change the protocol buffer of a SavedModel by hand, as a stranger would."""
    content = SavedModel()
    content.ParseFromString((folder / "saved_model.pb").read_bytes())
    by(content.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(content.SerializeToString())


def test_a_model_that_computes_is_read(tmp_path: Path):
    found = read_model(saved(Scaled(), tmp_path / "model"))
    x = np.array([[5, 7, 11]], np.float32)
    (output,) = run(found.graph, found.content, {"x": x}).values()
    np.testing.assert_array_equal(output, np.float32([[5, 14, 33]]))


def test_an_initializer_that_prints_to_a_file_is_not_run(tmp_path: Path):
    marker = tmp_path / "marker"

    class Printing(Looking):
        def __init__(self, words: Path) -> None:
            super().__init__(words)
            fill = self.table._initializer.initialize  # which the folder holds as a function, run when it is loaded

            def initialize(table: Any) -> Any:
                tf.print("text", output_stream=f"file://{marker}")
                return fill(table)

            self.table._initializer.initialize = initialize

    (tmp_path / "words").write_text("ab\ncd\n")
    folder = saved(Printing(tmp_path / "words"), tmp_path / "model")
    marker.unlink(missing_ok=True)  # written when the model was made
    with pytest.raises(TfqError, match=r"--unsafe(.|\n)*of function '__inference__initializer\S* is a PrintV2"):
        read_model(folder)
    assert not marker.exists()
    tf.saved_model.load(str(folder))
    assert marker.read_text() == "text\n"  # the folder is whole: TensorFlow alone runs it


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "a/../../secret", "..", ""])
def test_an_asset_is_inside_of_the_folder(tmp_path: Path, name: str):
    (tmp_path / "words").write_text("ab\ncd\n")
    (tmp_path / "secret").write_text("password\n")
    folder = saved(Looking(tmp_path / "words"), tmp_path / "model")
    refuse_unsafe_nodes(folder)

    def outside(meta_graph: Any) -> None:
        meta_graph.asset_file_def[0].filename = name

    change(folder, outside)
    with pytest.raises(TfqError, match=f"asset '{name}' is outside of the folder"):
        read_model(folder)


def test_a_table_is_filled_from_an_asset_alone(tmp_path: Path):
    (tmp_path / "words").write_text("ab\ncd\n")
    folder = saved(Looking(tmp_path / "words"), tmp_path / "model")

    def elsewhere(meta_graph: Any) -> None:
        """Put a constant path where the asset was."""
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "InitializeTableFromTextFileV2":
                    path = function.node_def.add(name="path", op="Const")
                    path.attr["dtype"].type = tf.string.as_datatype_enum
                    path.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(tmp_path / "secret")))
                    node.input[1] = "path:output:0"

    change(folder, elsewhere)
    with pytest.raises(TfqError, match="is a InitializeTableFromTextFileV2"):
        read_model(folder)


def test_a_table_is_not_filled_from_a_bound_constant(tmp_path: Path):
    (tmp_path / "words").write_text("ab\ncd\n")
    folder = saved(Looking(tmp_path / "words"), tmp_path / "model")

    def constant(meta_graph: Any) -> None:
        for node in meta_graph.object_graph_def.nodes:
            if node.WhichOneof("kind") == "asset":
                node.constant.operation = "path"

    change(folder, constant)
    with pytest.raises(TfqError, match="is a InitializeTableFromTextFileV2"):
        read_model(folder)


def test_functions_that_save_are_called_by_nothing_else(tmp_path: Path):
    """Each folder has functions with SaveV2; a signature that calls one would write to any path."""
    folder = saved(Scaled(), tmp_path / "model")

    def called(meta_graph: Any) -> None:
        functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
        (saver,) = [name for name in functions if "save" in name]
        (body,) = [function for name, function in functions.items() if name.startswith("__inference_call")]
        node = body.node_def.add(name="saves", op="StatefulPartitionedCall")
        node.attr["f"].func.name = saver

    change(folder, called)
    with pytest.raises(TfqError, match=r"of function '__inference__traced_save\S* is a SaveV2"):
        read_model(folder)


def test_what_restores_does_not_save(tmp_path: Path):
    """TensorFlow runs the operation that restores a model of version 1."""
    folder = saved(Scaled(), tmp_path / "model")

    def swapped(meta_graph: Any) -> None:
        meta_graph.saver_def.restore_op_name = meta_graph.saver_def.save_tensor_name.partition(":")[0]

    change(folder, swapped)
    with pytest.raises(TfqError, match="is a SaveV2"):
        read_model(folder)


@pytest.mark.parametrize("form", ["saved_model.cpb", "saved_model.pbtxt"])
def test_a_folder_with_a_second_model_is_refused(tmp_path: Path, form: str):
    folder = saved(Scaled(), tmp_path / "model")
    (folder / form).write_bytes(b"")
    with pytest.raises(TfqError, match=f"holds a {form} next to"):
        read_model(folder)


def test_operations_that_are_let_in_exist_and_name_no_file():
    from tensorflow.python.framework import op_def_registry

    for name in COMPUTING:
        definition = op_def_registry.get(name)
        assert definition is not None, name
        named = {one.name for one in [*definition.attr, *definition.input_arg]}
        assert not any(word in one for one in named for word in ("file", "memory_region", "address", "stream")), name
