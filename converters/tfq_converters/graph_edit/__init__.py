"""Graphs that are made of other graphs: parts of one, one of its signatures, several joined."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.graph_edit.parts import UNCHECKED_TYPES, Part, cut, keeps_state, part, without_unused
    from tfq_converters.graph_edit.subgraphs import entry, together, with_main
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "parts": "Part UNCHECKED_TYPES cut keeps_state part without_unused",
            "subgraphs": "entry together with_main",
        },
    )

__all__ = ["UNCHECKED_TYPES", "Part", "cut", "entry", "keeps_state", "part", "together", "with_main", "without_unused"]
