"""Graphs that are made of other graphs: parts of one, one of its signatures, several joined."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.graph_edit import steps
    from tfq_converters.graph_edit.builder import GraphBuilder
    from tfq_converters.graph_edit.fake_quantize import dequantize, encoded, fake_quantized, float_like, quantize
    from tfq_converters.graph_edit.parts import (
        UNCHECKED_TYPES,
        Part,
        chunks,
        cut,
        float_bytes,
        keeps_state,
        on_given_values,
        part,
        without_unused,
    )
    from tfq_converters.graph_edit.subgraphs import entry, together, with_main
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "builder": "GraphBuilder",
            "fake_quantize": "dequantize encoded fake_quantized float_like quantize",
            "parts": "Part UNCHECKED_TYPES chunks cut float_bytes keeps_state on_given_values part without_unused",
            "steps": "steps",
            "subgraphs": "entry together with_main",
        },
    )

__all__ = [
    "UNCHECKED_TYPES",
    "GraphBuilder",
    "Part",
    "chunks",
    "cut",
    "dequantize",
    "encoded",
    "entry",
    "fake_quantized",
    "float_bytes",
    "float_like",
    "keeps_state",
    "on_given_values",
    "part",
    "quantize",
    "steps",
    "together",
    "with_main",
    "without_unused",
]
