"""Models in any form, opened: Keras, wrapped or trained with TFMOT, SavedModel, `.tflite` -> graph and overrides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.reading import Source, read_model
from tfq_fine.data import Described
from tfq_fine.layers import Overrides, WrappedModel, without_marks, wrapped_model
from tfq_fine.request import Recipe
from tfq_fine.tfmot import qat_model

Shapes = Callable[[Sequence[str]], list[list[Described]]]


@dataclass(frozen=True)
class OpenModel:
    """A model whose form is known and whose graph is not read yet.

    Attributes:
        model: any model that `tfq_converters.reading.read_model` takes.
        wrapped: the wrappers that were taken off it; None where there were none.
        safe_mode: refuse Keras files and SavedModels that do more than compute (SECURITY.md).
    """

    model: Any
    wrapped: WrappedModel | None
    safe_mode: bool

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that the model was annotated with; None where it was not."""
        return self.wrapped.recipe if self.wrapped else None

    def read(self, shapes: Shapes | None) -> tuple[Source, Overrides | None]:
        """Return (the float graph with what is known of its layers, the numbers that wrappers hold for it).

        Args:
            shapes: tells the shapes of inputs that the model does not know; None where nothing does.

        Raises:
            TfqError: the model cannot be read.
        """
        source = read_model(self.model, safe_mode=self.safe_mode, shapes=shapes)
        if self.wrapped is None:
            return source, None
        source = replace(source, graph=without_marks(source.graph))
        return source, self.wrapped.overrides(source.graph)

    def read_plain(self, shapes: Shapes | None, caller: str) -> Source:
        """Return the float graph of a model without wrappers.

        Args:
            shapes: as in `read`.
            caller: the function that takes such models alone, for the message.

        Raises:
            TfqError: the model cannot be read, or holds wrappers.
        """
        source, overrides = self.read(shapes)
        if overrides is not None:
            raise TfqError(f"the model holds wrappers, which fix the specs of its layers; {caller} takes a plain model")
        return source


def open_model(model: Any, safe_mode: bool = True) -> OpenModel:
    """Open a model in any form that `quantize` documents.

    Raises:
        TfqError: the file would run code by being opened, and `safe_mode` forbids it.
    """
    wrapped = qat_model(model) or wrapped_model(model, safe_mode)
    return OpenModel(wrapped.model if wrapped else model, wrapped, safe_mode)
