"""Names in strangers' files may hold what a terminal obeys; it is shown, not obeyed."""

import pytest
from rich.console import Console

from tfq_converters.errors import TfqError, printable, raise_all
from tfq_fine.report.sections import Grid, Paragraph
from tfq_fine.report.text import plain_text, rich_group

EVIL = "name\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp"
SHOWN = r"name\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp"


def test_every_control_character_is_escaped_and_other_text_is_not():
    text = "".join(map(chr, range(0x20, 0x7F))) + "\t\näöü 層 é"
    assert printable(text) == text
    controls = [*range(9), *range(11, 32), *range(0x7F, 0xA0)]
    assert all(printable(chr(code)) == chr(code).encode("unicode_escape").decode() for code in controls)


def test_tables_and_paragraphs_escape_names():
    sections = [Paragraph(EVIL), Grid(EVIL, ["layer", "note"], [[EVIL, "a"], ["b", EVIL]])]
    text = plain_text(sections)
    assert text.count(SHOWN) == 4 and not set(text) & set("\x1b\x07\x9b\r\u202e")


def test_colours_are_those_of_the_report_alone():
    console = Console(force_terminal=True, width=200)
    with console.capture() as capture:
        console.print(rich_group([Grid(EVIL, ["layer"], [[EVIL]])]))
    text = capture.get()
    assert "\x1b]0" not in text and "\x9b" not in text and "\x1b[2J" not in text and text.count(SHOWN) == 2


def test_errors_escape_names():
    with pytest.raises(TfqError) as error:
        raise_all([f"layer {EVIL}: a"])
    assert str(error.value) == f"layer {SHOWN}: a"
