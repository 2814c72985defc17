"""Reports: frozen values with fields for programs, a table for people, JSON both ways, and a page with pictures."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.report.activations import activation_rows
    from tfq_fine.report.html import page, require_extra
    from tfq_fine.report.html_page import HtmlPage
    from tfq_fine.report.layers import SQNR_EXPLAINED
    from tfq_fine.report.measurements import FileSize, Latency, LayerError, OutputError, TaskResult
    from tfq_fine.report.notebook import framed
    from tfq_fine.report.provenance import Provenance
    from tfq_fine.report.quantization import OpRow, QuantizationReport, TransformRow
    from tfq_fine.report.sections import (
        Banner,
        Bars,
        Figures,
        Grid,
        Lines,
        Paragraph,
        Section,
        brief_name,
        decibels,
        size,
    )
    from tfq_fine.report.side_by_side import SideBySide, load_report
    from tfq_fine.report.summary import summarize
    from tfq_fine.report.text import SectionsText, plain_text, rich_group
    from tfq_fine.report.verdict import GOOD_DB, WEAK_DB, OutputVerdict, Verdict
    from tfq_fine.report.verification import Report
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "activations": "activation_rows",
            "html_page": "HtmlPage",
            "html": "page require_extra",
            "notebook": "framed",
            "measurements": "FileSize Latency LayerError OutputError TaskResult",
            "provenance": "Provenance",
            "quantization": "OpRow QuantizationReport TransformRow",
            "layers": "SQNR_EXPLAINED",
            "sections": "Banner Bars Figures Grid Lines Paragraph Section brief_name decibels size",
            "side_by_side": "SideBySide load_report",
            "summary": "summarize",
            "text": "SectionsText plain_text rich_group",
            "verdict": "GOOD_DB WEAK_DB OutputVerdict Verdict",
            "verification": "Report",
        },
    )

__all__ = [
    "GOOD_DB",
    "SQNR_EXPLAINED",
    "WEAK_DB",
    "Banner",
    "Bars",
    "Figures",
    "FileSize",
    "Grid",
    "HtmlPage",
    "Latency",
    "LayerError",
    "Lines",
    "OpRow",
    "OutputError",
    "OutputVerdict",
    "Paragraph",
    "Provenance",
    "QuantizationReport",
    "Report",
    "Section",
    "SectionsText",
    "SideBySide",
    "TaskResult",
    "TransformRow",
    "Verdict",
    "activation_rows",
    "brief_name",
    "decibels",
    "framed",
    "load_report",
    "page",
    "plain_text",
    "require_extra",
    "rich_group",
    "size",
    "summarize",
]
