"""Mixed precision: the candidate of every layer with which the file is best within a budget."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.mixed_precision.analysis import Analysis, LayerAnalysis, analyze
    from tfq_fine.mixed_precision.budget_search import search
    from tfq_fine.mixed_precision.result import LayerChoice, Point, SearchResult
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "analysis": "Analysis LayerAnalysis analyze",
            "budget_search": "search",
            "result": "LayerChoice Point SearchResult",
        },
    )

__all__ = ["Analysis", "LayerAnalysis", "LayerChoice", "Point", "SearchResult", "analyze", "search"]
