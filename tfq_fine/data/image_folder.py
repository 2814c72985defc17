"""A folder of images as data: one sample a file, with its sub-folder as label."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfq_converters.errors import TfqError, extras_named, raise_all
from tfq_converters.graph import AnyArray, Float32Array

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif"})  # those that Keras reads
CHANNELS = {"rgb": 3, "grayscale": 1}
Preprocess = Callable[[Float32Array], Any]  # images [n, height, width, channels] of 0 to 255 -> what the model takes


class ImageFolder(Sequence[tuple[AnyArray, ...]]):
    """Images in a folder and its sub-folders, read and resized as `keras.utils.image_dataset_from_directory` does it.

    They are read when they are asked for.

    An element is (images [1, height, width, channels],), or (images, labels [1]) where images lie in sub-folders: their
    classes are the sub-folders in alphabetical order. Elements come in an order that is drawn once by `seed`, so that
    the first ones are of all classes.

    Args:
        folder: where the images are.
        size: (height, width) that images are resized to, bilinearly.
        color: "rgb" or "grayscale".
        scale: what values of 0 to 255 are multiplied by.
        offset: what is added after that.
        preprocess: a function of a batch of images in place of `scale` and `offset`, or the name of a module of
            keras.applications, such as "mobilenet_v2", whose `preprocess_input` is taken.
        seed: draws the order.

    Raises:
        TfqError: no such folder, one without images, images next to sub-folders of images, or bad options.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: tuple[int, int],
        color: Literal["rgb", "grayscale"] = "rgb",
        scale: float = 1.0,
        offset: float = 0.0,
        preprocess: str | Preprocess | None = None,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        raise_all(
            problem
            for problem, holds in {
                f"size: expected (height, width) of at least 1 each, found {size}": not _is_size(size),
                f"color: expected rgb or grayscale, found {color!r}": color not in CHANNELS,
                "preprocess takes the place of scale and offset: give one or the other": preprocess is not None
                and (scale, offset) != (1.0, 0.0),
            }.items()
            if holds
        )
        self.size, self._channels = size, CHANNELS[color]
        self._preprocess = _preprocessing(preprocess, scale, offset)
        paths, self.classes = _listed(self.folder)
        order = np.random.default_rng(seed).permutation(len(paths))
        self._paths = [paths[k] for k in order]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        path = self._paths[index]
        images = np.asarray(self._preprocess(self._image(path)[None]), np.float32)
        if not self.classes:
            return (images,)
        return images, np.array([self.classes.index(path.relative_to(self.folder).parts[0])])

    @extras_named()
    def _image(self, path: Path) -> Float32Array:
        import tensorflow as tf

        try:
            image = tf.io.decode_image(tf.io.read_file(str(path)), self._channels, expand_animations=False)
        except tf.errors.OpError as error:
            raise TfqError(f"{path} cannot be read as an image: {error.message.splitlines()[0]}") from error
        return np.array(tf.image.resize(image, self.size), np.float32)  # a copy, which may be written into


def _listed(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images below a folder by path, and the names of their classes."""
    if not folder.is_dir():
        raise TfqError(f"{folder} is no folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise TfqError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    direct = [path for path in paths if path.parent == folder]
    if direct and len(direct) < len(paths):
        raise TfqError(
            f"{folder} holds images ({direct[0].name}) and sub-folders of images: put all images into sub-folders, one "
            "for each class, or none"
        )
    return paths, [] if direct else sorted({path.relative_to(folder).parts[0] for path in paths})


def _is_size(size: object) -> bool:
    return isinstance(size, tuple) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)


@extras_named()
def _preprocessing(preprocess: str | Preprocess | None, scale: float, offset: float) -> Preprocess:
    if preprocess is None:
        return lambda images: images * np.float32(scale) + np.float32(offset)
    if not isinstance(preprocess, str):
        return preprocess
    import keras

    name = preprocess.removeprefix("keras.applications.")
    module = getattr(keras.applications, name, None)
    function = getattr(module, "preprocess_input", None)
    if function is None:
        names = sorted(
            n for n in dir(keras.applications) if hasattr(getattr(keras.applications, n), "preprocess_input")
        )
        raise TfqError(f"preprocess: keras.applications has no module {name!r}; it has {', '.join(names)}")
    return function  # type: ignore[no-any-return]
