"""Every form of data, every error, and the re-cutting of batches."""

import io
import weakref
import zipfile
from types import SimpleNamespace
from typing import Any

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Signature, Subgraph, Tensor
from tfq_fine.data import Batch, InputSpec, batches, input_specs, require_data
from tfq_fine.data.dtypes import Misfit, converted
from tfq_fine.data.files import read_file

IMAGE = [InputSpec("image", (-1, 2, 3), "float32")]
IDS = [InputSpec("ids", (-1, 5), "int32")]
TWO = [InputSpec("ids", (-1, 5), "int32"), InputSpec("mask", (-1, 5), "float32")]


def images(count: int, start: int = 0) -> np.ndarray:
    """Sample i holds only the value i, so that a batch shows which samples it holds."""
    numbers = np.arange(start, start + count, dtype=np.float32)
    return np.broadcast_to(numbers[:, None, None], (count, 2, 3)).copy()


def rows(count: int, dtype: type = np.int32) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=dtype)[:, None], (count, 5)).copy()


def check(found: list[Batch], count: int, labelled: bool = False) -> None:
    """The batches hold samples 0 .. count-1 in order; label i is 10 * i."""
    first = 0
    for batch in found:
        assert batch.first == first
        for array in batch.inputs:
            assert len(array) == batch.count
            expected = np.arange(first, first + batch.count)
            np.testing.assert_array_equal(array, expected.reshape(-1, *[1] * (array.ndim - 1)) + np.zeros_like(array))
        if labelled:
            assert batch.labels is not None
            np.testing.assert_array_equal(batch.labels, 10 * np.arange(first, first + batch.count))
        else:
            assert batch.labels is None
        first += batch.count
    assert first == count


def message(data: Any, specs: list[InputSpec], **options: Any) -> str:
    with pytest.raises(TfqError) as error:
        list(batches(data, specs, **options))
    return str(error.value)


# ------------------------------------------------------------------------------------------------ forms of data


class Indexed:
    """A sequence of batches, as `keras.utils.PyDataset` is one."""

    def __init__(self, *elements: Any):
        self.elements = elements

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self.elements):
            raise AssertionError("read beyond the end")
        return self.elements[index]


class Loader:
    """Something that can only be iterated, as PyTorch's loaders are."""

    def __iter__(self) -> Any:
        yield from [(images(4), 10 * np.arange(4)), (images(3, 4), 10 * np.arange(4, 7))]


LABELS = 10 * np.arange(7)
ONE_INPUT: dict[str, tuple[Any, bool]] = {  # 7 samples each; with labels or without
    "array": (images(7), False),
    "list": ([images(7)], False),
    "tuple": ((images(7),), False),
    "labelled tuple": ((images(7), LABELS), True),
    "weighted tuple": ((images(7), LABELS, np.ones(7)), True),
    "labels of python numbers": ((images(7), LABELS.tolist()), True),
    "tuple without labels": ((images(7), None), False),
    "dict": ({"image": images(7)}, False),
    "labelled dict": (({"image": images(7)}, LABELS), True),
    "labelled list": (([images(7)], LABELS), True),
    "list of batches": ([[images(4)], [images(3, 4)]], False),
    "list of labelled batches": ([(images(4), LABELS[:4]), (images(3, 4), LABELS[4:])], True),
    "list of dicts": ([{"image": images(4)}, {"image": images(3, 4)}], False),
    "sequence": (Indexed(images(4), images(3, 4)), False),
    "labelled sequence": (Indexed((images(4), LABELS[:4]), (images(3, 4), LABELS[4:])), True),
    "iterable": (Loader(), True),
    "function of an array": (lambda: images(7), False),
    "function of a generator": (lambda: ([images(1, i)] for i in range(7)), False),
    "function of tuples": (lambda: ((images(1, i), LABELS[i]) for i in range(7)), True),
    "function of bare arrays": (lambda: (images(1, i) for i in range(7)), False),
}


