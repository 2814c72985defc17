"""Reading: a Keras model, a SavedModel or a float `.tflite`, in -> a `Source`, out. `reader` has the way through."""

from tfq_converters.reading.reader import Source, read_model

__all__ = ["Source", "read_model"]
