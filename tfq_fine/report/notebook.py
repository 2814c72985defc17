"""Pages in notebooks: in a frame of their own, so that neither their style nor the notebook's reaches the other."""

from collections.abc import Callable
from html import escape

from tfq_converters.errors import TfqError

HEIGHT = "70vh"


def framed(make_page: Callable[[], str], text: str) -> str:
    """Return a page in a frame, or where the extra `report` is missing, text and what to install.

    Args:
        make_page: makes the page.
        text: what is shown instead.
    """
    try:
        page = make_page()
    except TfqError as error:  # a package is missing
        return f"<pre>{escape(text)}\n\n{escape(str(error))}</pre>"
    style = f"width: 100%; height: {HEIGHT}; border: 1px solid #8886"
    return f'<iframe title="Report" srcdoc="{escape(page)}" style="{style}"></iframe>'