@pytest.mark.parametrize("form", ONE_INPUT)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_forms_for_one_input(form: str, size: int):
    data, labelled = ONE_INPUT[form]
    found = list(batches(data, IMAGE, batch_size=size))
    check(found, 7, labelled)
    assert [batch.count for batch in found] == [size] * (7 // size) + [7 % size] * (7 % size > 0)
    assert all(batch.inputs[0].shape[1:] == (2, 3) and batch.inputs[0].dtype == np.float32 for batch in found)


TWO_INPUTS: dict[str, tuple[Any, bool]] = {
    "list": ([rows(7), rows(7)], False),
    "tuple": ((rows(7), rows(7)), False),
    "dict in another order": ({"mask": rows(7, np.float32), "ids": rows(7)}, False),
    "labelled tuple": (((rows(7), rows(7)), LABELS), True),
    "labelled list": (([rows(7), rows(7)], LABELS), True),
    "labelled dict": (({"ids": rows(7), "mask": rows(7)}, LABELS), True),
    "sequence of tuples": (Indexed((rows(7), rows(7))), False),
    "function of lists": (lambda: iter([[rows(7), rows(7)]]), False),
    "function of labelled tuples": (lambda: iter([((rows(7), rows(7)), LABELS)]), True),
}


@pytest.mark.parametrize("form", TWO_INPUTS)
def test_forms_for_two_inputs(form: str):
    data, labelled = TWO_INPUTS[form]
    found = list(batches(data, TWO, batch_size=3))
    check(found, 7, labelled)
    assert [[array.dtype for array in batch.inputs] for batch in found] == [[np.int32, np.float32]] * 3


def test_the_order_of_the_inputs_is_the_models():
    ids, mask = rows(2), rows(2, np.float32) + 0.5
    for data in ({"mask": mask, "ids": ids}, [ids, mask]):
        (batch,) = batches(data, TWO, batch_size=2)
        np.testing.assert_array_equal(batch.inputs[0], ids)
        np.testing.assert_array_equal(batch.inputs[1], mask)


def test_a_tuple_of_as_many_arrays_as_inputs_is_never_labelled():
    (batch,) = batches(iter([(rows(1), rows(1))]), TWO)
    assert batch.labels is None
    (batch,) = batches(iter([(images(1), LABELS[:1])]), IMAGE)
    assert batch.labels is not None


@pytest.mark.parametrize("data", [images(7), [[images(4)], [images(3, 4)]], lambda: ([images(1, i)] for i in range(7))])
@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist()], ids=["array", "list"])
def test_labels_beside_the_data(data: Any, labels: Any):
    check(list(batches(data, IMAGE, labels=labels, batch_size=3)), 7, labelled=True)


def test_labels_of_any_shape_and_kind():
    several = np.arange(14).reshape(7, 2)
    found = list(batches(images(7), IMAGE, labels=several, batch_size=4))
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in found]), several)
    words = [["cat"], ["horse"]]
    found = list(batches([(images(1), words[0]), (images(1, 1), words[1])], IMAGE, batch_size=2))
    assert [list(batch.labels) for batch in found] == [["cat", "horse"]]


def test_labels_are_left_alone_when_of_no_use():
    data = [(images(2), {"head": LABELS[:3], "tail": None}), (images(1, 2), "?")]
    check(list(batches(data, IMAGE, keep_labels=False)), 3)
    check(list(batches(images(3), IMAGE, labels=LABELS, keep_labels=False)), 3)


def test_a_generator_is_read_once_and_only_as_far_as_needed():
    asked = []

    def samples():
        for i in range(10):
            asked.append(i)
            yield [images(1, i)]

    generator = samples()
    found = batches(generator, IMAGE, limit=4)
    next(found)
    assert asked == [0]
    check([*batches(images(1), IMAGE), *found], 4)
    assert asked == [0, 1, 2, 3]
    assert next(generator)[0][0, 0, 0] == 4


def test_arrays_are_sliced_as_views():
    data = images(7)
    found = list(batches(data, IMAGE, batch_size=3))
    assert [np.shares_memory(batch.inputs[0], data) for batch in found] == [True, True, False]  # the rest is a copy


class Tracked(np.ndarray):
    """An array that owns its values and can be referred to weakly: it lives as long as any view of it."""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("labels", [None, np.arange(60)], ids=["bare", "labels next to"])
@pytest.mark.parametrize("limit", [None, 60], ids=["all", "limited"])
def test_nothing_of_a_batch_of_the_user_is_held_when_the_next_is_made(size: int, labels: Any, limit: int | None):
    made: list[weakref.ref[Tracked]] = []

    def array(i: int) -> np.ndarray:
        assert [reference() for reference in made if reference() is not None] == []
        new = Tracked((3, 2, 3), np.float32)
        new[:] = images(3, 3 * i)
        made.append(weakref.ref(new))
        return new

    samples = 0
    reader = batches(([array(i)] for i in range(20)), IMAGE, batch_size=size, labels=labels, limit=limit)
    while samples < 60:
        samples += next(reader).count  # the batch itself is let go at once
    assert len(made) == 20


def test_a_generator_may_fill_the_same_array_again():
    def samples():
        buffer = np.empty((2, 2, 3), np.float32)
        for i in range(4):
            buffer[:] = images(2, 2 * i)
            yield [buffer]

    copies = [
        Batch(tuple(array.copy() for array in batch.inputs), None, batch.first)
        for batch in batches(samples(), IMAGE, batch_size=3)
    ]
    check(copies, 8)


