"""The stock converter on a SavedModel, without the work whose result it throws away."""

from collections.abc import Sequence
from typing import Any


def saved_model_converter(folder: str, keys: Sequence[str]) -> Any:
    """Return the TFLiteConverter of the signatures `keys` of a SavedModel; its file is that of `from_saved_model`.

    `from_saved_model` itself loads the SavedModel to look for the keys, and drops all signatures but one where
    `ExportArchive` wrote it. Its converter loads it once more, for debug information that is not passed on, and then
    collects the garbage of the whole process: together half of the time that a small model takes.
    """
    from tensorflow.lite.python import lite

    class Converter(lite.TFLiteSavedModelConverterV2):  # type: ignore[misc] # TensorFlow is not typed
        def convert(self) -> Any:
            return self._convert_and_export_metrics(_converted)

    lite.TFLiteConverterBase._set_original_model_type(lite.conversion_metadata_fb.ModelType.TF_SAVED_MODEL)
    return Converter(folder, {"serve"}, list(keys))


def _converted(converter: Any) -> Any:
    """Return the file as `TFLiteSavedModelConverterV2.convert` makes it."""
    graph, _, _ = converter._load_saved_model(converter.saved_model_dir, {"serve"})
    return converter._convert_from_saved_model(graph)
