"""What a search found: the file, the recipe that makes it, and the points that were run on the way."""

from dataclasses import dataclass, field

from tfq_converters.files import Place, write_file
from tfq_fine.api import Result
from tfq_fine.request import Recipe


@dataclass(frozen=True)
class Point:
    """One file that was made and run."""

    name: str
    bytes: int
    sqnr_db: float  # of the outputs on the samples that decide, the mean over them
    recipe: Recipe = field(repr=False)


@dataclass(frozen=True)
class LayerChoice:
    """What one layer got, and what each candidate would cost and lose there alone."""

    layer: str
    chosen: str
    bytes: dict[str, int]  # candidate -> bytes more than the smallest one takes
    noise: dict[str, float]  # candidate -> share of noise in the outputs with only this layer quantized


@dataclass(frozen=True)
class SearchResult:
    """The best file that was found."""

    result: Result  # of `quantize` with the recipe
    recipe: Recipe
    layers: tuple[LayerChoice, ...]
    frontier: tuple[Point, ...]  # the files that were made; the chosen one is the first
    float_bytes: int
    predicted_bytes: int  # by the sum over layers

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.result.content

    def save(self, place: Place) -> None:
        """Write the file to a path or open descriptor.

        Raises:
            TfqError: the place cannot be written.
        """
        self.result.save(place)

    def save_recipe(self, place: Place) -> None:
        """Write the recipe as JSON, which `quantize` and `tfq-fine quantize --recipe` take.

        Raises:
            TfqError: the place cannot be written.
        """
        write_file(place, [self.recipe.to_json().encode() + b"\n"])

    def __str__(self) -> str:
        width = max((len(row.layer) for row in self.layers), default=0)
        rows = [f"  {row.layer:<{width}}  {row.chosen}" for row in self.layers]
        best = self.frontier[0]
        share = 100 * best.bytes / self.float_bytes
        head = f"{best.bytes} bytes, {share:.1f} % of the float file; {best.sqnr_db:.1f} dB"
        return "\n".join((head, *rows))
