"""The public classes of `keras.layers` that have no case in `keras_cases`, and why; the tests measure the reasons.

A builder is a function `keras.layers` -> (inputs, output) of a branch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras

Built = tuple[list[Any], Any]
Builder = Callable[[Any], Built]

ABSTRACT = {
    "Layer": "the base class",
    "Wrapper": "the base class of TimeDistributed and Bidirectional",
    "InputLayer": "every model has one; it computes nothing",
}
FOREIGN = {  # of packages that TensorFlow's converter does without; what they compute is no layer of Keras
    "FlaxLayer": "wraps a module of flax",
    "JaxLayer": "wraps a function of jax",
    "TorchModuleWrapper": "wraps a module of torch",
    "TFSMLayer": "wraps a SavedModel",
}


def _on(*shapes: tuple[int, ...], dtype: str = "float32") -> Callable[[Callable[[Any, Any], Any]], Builder]:
    """A builder from inputs of `shapes` and a function (`keras.layers`, inputs) -> output."""

    def builder(build: Callable[[Any, Any], Any]) -> Builder:
        def branch(layers: Any) -> Built:
            inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
            return inputs, build(layers, inputs[0] if len(inputs) == 1 else inputs)

        return branch

    return builder


_image, _volume = _on((9, 11, 3)), _on((4, 5, 7, 3))
UNIT = {"value_range": (0, 1)}


def _augmentation(name: str, **options: Any) -> Builder:
    return _image(lambda layers, x: getattr(layers, name)(**options)(x))


IDENTITIES: Mapping[str, Builder] = {  # augmentation: it works in training alone
    "AugMix": _augmentation("AugMix", **UNIT),
    "CutMix": _augmentation("CutMix"),
    "MixUp": _augmentation("MixUp"),
    "RandAugment": _augmentation("RandAugment", **UNIT),
    "RandomBrightness": _augmentation("RandomBrightness", factor=0.2),
    "RandomColorDegeneration": _augmentation("RandomColorDegeneration", factor=0.2),
    "RandomColorJitter": _augmentation("RandomColorJitter", brightness_factor=0.2, **UNIT),
    "RandomContrast": _augmentation("RandomContrast", factor=0.2),
    "RandomCrop": _augmentation("RandomCrop", height=9, width=11),
    "RandomElasticTransform": _augmentation("RandomElasticTransform"),
    "RandomErasing": _augmentation("RandomErasing"),
    "RandomFlip": _augmentation("RandomFlip"),
    "RandomGaussianBlur": _augmentation("RandomGaussianBlur"),
    "RandomGrayscale": _augmentation("RandomGrayscale"),
    "RandomHue": _augmentation("RandomHue", factor=0.2),
    "RandomInvert": _augmentation("RandomInvert"),
    "RandomPerspective": _augmentation("RandomPerspective"),
    "RandomPosterization": _augmentation("RandomPosterization", factor=4),
    "RandomRotation": _augmentation("RandomRotation", factor=0.2),
    "RandomSaturation": _augmentation("RandomSaturation", factor=0.2),
    "RandomSharpness": _augmentation("RandomSharpness", factor=0.2),
    "RandomShear": _augmentation("RandomShear", x_factor=0.2),
    "RandomTranslation": _augmentation("RandomTranslation", height_factor=0.2, width_factor=0.2),
    "RandomZoom": _augmentation("RandomZoom", height_factor=0.2),
    "Solarization": _augmentation("Solarization", **UNIT),
}
_numbers, _texts = _on((3,), dtype="int32"), _on((1,), dtype="string")
NEEDS_TENSORFLOW: Mapping[str, Builder] = {  # TFLite has no such operator: the converter keeps TensorFlow's
    "AveragePooling3D": _volume(lambda layers, x: layers.AveragePooling3D(2)(x)),
    "MaxPooling3D": _volume(lambda layers, x: layers.MaxPooling3D(2)(x)),
    "AdaptiveAveragePooling3D": _volume(lambda layers, x: layers.AdaptiveAveragePooling3D(2)(x)),
    "AdaptiveMaxPooling3D": _volume(lambda layers, x: layers.AdaptiveMaxPooling3D(2)(x)),
    "Hashing": _numbers(lambda layers, x: layers.Hashing(5)(x)),
    "HashedCrossing": _on((1,), (1,), dtype="int32")(lambda layers, x: layers.HashedCrossing(5)(x)),
    "IntegerLookup": _on((3,), dtype="int64")(lambda layers, x: layers.IntegerLookup(vocabulary=[3, 5, 7])(x)),
    "TextVectorization": _texts(
        lambda layers, x: layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4)(x)
    ),
}
STRINGS: Mapping[str, Builder] = {
    "StringLookup": _texts(lambda layers, x: layers.StringLookup(vocabulary=["a", "b"])(x)),
}
UNBUILDABLE: Mapping[str, tuple[Builder, str]] = {  # a functional model is refused, with these words
    "Equalization": (_augmentation("Equalization", value_range=(0, 255)), "part of a cycle"),
}