def test_arrays_of_other_libraries_are_sliced_before_they_are_read(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = images(7)
        file["y"] = LABELS
        check(list(batches((file["x"], file["y"]), IMAGE, batch_size=3)), 7, labelled=True)
    asked = []

    class Lazy:
        shape, dtype = (7, 2, 3), np.float32

        def __getitem__(self, index: slice) -> np.ndarray:
            asked.append((index.start, index.stop))
            return images(7)[index]

    check(list(batches(Lazy(), IMAGE, batch_size=4)), 7)
    assert asked == [(0, 4), (4, 7)]


# ------------------------------------------------------------------------------------------------ files


def test_npz_by_name_with_labels(tmp_path):
    for label in ("labels", "y"):
        np.savez(tmp_path / "data.npz", mask=rows(7, np.float32), ids=rows(7), **{label: LABELS})
        check(list(batches(tmp_path / "data.npz", TWO, batch_size=2)), 7, labelled=True)
        check(list(batches(str(tmp_path / "data.npz"), TWO, keep_labels=False)), 7)


def test_npz_with_an_input_called_y(tmp_path):
    np.savez(tmp_path / "data.npz", y=images(3))
    check(list(batches(tmp_path / "data.npz", [InputSpec("y", (-1, 2, 3), "float32")])), 3)
    np.savez(tmp_path / "data.npz", y=images(3), labels=LABELS[:3])
    check(list(batches(tmp_path / "data.npz", [InputSpec("y", (-1, 2, 3), "float32")])), 3, labelled=True)


def test_npz_without_names(tmp_path):
    np.savez(tmp_path / "one.npz", images(3))
    check(list(batches(tmp_path / "one.npz", IMAGE)), 3)
    np.savez(tmp_path / "x.npz", x=images(3), y=LABELS[:3])
    check(list(batches(tmp_path / "x.npz", IMAGE)), 3, labelled=True)
    np.savez(tmp_path / "two.npz", rows(3), rows(3))
    check(list(batches(tmp_path / "two.npz", TWO)), 3)


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "x.npy", images(7))
    found = list(batches(tmp_path / "x.npy", IMAGE, batch_size=4))
    check(found, 7)
    assert not found[0].inputs[0].flags.writeable  # a view of the mapped file
    check(list(batches(tmp_path / "x.npy", IMAGE, labels=LABELS)), 7, labelled=True)
    np.save(tmp_path / "x.npy", images(0))
    assert "no samples" in message(tmp_path / "x.npy", IMAGE)


def test_files_that_cannot_be_read(tmp_path):
    assert "missing.npz cannot be read: No such file" in message(tmp_path / "missing.npz", IMAGE)
    (tmp_path / "x.txt").write_text("1,2")
    assert "x.txt is none of .npz, .npy and .csv" in message(tmp_path / "x.txt", IMAGE)
    assert "is a folder: images are read with their size" in message(tmp_path, IMAGE)
    for name in ("damaged.npz", "damaged.npy"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing like it")
        assert f"{name} cannot be read" in message(tmp_path / name, IMAGE)
    (tmp_path / "empty.npy").write_bytes(b"")
    assert "empty.npy cannot be read" in message(tmp_path / "empty.npy", IMAGE)
    np.savez(tmp_path / "cut.npz", image=images(100))
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    assert "cut.npz cannot be read" in message(tmp_path / "cut.npz", IMAGE)


@pytest.mark.parametrize("kind", ["savez", "savez_compressed", "save"])
@pytest.mark.parametrize("damage", ["lowest bit", "all bits", "truncated"])
def test_damage_anywhere_in_a_file_is_an_error_of_the_librarys_own(tmp_path, kind: str, damage: str):
    """Or none, where it hits what is not checked: the values in a .npy file, dates in a zip file."""
    path = tmp_path / ("data.npy" if kind == "save" else "data.npz")
    if kind == "save":
        np.save(path, images(2))
    else:
        getattr(np, kind)(path, image=images(2), y=LABELS[:2])
    content = path.read_bytes()
    errors = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 if damage == "lowest bit" else 255
        path.write_bytes(content[:position] if damage == "truncated" else changed)
        try:
            read_file(path, ["image"])
        except TfqError:
            errors += 1
    assert errors > len(content) / 4
    assert damage != "truncated" or errors == len(content)


def test_a_file_that_claims_to_hold_more_than_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**60, 1)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue())
    assert "x.npz cannot be read" in message(tmp_path / "x.npz", IMAGE)


def test_a_file_cannot_run_code(tmp_path):
    class Harmless:
        def __reduce__(self):
            return pytest.fail, ("the file ran code",)

    objects = np.array([Harmless()], dtype=object)
    np.savez(tmp_path / "x.npz", image=objects)
    np.save(tmp_path / "x.npy", objects)
    assert "allow_pickle" in message(tmp_path / "x.npz", IMAGE)
    assert "Python objects in dtype" in message(tmp_path / "x.npy", IMAGE)


