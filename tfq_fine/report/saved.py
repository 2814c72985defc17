"""The common base of all reports: JSON both ways, files, an HTML page, text."""

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from rich.console import Group

from tfq_converters.errors import TfqError
from tfq_converters.files import Place, from_plain, parsed, to_plain, write_file
from tfq_fine.report import text
from tfq_fine.report.exports import csv_text, node_data
from tfq_fine.report.html_page import HtmlPage
from tfq_fine.report.sections import Section


class SavedReport(HtmlPage):
    """The base of frozen dataclasses that are reports; a subclass says its `KIND`, which its JSON begins with."""

    KIND: ClassVar[str]
    FORMER: ClassVar[Mapping[str, str]] = {}  # former names of fields, in JSON of earlier versions -> names

    @abstractmethod
    def _sections(self, all: bool) -> list[Section]:
        """Return the sections of the text: the worst layers, or with `all` everything."""

    @abstractmethod
    def layer_rows(self) -> list[dict[str, Any]]:
        """Return a dict of plain values for each layer that was measured, in graph order, as `pandas.DataFrame` takes.

        Keys: name, layer, code, dtype, sqnr_db, max_error, own_db, weights_db (dB; None: not measured), inherited and
        of_weights (shares of noise), weights (how they are stored).
        """

    def __str__(self) -> str:
        return self.table()

    def __rich__(self) -> Group:
        return text.rich_group(self._sections(all=False))

    def table(self, all: bool = False) -> str:
        """Return plain text: the worst layers, or with `all` everything in graph order."""
        return text.plain_text(self._sections(all))

    def to_json(self) -> str:
        """Return JSON text; `from_json` gives the same value back."""
        return json.dumps({"kind": self.KIND} | to_plain(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: str) -> Self:
        """Return the inverse of `to_json`.

        Raises:
            TfqError: the text is not such a report.
        """
        plain = parsed(content, "the report")
        if not isinstance(plain, dict) or plain.pop("kind", None) != cls.KIND:
            raise TfqError(f'expected a report with "kind": "{cls.KIND}"')
        plain = {cls.FORMER.get(name, name): value for name, value in plain.items()}
        return from_plain(plain, cls, "the report")

    def save(self, place: Place) -> None:
        """Write the JSON to a path or open descriptor (`tfq_converters.files`).

        Raises:
            TfqError: the place cannot be written.
        """
        write_file(place, [self.to_json().encode()])

    def save_csv(self, place: Place) -> None:
        """Write `layer_rows` as CSV with a line of headings.

        Raises:
            TfqError: the place cannot be written.
        """
        write_file(place, [csv_text(self.layer_rows()).encode()])

    def save_node_data(self, place: Place, measure: str = "sqnr") -> None:
        """Write a measure of every layer as node data, which Model Explorer shows over the graph of the file.

        Args:
            place: a path or open descriptor.
            measure: "sqnr" in dB, "own" for the layer's own SQNR, "bits" of its weights.

        Raises:
            TfqError: an unknown measure, one that was not measured, or a place that cannot be written.
        """
        write_file(place, [node_data(self.layer_rows(), measure).encode()])
