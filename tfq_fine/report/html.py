"""Sections as one self-contained page. The only module that uses jinja2 and matplotlib, which are an optional extra."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_fine.report.sections import (
    Bars,
    Curves,
    Grid,
    Paragraph,
    Section,
    brief_name,
)

COLUMNS = 4  # small pictures side by side
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { font: 15px/1.4 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 0 0 1.5em; }
th, td { padding: .2em .8em; text-align: left; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
{% if section.kind == "paragraph" %}<p>{{ section.text }}</p>
{% elif section.kind == "picture" %}<h2>{{ section.title }}</h2>
{{ section.svg }}
{% else %}<h2>{{ section.title }}</h2>
<table>
<tr>
{%- for name, number in section.columns %}<th{% if number %} class="number"{% endif %}>{{ name }}</th>{% endfor -%}
</tr>
{% for row in section.rows %}<tr>
{%- for cell in row %}<td{% if section.columns[loop.index0][1] %} class="number"{% endif %}>{{ cell }}</td>{% endfor -%}
</tr>
{% endfor %}</table>
{% endif %}
{% endfor %}</body>
</html>
"""


def page(title: str, sections: Sequence[Section]) -> str:
    """Return the text of the page.

    Raises:
        TfqError: jinja2 or matplotlib is not installed.
    """
    require_extra()
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(title=title, sections=[_plain(section) for section in sections])


def require_extra() -> None:
    """Raise when the packages that pages need are missing.

    Raises:
        TfqError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise TfqError(
            f"HTML reports need jinja2 and matplotlib, and {error.name} is not installed: "
            "pip install 'tfq_fine[report]', or write the report as JSON"
        ) from error


def _plain(section: Section) -> dict[str, Any]:
    match section:
        case Paragraph(text):
            return {"kind": "paragraph", "text": text}
        case Grid(title, columns, rows):
            headings = [(column.removeprefix(">"), column.startswith(">")) for column in columns]
            return {"kind": "grid", "title": title, "columns": headings, "rows": rows}
        case Bars():
            return {"kind": "picture", "title": section.title, "svg": _bars(section)}
        case Curves():
            return {"kind": "picture", "title": section.title, "svg": _curves(section)}


def _bars(bars: Bars) -> Any:
    """Draw horizontal bars, the first name on top; a value that is not finite gets its name in place of a bar."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    height = 0.8 / len(bars.series)
    with rc_context({"svg.hashsalt": bars.title, "text.parse_math": False, "axes.formatter.use_mathtext": False}):
        figure = Figure(figsize=(9, 0.8 + 0.22 * len(bars.names) * (1 + len(bars.series)) / 2), layout="constrained")
        axes = figure.subplots()
        for index, (label, values) in enumerate(bars.series.items()):
            places = [place + (index - (len(bars.series) - 1) / 2) * height for place in range(len(values))]
            axes.barh(places, [v if math.isfinite(v) else 0.0 for v in values], height, label=label)
            for place, value in zip(places, values, strict=True):
                if not math.isfinite(value):
                    axes.text(0, place, f" {'exact' if value == math.inf else value}", va="center", fontsize=8)
        axes.set_yticks(range(len(bars.names)), [brief_name(name, 48) for name in bars.names], fontsize=8)
        axes.set_ylim(len(bars.names) - 0.5, -0.5)
        axes.set_xlabel(bars.unit)
        if len(bars.series) > 1:
            axes.legend()
        return _svg(figure)


def _curves(curves: Curves) -> Any:
    """Draw histograms side by side, counts on a logarithmic axis, the marked part of each shaded."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = -(-len(curves.names) // COLUMNS)
    with rc_context({"svg.hashsalt": curves.title, "text.parse_math": False, "axes.formatter.use_mathtext": False}):
        figure = Figure(figsize=(11, 1.7 * rows), layout="constrained")
        places = figure.subplots(rows, COLUMNS, squeeze=False).reshape(-1)
        for axes in places[len(curves.names) :]:
            axes.set_axis_off()
        for axes, name, shares, (low, high), mark in zip(
            places, curves.names, curves.shares, curves.limits, curves.marks, strict=False
        ):
            axes.stairs(shares, np.linspace(low, high, len(shares) + 1), fill=True)
            axes.axvspan(*mark, alpha=0.2, color="tab:green")
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:.2%}")  # the default one writes formulas
            axes.yaxis.set_minor_formatter("")
            axes.set_title(brief_name(name, 36), fontsize=7)
            axes.tick_params(labelsize=6)
        return _svg(figure)


def _svg(figure: Any) -> Any:
    import markupsafe

    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return markupsafe.Markup(stream.getvalue()[stream.getvalue().index("<svg") :])