# ------------------------------------------------------------------------------------------------ TensorFlow, Keras


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize("batch", [0, 1, 4], ids=["unbatched", "one by one", "by fours"])
@pytest.mark.parametrize("labelled", [False, True], ids=["bare", "labelled"])
@pytest.mark.parametrize("by_name", [False, True], ids=["array", "dict"])
def test_tf_datasets(tf, batch: int, labelled: bool, by_name: bool):
    inputs: Any = {"image": images(7)} if by_name else images(7)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, LABELS) if labelled else inputs)
    dataset = dataset.batch(batch) if batch else dataset
    check(list(batches(dataset, IMAGE, batch_size=3)), 7, labelled)
    check(list(batches(lambda: dataset, IMAGE, batch_size=3)), 7, labelled)
    check(list(batches(iter(dataset.batch(1) if not batch else dataset), IMAGE)), 7, labelled)


def test_tf_datasets_of_two_inputs(tf):
    pairs = tf.data.Dataset.from_tensor_slices((rows(7), rows(7)))
    check(list(batches(pairs, TWO)), 7)
    labelled = tf.data.Dataset.from_tensor_slices(({"mask": rows(7), "ids": rows(7)}, LABELS))
    check(list(batches(labelled.batch(4), TWO, batch_size=3)), 7, labelled=True)
    check(list(batches(labelled, TWO, batch_size=3)), 7, labelled=True)
    nested = tf.data.Dataset.from_tensor_slices(((rows(7), rows(7)), LABELS))
    check(list(batches(nested, TWO, batch_size=3)), 7, labelled=True)


def test_unbatched_samples_with_several_labels_each(tf):
    several = np.arange(14).reshape(7, 2)
    dataset = tf.data.Dataset.from_tensor_slices((images(7), several))
    found = list(batches(dataset, IMAGE, batch_size=4))
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in found]), several)


def test_tf_tensors(tf):
    check(list(batches(tf.constant(images(7)), IMAGE, batch_size=3)), 7)
    check(list(batches({"image": tf.constant(images(7))}, IMAGE, labels=tf.constant(LABELS), batch_size=3)), 7, True)
    check(list(batches(lambda: ([tf.constant(images(1, i))] for i in range(7)), IMAGE, batch_size=3)), 7)


def test_tf_datasets_that_do_not_end(tf):
    dataset = tf.data.Dataset.from_tensor_slices(images(3)).repeat()
    assert "repeats forever" in message(dataset, IMAGE)
    assert sum(batch.count for batch in batches(dataset, IMAGE, limit=8)) == 8


def test_tf_datasets_of_other_things(tf):
    ragged = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1, 2], [3]])).batch(2)
    assert "data from sample 0 on: input 'ids': expected shape [n, 5], found [2]" in message(ragged, IDS)
    assert "rows of different lengths" in message(tf.ragged.constant([[1, 2], [3]]), IDS)
    words = tf.data.Dataset.from_tensor_slices([["a"] * 5])
    assert "input 'ids': expected int32, found object" in message(words, IDS)
    named = tf.data.Dataset.from_tensor_slices((images(2), ["cat", "dog"]))
    assert [list(batch.labels) for batch in batches(named, IMAGE, batch_size=2)] == [[b"cat", b"dog"]]


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_keras_datasets(package: str):
    keras = pytest.importorskip(package)
    base = keras.utils.PyDataset if package == "keras" else keras.utils.Sequence

    class Photos(base):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            start, stop = 4 * index, min(7, 4 * index + 4)
            return images(stop - start, start), LABELS[start:stop]

    check(list(batches(Photos(), IMAGE, batch_size=3)), 7, labelled=True)


def test_keras_datasets_without_length():
    keras = pytest.importorskip("keras")

    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return images(2, 2 * index)

    check(list(batches(Endless(), IMAGE, limit=5)), 5)


# ------------------------------------------------------------------------------------------------ the batch axis


def specs(*shapes: tuple[int, ...]) -> list[InputSpec]:
    return [InputSpec(f"input_{i}", shape, "float32") for i, shape in enumerate(shapes)]


def test_a_batch_axis_fixed_at_one():
    found = list(batches(images(3), specs((1, 2, 3)), batch_size=8))
    check(found, 3)
    assert [batch.inputs[0].shape for batch in found] == [(1, 2, 3)] * 3


def test_a_batch_axis_fixed_at_more():
    for data in (images(8), lambda: ([images(1, i)] for i in range(8)), [[images(5)], [images(3, 5)]]):
        found = list(batches(data, specs((4, 2, 3)), batch_size=1))
        check(found, 8)
        assert [batch.count for batch in found] == [4, 4]


def test_samples_left_over_at_a_fixed_batch_are_an_error():
    expected = (
        "takes exactly 4 samples of one shape at a time; 10 samples leave 2 over: give a multiple of 4, or limit=8"
    )
    reader = batches(images(10), specs((4, 2, 3)))
    with pytest.raises(TfqError, match=expected):
        next(reader)  # before anything is run
    assert expected in message(lambda: ([images(5, 5 * i)] for i in range(2)), specs((4, 2, 3)))
    assert "3 samples leave 3 over: give a multiple of 4" in message(images(3), specs((4, 2, 3)))


