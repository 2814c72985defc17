"""Folders of images against Keras' own reader, and tables of numbers."""

import numpy as np
import pytest

import tfq_fine as tfq
from tfq_converters.errors import TfqError
from tfq_fine.data import InputSpec, batches

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
RANDOM = np.random.default_rng(6)
COUNTS = {"cat": 3, "dog": 2, "emu": 4}


@pytest.fixture
def folder(tmp_path):
    for name, count in COUNTS.items():
        (tmp_path / name).mkdir()
        for k in range(count):
            image = RANDOM.integers(0, 256, (11 + k, 17, 3), np.uint8)
            encoded = tf.io.encode_png(image) if k % 2 else tf.io.encode_jpeg(image)
            (tmp_path / name / f"{k}.{'png' if k % 2 else 'jpg'}").write_bytes(encoded.numpy())
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def _sorted(images, labels):
    order = np.lexsort((images.sum((1, 2, 3)), labels))
    return images[order], labels[order]


@pytest.mark.parametrize("color", ["rgb", "grayscale"])
def test_images_are_those_that_keras_reads(folder, color):
    expected = keras.utils.image_dataset_from_directory(
        folder, image_size=(7, 5), color_mode=color, batch_size=None, shuffle=False, verbose=False
    )
    x, y = (np.stack(part) for part in zip(*expected.as_numpy_iterator(), strict=True))
    found = tfq.ImageFolder(folder, (7, 5), color=color)
    assert found.classes == expected.class_names
    ours = _sorted(np.concatenate([images for images, _ in found]), np.concatenate([labels for _, labels in found]))
    for a, b in zip(ours, _sorted(x, y), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_order_is_drawn_once_and_mixes_the_classes(folder):
    labels = [int(labels[0]) for _, labels in tfq.ImageFolder(folder, (7, 5))]
    assert labels == [int(labels[0]) for _, labels in tfq.ImageFolder(folder, (7, 5))]
    assert labels != sorted(labels)
    assert labels != [int(labels[0]) for _, labels in tfq.ImageFolder(folder, (7, 5), seed=1)]


def test_values_are_scaled_or_preprocessed(folder):
    plain, scaled = (tfq.ImageFolder(folder, (7, 5), **how)[0][0] for how in ({}, {"scale": 1 / 255, "offset": -0.5}))
    np.testing.assert_allclose(scaled, plain / 255 - 0.5, atol=1e-6)  # one rounding of float32
    named = tfq.ImageFolder(folder, (7, 5), preprocess="keras.applications.mobilenet_v2")[0][0]
    np.testing.assert_allclose(named, plain / 127.5 - 1, atol=1e-6)
    own = tfq.ImageFolder(folder, (7, 5), preprocess=lambda images: images[..., ::-1])[0][0]
    np.testing.assert_array_equal(own, plain[..., ::-1])


def test_a_folder_without_sub_folders_has_no_labels(folder):
    (images,) = tfq.ImageFolder(folder / "emu", (7, 5))[0]
    assert images.shape == (1, 7, 5, 3)
    assert len(tfq.ImageFolder(folder / "emu", (7, 5))) == COUNTS["emu"]


def test_folders_that_cannot_be_read_say_why(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for where, settings, why in (
        (folder / "none", {}, "is no folder"),
        (empty, {}, "holds no images"),
        (
            folder,
            {"color": "blue", "preprocess": "vgg16", "scale": 2},
            "expected rgb or grayscale.*\n.*one or the other",
        ),
        (folder, {"preprocess": "vgg"}, "no module 'vgg'; it has .*vgg16"),
    ):
        with pytest.raises(TfqError, match=f"(?s){why}"):
            tfq.ImageFolder(where, (7, 5), **settings)
    (folder / "stray.png").write_bytes(b"")
    with pytest.raises(TfqError, match=r"stray.png\) and sub-folders"):
        tfq.ImageFolder(folder, (7, 5))
    (empty / "broken.png").write_bytes(b"\x89PNG nothing like it")
    with pytest.raises(TfqError, match=r"broken.png cannot be read as an image"):
        tfq.ImageFolder(empty, (7, 5))[0]


def _read(path):
    batch = next(iter(batches(path, [InputSpec("x", (-1, 3), "float32")], batch_size=4, keep_labels=True)))
    return batch.inputs[0], batch.labels


def test_tables_of_numbers(tmp_path):
    (tmp_path / "plain.csv").write_text("1,2,3\n4,5,-6e-1\n")
    np.testing.assert_array_equal(_read(tmp_path / "plain.csv")[0], np.float32([[1, 2, 3], [4, 5, -0.6]]))
    (tmp_path / "named.csv").write_text('a, y ,"b",c\n1,7,2,3\n\n4,8,5,6\n')
    x, labels = _read(tmp_path / "named.csv")
    np.testing.assert_array_equal(x, np.float32([[1, 2, 3], [4, 5, 6]]))
    np.testing.assert_array_equal(labels, [7, 8])
    for text, why in (("1,2,3\n4,5\n", "line 2 has 2 columns"), ("a,b,c\n1,2,x\n", "line 2 holds 'x'")):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(TfqError, match=why):
            _read(tmp_path / "bad.csv")
