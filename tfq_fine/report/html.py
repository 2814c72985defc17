"""Sections as one self-contained page. The only module that uses jinja2 and matplotlib, which are an optional extra."""

import io
import math
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from tfq_converters.errors import TfqError
from tfq_fine.report.sections import (
    Banner,
    Bars,
    Curves,
    Figures,
    Grid,
    Lines,
    Paragraph,
    Section,
    brief_name,
    column_kind,
    decibels,
    size,
)

SEARCHABLE = 8  # rows, from which on a table can be sorted and filtered
WIDTH, HEIGHT = 256, 96  # the size of a histogram, in pixels before it is scaled
FAINTEST = 1e-5  # the share of values whose bar has no height: heights are logarithms
# Colours that matplotlib writes, and what a page takes for them, so that pictures follow its light or dark scheme.
INKS = {"#010203": "var(--ink)", "#040506": "var(--line)"}
SERIES = ("#1d6fd1", "#c8541d", "#2f8f4e", "#9350c8", "#a38200", "#cc3f7b", "#3f8f9e", "#7a6a58")


def page(title: str, sections: Sequence[Section]) -> str:
    """Return the text of the page.

    Raises:
        TfqError: jinja2 or matplotlib is not installed.
    """
    require_extra()
    import jinja2
    import markupsafe

    folder = resources.files("tfq_fine.report") / "page"
    style, script, template = ((folder / name).read_text("utf-8") for name in ("style.css", "page.js", "page.html.j2"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    plain = [_plain(section) | {"id": f"part-{k}"} for k, section in enumerate(sections)]
    contents = [section for section in plain if "title" in section]
    return environment.from_string(template).render(
        title=title,
        sections=plain,
        contents=contents,
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
    )


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
    """Return what the template shows of a section, as plain values."""
    match section:
        case Paragraph(text):
            return {"kind": "paragraph", "text": text}
        case Banner(tone, word, text):
            return {"kind": "banner", "tone": tone, "word": word, "text": text}
        case Figures(entries):
            return {"kind": "figures", "entries": entries}
        case Grid():
            return _table(section)
        case Bars():
            return _table(_as_grid(section))
        case Curves():
            return _histograms(section)
        case Lines():
            return {"kind": "picture", "title": section.title, "about": section.about, "svg": _drawn(section)}


def _table(grid: Grid) -> dict[str, Any]:
    columns = [dict(zip(("name", "kind"), column_kind(column), strict=True)) for column in grid.columns]
    numbers = [[_number(row[k]) for row in grid.rows] for k in range(len(columns))]
    drawn = [values for values, column in zip(numbers, columns, strict=True) if column["kind"] == "bar"]
    most = max((v for values in drawn for v in values if v is not None and math.isfinite(v)), default=0.0)
    rows = []
    for n, row in enumerate(grid.rows):
        cells: list[Any] = []
        for k, text in enumerate(row):
            kind, value = columns[k]["kind"], numbers[k][n]
            if kind in ("number", "bar"):
                share = _share(value, most) if kind == "bar" else None
                cells.append({"text": text, "sort": None if value is None else _sortable(value), "share": share})
            else:
                cells.append({"text": text, "shown": _breakable(text)} if kind == "code" else _breakable(text))
        rows.append(cells)
    shown = [{**column, "kind": "number" if column["kind"] == "bar" else column["kind"]} for column in columns]
    return {
        "kind": "grid",
        "title": grid.title,
        "about": grid.about,
        "folded": grid.folded,
        "searchable": len(rows) >= SEARCHABLE,
        "columns": shown,
        "rows": rows,
    }


def _as_grid(bars: Bars) -> Grid:
    def written(value: float) -> str:
        return size(int(value)) if bars.unit == "bytes" else decibels(value)

    columns = ("", *(f"#{name or bars.unit}" for name in bars.series))
    rows = [
        (brief_name(name), *(written(values[k]) for values in bars.series.values()))
        for k, name in enumerate(bars.names)
    ]
    return Grid(bars.title, columns, rows, f"In {bars.unit}.")


def _number(text: str) -> float | None:
    """Return the number that a cell begins with; None where it holds none.

    >>> _number("1,234"), _number("exact"), _number("-"), _number("12 %")
    (1234.0, inf, None, 12.0)
    """
    if text == "exact":
        return math.inf
    digits = re.match(r"[-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|nan|inf)", text)
    return float(digits[0].replace(",", "")) if digits else None


def _sortable(value: float) -> str:
    """Return a number that a page sorts by: NaN is worse, that is less, than all others."""
    return repr(-1e308 if math.isnan(value) else min(max(value, -1e307), 1e307))


def _share(value: float | None, most: float) -> str | None:
    if value is None or most <= 0 or math.isnan(value):
        return None
    return f"{min(max(value / most, 0.0), 1.0):.3f}"


def _breakable(text: str) -> Any:
    """Return text whose names may be broken after a sign of punctuation, and nowhere else."""
    import markupsafe

    return markupsafe.Markup("<wbr>").join(re.split(r"(?<=[/._;\[])(?=[\w\"])", text))


def _histograms(curves: Curves) -> dict[str, Any]:
    shapes = [_histogram(curves, k) for k in range(len(curves.names))]
    first = [*curves.first]
    return {
        "kind": "histograms",
        "title": curves.title,
        "about": curves.about,
        "shown": [shapes[k] for k in first],
        "others": [shape for k, shape in enumerate(shapes) if k not in first],
    }


def _histogram(curves: Curves, k: int) -> dict[str, Any]:
    """Return one histogram as steps from the left to the right, and where its marked part is."""
    shares, (low, high), mark = curves.shares[k], curves.limits[k], curves.marks[k]
    step, floor = WIDTH / len(shares), math.log(FAINTEST)
    heights = [max(0.0, 1 - math.log(share) / floor) if share > 0 else 0.0 for share in shares]
    path = "".join(f"V{HEIGHT * (1 - height):.0f}h{step:g}" for height in heights)
    ends = [min(max((end - low) / (high - low), 0.0), 1.0) * WIDTH for end in mark]
    name = brief_name(curves.names[k], 48)
    text = f"{name}: values from {low:.4g} to {high:.4g}; the chosen range is {mark[0]:.4g} to {mark[1]:.4g}"
    return {
        "id": f"histogram-{k}",
        "text": text,
        "name": _breakable(name),
        "words": curves.words[k],
        "path": f"M0 {HEIGHT}{path}V{HEIGHT}z",
        "mark": (f"{ends[0]:.1f}", f"{ends[1] - ends[0]:.1f}"),
    }


def _drawn(lines: Lines) -> Any:
    """Draw points joined by lines; pages put their own colours in place of `INKS`."""
    import markupsafe
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink, faint = INKS
    style = {
        "svg.hashsalt": lines.title,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink),
        "grid.color": faint,
    }
    with rc_context(style):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        for k, (name, points) in enumerate(lines.series.items()):
            finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
            if finite:
                xs, ys = zip(*finite, strict=True)
                axes.plot(xs, ys, marker="osD^vP*X"[k % 8], color=SERIES[k % len(SERIES)], label=name)
        axes.set_xlabel(lines.axes[0])
        axes.set_ylabel(lines.axes[1])
        axes.grid(True)
        if len(lines.series) > 1:
            axes.legend(framealpha=0)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()[stream.getvalue().index("<svg") :]
    for written, variable in INKS.items():
        svg = svg.replace(written, variable)
    spoken = markupsafe.escape(f"{lines.title}: {lines.axes[1]} against {lines.axes[0]}")
    return markupsafe.Markup(svg.replace("<svg", f'<svg role="img" aria-label="{spoken}"', 1))