def test_the_limit_at_a_fixed_batch_is_rounded_down():
    for data in (images(12), [[images(5)], [images(5, 5)], [images(2, 10)]]):
        check(list(batches(data, specs((4, 2, 3)), limit=10)), 8)
        check(list(batches(data, specs((4, 2, 3)), limit=12)), 12)
        assert "limit=3 is fewer" in message(data, specs((4, 2, 3)), limit=3)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 8, None])
def test_the_limit(limit: int | None):
    for data in (images(7), [[images(4)], [images(3, 4)]]):
        check(list(batches(data, IMAGE, limit=limit, batch_size=2)), min(limit or 7, 7))
        check(list(batches(data, IMAGE, labels=LABELS, limit=limit, batch_size=2)), min(limit or 7, 7), labelled=True)


def test_a_model_whose_first_axis_is_no_batch():
    sound = specs((49, 40))
    data = np.random.default_rng(0).normal(size=(3, 49, 40)).astype(np.float32)
    (batch,) = batches(data[0], sound)
    np.testing.assert_array_equal(batch.inputs[0], data[0])
    found = list(batches(data, sound, labels=[0, 1, 2]))
    assert [(batch.first, batch.count, batch.inputs[0].shape) for batch in found] == [
        (i, 1, (49, 40)) for i in range(3)
    ]
    assert [batch.labels.tolist() for batch in found] == [[0], [1], [2]]
    np.testing.assert_array_equal(np.stack([batch.inputs[0] for batch in found]), data)
    assert sum(batch.count for batch in batches(data, sound, limit=2)) == 2


def test_samples_stacked_with_their_batch_axis():
    found = list(batches(images(3)[:, None], specs((1, 2, 3))))
    check(found, 3)


def test_inputs_without_any_axis():
    both = specs((-1, 5), ())
    x = rows(4, np.float32)
    (batch,) = batches([x, np.float32(0.5)], both, batch_size=8)  # one value for all samples
    np.testing.assert_array_equal(batch.inputs[0], x)
    assert batch.inputs[1].shape == ()
    assert batch.inputs[1] == 0.5
    assert len(list(batches([x, 0.5], both, batch_size=3))) == 2
    found = list(batches([x, np.arange(4)], both, batch_size=8))  # one value per sample
    assert [(b.count, b.inputs[0].shape, float(b.inputs[1])) for b in found] == [(1, (1, 5), i) for i in range(4)]
    changing = [[x[:1], 0.0], [x[1:], 1.0]]  # must not share a batch
    found = list(batches(changing, both, batch_size=4))
    assert [(b.count, float(b.inputs[1])) for b in found] == [(1, 0.0), (3, 1.0)]
    (batch,) = batches(np.float32(7), specs(()))
    assert batch.inputs[0] == 7
    assert batch.count == 1


def test_inputs_of_different_fixed_sizes():
    both = specs((1, 5), (6, 2))
    x, table = rows(3, np.float32), np.arange(12, dtype=np.float32).reshape(6, 2)
    found = list(batches([x, table], both))
    assert [batch.inputs[0].shape for batch in found] == [(1, 5)] * 3
    assert all(np.array_equal(batch.inputs[1], table) for batch in found)
    found = list(batches([x, np.stack([table, table + 1, table + 2])], both))
    assert [float(batch.inputs[1][0, 0]) for batch in found] == [0, 1, 2]
    assert "different" not in message([x, np.stack([table] * 2)], both)
    assert "found input_0: 3, input_1: 2" in message([x, np.stack([table] * 2)], both)
    found = list(batches([np.zeros((2, 5)), table], specs((2, 5), (6, 2))))
    assert [batch.count for batch in found] == [1]


def test_fixed_and_free_batch_axes():
    x, table = rows(3, np.float32), np.ones((6, 2), np.float32)
    (batch,) = batches([x, table], specs((-1, 5), (6, 2)), batch_size=4)
    assert (batch.inputs[0].shape, batch.inputs[1].shape, batch.count) == ((3, 5), (6, 2), 3)


def test_one_value_per_sample_beside_a_fixed_batch():
    assert "stack the values of all inputs or of none" in message([np.zeros((4, 5)), np.zeros(4)], specs((2, 5), ()))


def test_samples_of_different_shapes_do_not_share_a_batch():
    free = specs((-1, -1))
    data = [[np.zeros((2, 3))], [np.zeros((1, 3))], [np.zeros((1, 4))], [np.zeros((3, 4))]]
    assert [batch.inputs[0].shape for batch in batches(data, free, batch_size=3)] == [(3, 3), (3, 4), (1, 4)]
    data = [[np.zeros((2, 3))], [np.zeros((2, 4))]]
    assert [batch.inputs[0].shape for batch in batches(data, free, batch_size=3)] == [(2, 3), (2, 4)]
    assert "of one shape" in message(data, specs((4, -1)))


