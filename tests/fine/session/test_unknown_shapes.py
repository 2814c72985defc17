"""Models that do not tell all about themselves: shapes come from the data, an optimizer's state is left out."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfq_fine as tfq
from tfq_converters.errors import TfqError
from tfq_converters.runtime.runner import Runner


def data(count: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 7, 5, 2)).astype(np.float32)


def built_by_hand(framework: Any) -> Any:
    """A subclassed model whose `build` builds its layers: Keras records no shape of an input."""

    class Hand(framework.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = framework.layers.Conv2D(4, 3), framework.layers.Dense(3)

        def build(self, shape: Any = (None, None, None, 2)) -> None:
            self.first.build(shape)
            self.last.build((None, None, None, 4))
            super().build(shape)

        def call(self, x: Any) -> Any:
            return self.last(tf.nn.relu(self.first(x)))

    model = Hand()
    model.build()
    return model


def dataset(batch: int | None) -> tf.data.Dataset:
    found = tf.data.Dataset.from_tensor_slices((data(), np.zeros(9)))
    return found if batch is None else found.batch(batch)


FORMS: dict[str, Callable[[], Any]] = {
    "array": data,
    "float64": lambda: data().astype(np.float64),
    "labelled": lambda: (data(), np.zeros(9)),
    "dict": lambda: {"x": data()},
    "list": lambda: [data()],
    "list of batches": lambda: [(data(4), np.zeros(4)), (data(4), np.zeros(4))],
    "generator": lambda: ((row[None], [0]) for row in data()),
    "function": lambda: lambda: iter([[data(4)], [data(3)]]),
    "batched dataset": lambda: dataset(4),
    "samples of a dataset": lambda: dataset(None),
}


@pytest.mark.parametrize("form", FORMS)
def test_shapes_come_from_the_data(form: str) -> None:
    model = built_by_hand(keras)
    result = tfq.quantize(model, "full_int8", FORMS[form]())
    (entry,) = result.graph.main.inputs
    assert result.graph.main.tensors[entry].dynamic_shape == (-1, 7, 5, 2)
    expected = np.asarray(model(data(1)))
    assert np.abs(Runner(result.content).run([data(1)])[0] - expected).max() < 0.1 * np.abs(expected).max()


def test_calibrate_and_verify_take_them_too() -> None:
    model = built_by_hand(keras)
    statistics = tfq.calibrate(model, (row[None] for row in data()))
    assert statistics.samples == 9
    content = tfq.quantize(model, data=data()).content
    assert tfq.verify(model, content, (row[None] for row in data())).samples == 9


def shard(index: int) -> np.ndarray:
    return data()[3 * index : 3 * index + 3]


@pytest.mark.parametrize("lazy", [False, True], ids=["list", "function"])
def test_the_first_shard_tells_them_too(lazy: bool) -> None:
    model = built_by_hand(keras)
    with ThreadPoolExecutor(2) as pool:
        shards = shard if lazy else [shard(0), (row[None] for row in shard(1)), shard(2)]
        statistics = tfq.calibrate(model, shards, executor=pool, shards=3 if lazy else None)
        assert statistics == tfq.calibrate(model, data(), threads=1)
        generators = [(row[None] for row in shard(n)) for n in range(3)]  # the sample that is looked at is not lost
        assert tfq.calibrate(model, generators, executor=pool).samples == 9
        assert tfq.quantize(model, "dynamic_int8", shard, executor=pool, shards=3).report.verdict is not None
        with pytest.raises(TfqError, match=r"shard 0: .*holds no samples"):
            tfq.calibrate(model, lambda index: iter([]), executor=pool, shards=2)


def test_of_tf_keras() -> None:
    model = built_by_hand(tf_keras)
    result = tfq.quantize(model, "dynamic_int8", data())
    expected = np.asarray(model(data(1)))
    assert np.abs(Runner(result.content).run([data(1)])[0] - expected).max() < 0.1 * np.abs(expected).max()


def test_without_data_the_error_says_what_to_give() -> None:
    with pytest.raises(TfqError, match=r"has no input shapes yet; call it once on data, or pass data="):
        tfq.quantize(built_by_hand(keras))


def test_several_arguments_of_several_types() -> None:
    class Two(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.last = keras.layers.Embedding(11, 4), keras.layers.Dense(3)

        def call(self, ids: Any, features: Any) -> Any:
            return self.last(keras.ops.concatenate([self.table(ids), features], axis=-1))

    ids, features = np.arange(12, dtype=np.int32).reshape(6, 2) % 11, data()[:6, :2, :, 0]
    model = Two()
    model(ids, features)
    result = tfq.quantize(model, "full_int8", [ids, features])
    main = result.graph.main
    assert [(main.tensors[t].dynamic_shape, main.tensors[t].dtype) for t in main.inputs] == [
        ((-1, 2), "int32"),
        ((-1, 2, 5), "float32"),
    ]
    named = tfq.quantize(model, "full_int8", {"features": features, "ids": ids})
    assert named.content == result.content


WITHOUT_TF_KERAS = """
import sys
sys.modules["tf_keras"] = None  # as where it is not installed
import tfq_fine as tfq
print(len(tfq.quantize(sys.argv[1], "dynamic_int8").content))
"""


def test_a_saved_model_with_an_optimizer_loads_without_its_keras(tmp_path: Path) -> None:
    model = tf_keras.Sequential([tf_keras.Input((8,)), tf_keras.layers.Dense(5, name="dense")])
    model.compile(tf_keras.optimizers.legacy.Adam(), "mse")
    model.fit(np.ones((4, 8)), np.ones((4, 5)), verbose=0)
    model.save(tmp_path / "saved", save_format="tf")
    before = {path.name: path.stat().st_size for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_TF_KERAS, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == len(tfq.quantize(tmp_path / "saved", "dynamic_int8").content)
    assert before == {path.name: path.stat().st_size for path in (tmp_path / "saved").rglob("*") if path.is_file()}
