"""The elements of the data, one at a time, whatever form the user has it in; no framework is imported."""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tfq_converters.errors import TfqError
from tfq_fine.data.files import read_file

FORMS = (
    "an array, a list, tuple or dict of arrays, a tf.data.Dataset, a keras.utils.PyDataset, a list of batches, "
    "a generator, a function that returns one, a tfq.ImageFolder, or the path of a .npz, .npy or .csv file"
)


@dataclass(frozen=True)
class Source:
    """Elements of user data: arrays, lists, tuples or dicts of arrays."""

    elements: Iterator[Any]
    whole: bool = False  # the only element is all the data
    single: bool = False  # an element may be one sample without a batch axis
    empty: str = "the data holds no samples"  # what to say if there are no samples
    labels: Any = None  # labels that came with the only element


def require_data(data: Any, why: str) -> None:
    """Raise when there is no data where a recipe or a metric cannot do without.

    Args:
        data: what the user gave.
        why: the clause that says what needs it: "recipe 'full_int8' fixes the ranges of activations in advance".

    Raises:
        TfqError: `data` is None.
    """
    if data is None:
        raise TfqError(f"{why}: that needs data; pass data=..., which may be {FORMS}")


def open_source(data: Any, input_names: list[str]) -> Source:
    """Recognize the form of `data`.

    Raises:
        TfqError: no known form, a file that cannot be read, a generator that was already used, an endless dataset.
    """
    if isinstance(data, str | os.PathLike):
        element, labels = read_file(data, input_names)
        return Source(iter([element]), whole=True, labels=labels)
    if isinstance(data, list) and all(isinstance(item, list | tuple | dict) for item in data):
        return Source(iter(data))
    if is_array(data) or isinstance(data, list | tuple | dict):
        return Source(iter([data]), whole=True)
    if hasattr(data, "as_numpy_iterator"):
        return Source(data.as_numpy_iterator(), single=True)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return Source(data[index] for index in range(len(data)))
    if hasattr(data, "__next__"):
        return Source(data, empty=_used_up(data))
    if callable(data):
        return open_source(_called(data), input_names)
    if isinstance(data, Iterable):
        return Source(iter(data))
    raise TfqError(f"data of type {type(data).__name__} cannot be read; it may be {FORMS}")


def is_array(value: Any) -> bool:
    """Return whether `value` is an array of any library: NumPy, TensorFlow, PyTorch, h5py, pandas ..."""
    return hasattr(value, "__array__") or (hasattr(value, "shape") and hasattr(value, "dtype"))


def is_endless(data: Any) -> bool:
    """Return whether `data` is a `tf.data.Dataset` that is known to repeat forever."""
    return hasattr(data, "as_numpy_iterator") and hasattr(data, "cardinality") and int(data.cardinality()) == -1


def _called(function: Callable[[], Any]) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise TfqError(f"the function given as data must take no arguments: {error}") from error
    except ValueError:  # written in C, without a signature to look at
        return function()
    return function()


def _used_up(iterator: Any) -> str:
    if inspect.isgenerator(iterator) and inspect.getgeneratorstate(iterator) == inspect.GEN_CLOSED:
        return "the generator is already exhausted; pass the function that makes it, which can be called again"
    return (
        "the data holds no samples; an iterator can be read only once: if it was read before, pass the function that "
        "makes it, which can be called again"
    )
