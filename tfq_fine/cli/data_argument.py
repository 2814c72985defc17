"""The `--data` argument: files, folders of images, or either by signature."""

import argparse
from pathlib import Path
from typing import Any

from tfq_converters.errors import TfqError
from tfq_fine.cli.signature_values import by_signature
from tfq_fine.data import ImageFolder

OF_IMAGES = ("image_size", "color", "scale", "offset", "preprocess")


def data_of(arguments: argparse.Namespace) -> Any:
    """Return the data that was asked for: paths of files, folders of images, or a dict of them by signature.

    Raises:
        TfqError: a folder without a size of its images, or options of images without a folder.
    """
    data = by_signature("data", arguments.data)
    several = data if isinstance(data, dict) else {"": data}
    of_images = {name: getattr(arguments, name) for name in OF_IMAGES if getattr(arguments, name) is not None}
    folders = [path for path in several.values() if path is not None and Path(path).is_dir()]
    if of_images and not folders:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in of_images)
        raise TfqError(f"{options}: --data is no folder of images")
    if folders and "image_size" not in of_images:
        raise TfqError(f"--data: {folders[0]} is a folder of images, which needs their size: --image-size 224x224")
    settings = {name: value for name, value in of_images.items() if name != "image_size"}
    read = {
        key: ImageFolder(path, of_images["image_size"], **settings) if path in folders else path
        for key, path in several.items()
    }
    return read if isinstance(data, dict) else read[""]
