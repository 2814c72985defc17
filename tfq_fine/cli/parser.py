"""The parser of all commands: groups, examples, short forms, and what a mistyped word may have meant."""

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from absl.flags import argparse_flags

Place = argparse.ArgumentParser | argparse._ArgumentGroup  # an option goes to a parser or to a group of it
WORD = r"[\w.-]+"


class Parser(argparse_flags.ArgumentParser):
    """A parser whose errors say what a mistyped command, option or choice may have meant."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*arguments, **settings)  # type: ignore[no-untyped-call]

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and the message, followed by what was probably meant."""
        super().error(message + suggestion(message, self._words()))

    def _words(self) -> list[str]:
        """Return the options of the command that is parsed, and those of all commands where none is."""
        parsers = [self]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
        return [
            word
            for parser in parsers
            for action in parser._actions
            for word in action.option_strings
            if "_" not in word and action.help != argparse.SUPPRESS
        ]


def suggestion(message: str, options: Sequence[str]) -> str:
    """Return ' (did you mean ...?)' for an error of argparse; "" where nothing is like the word.

    >>> suggestion("unrecognized arguments: --ouptut x", ["--output", "--recipe"])
    ' (did you mean --output?)'
    >>> suggestion("argument COMMAND: invalid choice: 'quantise' (choose from 'quantize', 'verify')", [])
    ' (did you mean quantize?)'
    """
    choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
    if choice:
        pairs = [(choice[1], re.findall(r"'(.*?)'", choice[2]))]
    elif message.startswith("unrecognized arguments:"):
        pairs = [(word, [*options]) for word in re.findall(rf"--{WORD}", message)]
    else:
        return ""
    meant = [near for word, words in pairs for near in difflib.get_close_matches(word, words, 1)]
    return f" (did you mean {', '.join(meant)}?)" if meant else ""


def option(place: Place, name: str, short: str = "", **details: Any) -> None:
    """Add an option that may be written with hyphens or, as absl writes them, with underscores; or as one letter."""
    dest = name.replace("-", "_")
    words = [f"--{name}", *([f"-{short}"] if short else [])]
    place.add_argument(*words[::-1], dest=dest, **details)
    if dest != name:
        hidden = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS, "required": False}
        place.add_argument(f"--{dest}", dest=dest, **(details | hidden))


def positive_integer(text: str) -> int:
    """Return an argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {text}")
    return value


def seconds(text: str) -> float:
    """Return an argument that is a time."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, found {text}")
    return value


def image_size(text: str) -> tuple[int, int]:
    """Return (height, width) of `224` or `224x192`.

    >>> image_size("224"), image_size("224x192")
    ((224, 224), (224, 192))
    """
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not sides or int(sides[1]) < 1 or int(sides[2] or 1) < 1:
        raise argparse.ArgumentTypeError(f"expected a side such as 224, or HEIGHTxWIDTH such as 224x192, found {text}")
    return int(sides[1]), int(sides[2] or sides[1])
