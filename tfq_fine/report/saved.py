"""The common base of all reports: JSON both ways, files, an HTML page, text."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from rich.console import Group

from tfq_converters.errors import TfqError
from tfq_converters.files import Place, from_plain, parsed, to_plain, write_file
from tfq_fine.report import html, text
from tfq_fine.report.notebook import framed
from tfq_fine.report.sections import Section


class SavedReport(ABC):
    """The base of frozen dataclasses that are reports; a subclass says its `KIND`, which its JSON begins with."""

    KIND: ClassVar[str]
    FORMER: ClassVar[Mapping[str, str]] = {}  # former names of fields, in JSON of earlier versions -> names

    @abstractmethod
    def _sections(self, all: bool) -> list[Section]:
        """Return the sections of the text: the worst layers, or with `all` everything."""

    @abstractmethod
    def _page(self) -> tuple[str, Sequence[Section]]:
        """Return the title and the sections of the HTML page."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """Return the rows as plain dicts of the same keys: `pandas.DataFrame(report.records())`."""

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

    def save_html(self, place: Place) -> None:
        """Write a page with tables and pictures; needs the optional extra `report`.

        Raises:
            TfqError: jinja2 or matplotlib is missing, or the place cannot be written.
        """
        write_file(place, [self.to_html().encode()])

    def to_html(self) -> str:
        """Return the text of the page that `save_html` writes.

        Raises:
            TfqError: jinja2 or matplotlib is missing.
        """
        return html.page(*self._page())

    def _repr_html_(self) -> str:
        """Return the page for a notebook."""
        return framed(self.to_html, str(self))