# ------------------------------------------------------------------------------------------------ types


LOSSLESS = [
    ("float32", np.array([0.1, -1e30], np.float64)),
    ("float32", np.array([0, 255], np.uint8)),
    ("float32", np.array([-(2**24), 2**24], np.int64)),
    ("float32", np.array([True, False])),
    ("float32", np.array([0.5], np.float16)),
    ("float16", np.array([0.1, 65504.0], np.float32)),
    ("int32", np.array([-(2**31), 2**31 - 1], np.int64)),
    ("int32", np.array([0.0, -7.0, 2.0**30], np.float32)),
    ("int32", np.array([True, False])),
    ("int64", np.array([2**62], np.uint64)),
    ("int64", np.array([-(2.0**63)], np.float64)),
    ("uint8", np.array([0, 255], np.int64)),
    ("int8", np.array([-128, 127], np.float64)),
    ("bool", np.array([0, 1], np.int64)),
    ("bool", np.array([0.0, 1.0])),
    ("complex64", np.array([1.5], np.float32)),
]


@pytest.mark.parametrize(("dtype", "values"), LOSSLESS, ids=[f"{v.dtype} to {d}" for d, v in LOSSLESS])
def test_lossless_conversions(dtype: str, values: np.ndarray):
    found = converted(values, dtype)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.dtype(dtype)
    # exact, but for the rounding of floats to the nearest: at most half a unit in the last place
    rounding = np.finfo(dtype).eps / 2 if values.dtype.kind == "f" and found.dtype.kind == "f" else 0
    for a, b in zip(found.tolist(), values.tolist(), strict=True):
        assert abs(a - b) <= rounding * abs(b)


LOSSY = [
    ("float32", np.array([1.0, 1e39]), "1e+39 is beyond the range of float32", (1,)),
    ("float32", np.array([0, 2**24 + 1]), "16777217 cannot be held by float32", (1,)),
    ("float32", np.array([[0, 1], [np.nan, 1]]), "nan is not a finite number", (1, 0)),
    ("float32", np.array([-np.inf], np.float32), "-inf is not a finite number", (0,)),
    ("float16", np.array([70000.0], np.float32), "70000.0 is beyond the range of float16", (0,)),
    ("int32", np.array([0.0, 1.5]), "1.5 is not a whole number, as int32 must be", (1,)),
    ("int32", np.array([np.nan]), "nan is not a finite number", (0,)),
    ("int32", np.array([0, 2**31]), "2147483648 is beyond the range of int32", (1,)),
    ("int32", np.array([-(2.0**31) - 1]), "-2147483649.0 is beyond the range of int32", (0,)),
    ("int64", np.array([2.0**63]), "is beyond the range of int64", (0,)),
    ("int64", np.array([2**63], np.uint64), "is beyond the range of int64", (0,)),
    ("uint8", np.array([-1, 0]), "-1 is beyond the range of uint8", (0,)),
    ("bool", np.array([0, 2]), "2 cannot be held by bool", (1,)),
    ("bool", np.array([0.5]), "0.5 cannot be held by bool", (0,)),
    ("float32", np.array([1j]), "expected float32, found complex128", None),
    ("float32", np.array(["1.0"]), "expected float32, found <U3", None),
    ("int32", np.array([{}]), "expected int32, found object", None),
    ("int32", np.array(["2020-01-01"], "datetime64[D]"), "expected int32, found datetime64[D]", None),
    ("resource", np.array(["a"]), "the model takes resource, which arrays cannot hold", None),
    ("string", np.array([1.0]), "expected strings, found float64", None),
    ("string", np.array([b"a", 3], object), "3 is no string", (1,)),
]


@pytest.mark.parametrize(("dtype", "values", "reason", "at"), LOSSY, ids=[f"{v.dtype} to {d}" for d, v, *_ in LOSSY])
def test_lossy_conversions(dtype: str, values: np.ndarray, reason: str, at: tuple[int, ...] | None):
    found = converted(values, dtype)
    assert isinstance(found, Misfit)
    assert reason in found.reason
    assert found.at == at


def test_arrays_of_the_models_type_are_not_copied():
    values = images(2)
    assert converted(values, "float32") is values


def test_all_problems_with_the_values_are_in_one_error_with_the_sample():
    ids, mask = rows(7).astype(float), rows(7, np.float32)
    ids[4, 1] = 0.5
    mask[3, 2] = np.inf
    for data in ([ids, mask], [[ids[:2], mask[:2]], [ids[2:], mask[2:]]]):
        for size, expected in ((7, 2), (1, 1)):
            text = message(data, TWO, batch_size=size)
            assert text.count("input '") == expected
            assert "input 'mask', sample 3: inf is not a finite number, at [2]" in text
            assert ("input 'ids', sample 4: 0.5 is not a whole number, as int32 must be, at [1]" in text) == (size == 7)


