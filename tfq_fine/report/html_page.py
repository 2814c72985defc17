"""The base of all that has an HTML page: its text, a file of it, and the page in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from tfq_converters.files import Place, write_file
from tfq_fine.report import html
from tfq_fine.report.notebook import framed
from tfq_fine.report.sections import Section


class HtmlPage(ABC):
    """A value with a page; a subclass says what the page shows."""

    @abstractmethod
    def _page(self) -> tuple[str, Sequence[Section]]:
        """Return the title and the sections of the HTML page."""

    def to_html(self) -> str:
        """Return the text of the page that `save_html` writes.

        Raises:
            TfqError: jinja2 or matplotlib is missing.
        """
        return html.page(*self._page())

    def save_html(self, place: Place) -> None:
        """Write a page with tables and pictures; needs the optional extra `report`.

        Raises:
            TfqError: jinja2 or matplotlib is missing, or the place cannot be written.
        """
        write_file(place, [self.to_html().encode()])

    def _repr_html_(self) -> str:
        """Return the page for a notebook."""
        return framed(self.to_html, str(self))
