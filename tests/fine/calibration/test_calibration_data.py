"""`CalibrationData`: how data is read as one value, and the short forms."""

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer


def test_one_value_and_the_short_forms_give_the_same_file():
    model, data = flatbuffer.write(small_cnn()), images(8)
    short = tfq.quantize(model, "full_int8", data, num_samples=5, batch_size=2, transforms=None)
    whole = tfq.CalibrationData(data, num_samples=5, batch_size=2)
    assert tfq.quantize(model, "full_int8", whole, transforms=None).content == short.content
    assert tfq.calibrate(model, whole).samples == 5


def test_options_given_twice_are_an_error():
    data = tfq.CalibrationData(images(8), num_samples=5)
    with pytest.raises(tfq.TfqError, match=r"num_samples=3, batch_size=2: given next to data=CalibrationData"):
        tfq.quantize(flatbuffer.write(small_cnn()), "full_int8", data, num_samples=3, batch_size=2)


def test_all_options_that_mean_nothing_are_in_one_error():
    with pytest.raises(tfq.TfqError) as error:
        tfq.CalibrationData(np.zeros((1, 2)), num_samples=0, batch_size=-1, on_invalid="ignore")  # type: ignore[arg-type]
    assert all(name in str(error.value) for name in ("num_samples=0", "batch_size=-1", "on_invalid='ignore'"))
    with pytest.raises(tfq.TfqError, match="shards=2 needs an executor"):
        tfq.CalibrationData(lambda index: [], shards=2)


def test_it_reads_data_by_signature_like_the_short_forms(tmp_path):
    import tensorflow as tf

    class Two(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, 3), tf.float32, "x")])
        def encode(self, x):  # type: ignore[no-untyped-def]
            return {"y": tf.nn.relu(x) * 2.0}

        @tf.function(input_signature=[tf.TensorSpec((1, 5), tf.float32, "z")])
        def decode(self, z):  # type: ignore[no-untyped-def]
            return {"w": tf.nn.relu(z) + 1.0}

    model = Two()
    tf.saved_model.save(model, str(tmp_path / "m"), signatures={"encode": model.encode, "decode": model.decode})
    data = {"encode": np.ones((4, 3), np.float32), "decode": np.ones((4, 5), np.float32)}
    found = tfq.calibrate(str(tmp_path / "m"), tfq.CalibrationData(data, num_samples=3))
    assert {key: value.samples for key, value in found.signatures.items()} == {"encode": 3, "decode": 3}