def test_values_of_inputs_without_batch_axis():
    both = specs((-1, 5), ())
    assert message([rows(2), np.nan], both) == "input 'input_1': nan is not a finite number, at []"
    assert "input 'input_1', sample 1: nan is not" in message([rows(2), np.array([0, np.nan])], both)


# ------------------------------------------------------------------------------------------------ errors


SHAPES = {
    "one sample": (
        (2, 3),
        IMAGE,
        "expected shape [n, 2, 3], found [2, 3]; that is one sample: add a batch axis: x[None]",
    ),
    "one sample of a fixed batch": ((2, 3), specs((1, 2, 3)), "expected shape [1, 2, 3], found [2, 3]; that is one"),
    "other sides": ((4, 3, 2), IMAGE, "expected shape [n, 2, 3], found [4, 3, 2]"),
    "flat": ((4, 6), IMAGE, "expected shape [n, 2, 3], found [4, 6]"),
    "free batch, stacked": ((4, 1, 2, 3), IMAGE, "expected shape [n, 2, 3], found [4, 1, 2, 3]"),
    "no last axis": (
        (4, 8, 9),
        specs((-1, 8, 9, 1)),
        "expected shape [n, 8, 9, 1], found [4, 8, 9]; the last axis is missing: x[..., None]",
    ),
    "channels first": (
        (4, 3, 8, 9),
        specs((-1, 8, 9, 3)),
        "expected shape [n, 8, 9, 3], found [4, 3, 8, 9]; the channels go last: np.moveaxis",
    ),
    "free length": ((4, 8, 9), specs((-1, -1, 7)), "expected shape [n, ?, 7], found [4, 8, 9]"),
    "scalar": ((2, 2), specs(()), "expected shape [], found [2, 2]"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_wrong_shapes(case: str):
    shape, spec, expected = SHAPES[case]
    found = message(np.zeros(shape, np.float32), spec)
    assert f"input '{spec[0].name}': {expected}" in found
    assert ("add a batch axis" in found) == case.startswith("one sample")
    assert f"data from sample 0 on: input '{spec[0].name}': {expected}" in message(
        iter([[np.zeros(shape, np.float32)]]), spec
    )


def test_all_wrong_shapes_are_in_one_error():
    text = message([np.zeros((3, 4)), np.zeros(5)], TWO)
    assert "input 'ids': expected shape [n, 5], found [3, 4]" in text
    assert "input 'mask': expected shape [n, 5], found [5]; that is one sample" in text


def test_a_generator_of_samples_without_batch_axis_is_told_how():
    assert "add a batch axis: x[None]" in message((x for x in images(3)), IMAGE)


def test_wrong_names():
    text = message({"id": rows(2), "mask": rows(2), "labels": LABELS}, TWO)
    assert "input 'ids' is missing" in text
    assert "'id' is not an input of the model; did you mean 'ids'?" in text
    assert "'labels' is not an input of the model; the inputs are ids, mask" in text
    assert "data from sample 2 on: input 'ids' is missing" in message(
        [{"ids": rows(2), "mask": rows(2)}, {"mask": rows(2)}], TWO
    )


NUMBERS = {
    "one array for two inputs": (rows(3), TWO, "expected 2 arrays (ids, mask), found 1 array"),
    "samples in a list": (
        list(images(3)),
        IMAGE,
        "expected 1 array (image), found 3 arrays; if they are samples, stack",
    ),
    "flat labelled tuple": ((rows(3), rows(3), LABELS), TWO, "labelled data of several inputs is nested"),
    "nothing": ((), IMAGE, "expected 1 array (image), found 0 arrays"),
    "many": ((rows(3),) * 4, IMAGE, "expected 1 array (image), found 4 arrays"),
    "no array": (["photo.png"], IMAGE, "input 'image': expected an array, found str"),
    "none": ({"image": None}, IMAGE, "input 'image': expected an array, found NoneType"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_wrong_numbers_of_arrays(case: str):
    data, spec, expected = NUMBERS[case]
    assert expected in message(data, spec)


def test_different_numbers_of_samples():
    assert "found ids: 3, mask: 2" in message([rows(3), rows(2)], TWO)
    assert "found image: 3, labels: 7" in message((images(3), LABELS), IMAGE)
    assert "found image: 3, labels: 7" in message([(images(3), LABELS)], IMAGE)
    assert "found samples: 3, labels: 7" in message(images(3), IMAGE, labels=LABELS)
    assert "found samples: 8, labels: 7" in message(images(8), IMAGE, labels=LABELS, limit=2)
    stream = [[images(3)], [images(3, 3)]]
    assert "found samples: 6, labels: 7" in message(stream, IMAGE, labels=LABELS)
    assert "found samples: 6, labels: 5" in message(stream, IMAGE, labels=LABELS[:5])


def test_labels_that_are_no_labels():
    assert "expected one array, found a dict of a, b" in message((images(2), {"a": LABELS, "b": LABELS}), IMAGE)
    assert "expected one array, found a tuple of 2" in message((images(2), (LABELS[:2], LABELS[:2])), IMAGE)
    assert "labels: expected an array, found SimpleNamespace" in message((images(2), SimpleNamespace()), IMAGE)
    assert "in the data too" in message((images(7), LABELS), IMAGE, labels=LABELS)
    mixed = [(images(1), LABELS[:1]), [images(1, 1)]]
    assert "data from sample 1 on: some batches have labels and others have none" in message(mixed, IMAGE)


def test_no_samples():
    for data in ([], (), np.zeros((0, 2, 3)), [[images(0)]], iter([]), lambda: iter([]), Indexed(), [images(0)]):
        text = message(data, IMAGE)
        assert "no samples" in text or "found 0 arrays" in text
    with pytest.raises(TfqError, match="read only once"):
        list(batches(iter([]), IMAGE))


def test_an_exhausted_generator():
    generator = ([images(1, i)] for i in range(3))
    check(list(batches(generator, IMAGE)), 3)
    assert "already exhausted; pass the function that makes it" in message(generator, IMAGE)


def test_no_data():
    with pytest.raises(TfqError, match=r"^recipe 'full_int8' needs ranges: that needs data; pass data="):
        require_data(None, "recipe 'full_int8' needs ranges")
    require_data(images(1), "anything")
    assert "that needs data; pass data=" in message(None, IMAGE)


def test_unknown_forms():
    assert "data of type object cannot be read; it may be an array" in message(object(), IMAGE)
    assert "must take no arguments" in message(lambda x: x, IMAGE)
    for options in ({"batch_size": 0}, {"limit": 0}):
        assert "must be at least 1" in message(images(1), IMAGE, **options)


def test_an_error_of_the_users_own_is_not_hidden():
    def broken():
        yield [images(1)]
        raise KeyError("of the user's own")

    with pytest.raises(KeyError, match="of the user's own"):
        list(batches(broken(), IMAGE))


# ------------------------------------------------------------------------------------------------ re-cutting


@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=12),
    size=st.integers(1, 9),
    limit=st.none() | st.integers(1, 40),
    labelled=st.sampled_from(["none", "inside", "beside"]),
    wide=st.booleans(),
)
def test_recutting_keeps_every_sample_in_order(
    sizes: list[int], size: int, limit: int | None, labelled: str, wide: bool
):
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    elements: list[Any] = []
    for count, end in zip(sizes, ends, strict=True):
        x: Any = [images(count, int(end) - count).astype(np.float64 if wide else np.float32)]
        elements.append((x, 10 * np.arange(end - count, end)) if labelled == "inside" else x)
    options: dict[str, Any] = {"labels": 10 * np.arange(total)} if labelled == "beside" else {}
    reader = batches(iter(elements), IMAGE, batch_size=size, limit=limit, **options)
    if not total:
        with pytest.raises(TfqError, match="no samples"):
            list(reader)
        return
    found = list(reader)
    expected = total if limit is None else min(total, limit)
    check(found, expected, labelled != "none")
    assert [batch.count for batch in found[:-1]] == [size] * (len(found) - 1)


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=12), fixed=st.integers(1, 6))
def test_recutting_to_a_fixed_batch_gives_that_batch_or_raises(sizes: list[int], fixed: int):
    ends = np.cumsum(sizes)
    elements = [[images(count, int(end) - count)] for count, end in zip(sizes, ends, strict=True)]
    reader = batches(elements, specs((fixed, 2, 3)), batch_size=5)
    if ends[-1] % fixed:
        with pytest.raises(TfqError, match=f"{ends[-1]} samples leave {ends[-1] % fixed} over"):
            list(reader)
        return
    found = list(reader)
    check(found, int(ends[-1]))
    assert {batch.count for batch in found} == {fixed}


# ------------------------------------------------------------------------------------------------ the model's inputs


def test_input_specs_take_names_from_the_signature_and_unknown_sizes():
    tensors = (
        Tensor("serving_default_b:0", (1, 4), "int32", (-1, 4)),
        Tensor("weights", (4, 4), "float32", data=np.zeros((4, 4), np.float32)),
        Tensor("serving_default_a:0", (1, 8, 8, 3), "float32"),
    )
    main = Subgraph("main", tensors, (), inputs=(2, 0), outputs=())
    assert input_specs(Graph((main,))) == [
        InputSpec("serving_default_a:0", (1, 8, 8, 3), "float32"),
        InputSpec("serving_default_b:0", (-1, 4), "int32"),
    ]
    signature = Signature("serving_default", 0, (("a", 2), ("b", 0)), ())
    assert [spec.name for spec in input_specs(Graph((main,), (signature,)))] == ["a", "b"]
