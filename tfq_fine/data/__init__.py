"""Representative or test data, in the forms that users have it, as batches that fit a model's inputs.

Forms: an array with samples along axis 0; a list or tuple of arrays, or a dict of arrays by input name; a
`tf.data.Dataset`, batched or not; a `keras.utils.PyDataset` or anything else that is indexed by batch or iterated; a
list of batches; a generator (read once, never held); a function without arguments that returns any of these; the path
of a `.npz`, `.npy` or `.csv` file (a number in each column); an `ImageFolder`.

What one array, one batch of the user or one element of a dataset means:

| found | for a model of one input | for a model of n > 1 inputs |
|---|---|---|
| an array | the input | an error |
| a dict | inputs by name | inputs by name |
| a list | `[x]`: inputs, always | n inputs in order, always |
| a tuple | `(x,)`: inputs; `(x, y)`, `(x, y, weights)`: labelled | n arrays: inputs in order |
| a tuple whose first item is a dict, list or tuple | labelled: `(inputs, y)` or `(inputs, y, weights)` | the same |

Sample weights are not used. A `.npz` file holds arrays by input name (a single array may have any name, and
`arr_0`, `arr_1` ... are the inputs in order), and labels under `labels` or `y` unless that names an input.

The batch axis is axis 0 of the inputs whose size there is unknown; where none is, of those of the one size that all
inputs share there (1 where they differ). An input without a batch axis takes exactly its shape, the same for all
samples, or one such value per sample, stacked along a new axis 0. An input of fixed shape with a batch axis may be
stacked in that way too: then each index of the new axis is one sample, run by itself.
"""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.data.batch import Batch, InputSpec, input_specs
    from tfq_fine.data.counting import known_count
    from tfq_fine.data.cutting import batches, singles
    from tfq_fine.data.image_folder import ImageFolder
    from tfq_fine.data.peeking import Described, Peeked
    from tfq_fine.data.source import require_data
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "batch": "Batch InputSpec input_specs",
            "counting": "known_count",
            "cutting": "batches singles",
            "image_folder": "ImageFolder",
            "peeking": "Described Peeked",
            "source": "require_data",
        },
    )

__all__ = [
    "Batch",
    "Described",
    "ImageFolder",
    "InputSpec",
    "Peeked",
    "batches",
    "input_specs",
    "known_count",
    "require_data",
    "singles",
]
