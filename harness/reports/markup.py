"""HTML of a page, and of its paragraphs, tables, figures and commands. All text is escaped."""

import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files

import pandas as pd
import plotly.io
from plotly.offline import get_plotlyjs

from harness.reports.drawing import Drawing

# Rows of the numbers of a figure; the files of the study have all.
_ROWS = 200
# Columns that fit on paper without breaking words.
_COLUMNS = 14


def document(title: str, body: Sequence[str], drawings: Sequence[Drawing]) -> str:
    """A whole page that needs no network.

    Args:
        body: HTML.
        drawings: the figures in it.
    """
    plots = {each.key: json.loads(plotly.io.to_json(each.figure)) for each in drawings}
    values = {
        "TITLE": html.escape(title),
        "BODY": "\n".join([f"<h1>{html.escape(title)}</h1>", *body]),
        # Escaped, because text like </script> would end the script element.
        "FIGURES": json.dumps(plots).replace("<", "\\u003c"),
        "PLOTLY": get_plotlyjs().replace("</script", "<\\/script"),
    }
    template = (files("harness.reports") / "page.html").read_text(encoding="utf-8")
    # In one pass, because a value may contain the name of another, such as %PLOTLY%.
    return re.sub("%(TITLE|BODY|FIGURES|PLOTLY)%", lambda match: values[match[1]], template)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph. kind: its class, such as warning."""
    return f"<p{_class(kind)}>{html.escape(text)}</p>"


def table(frame: pd.DataFrame, caption: str) -> str:
    """A table that scrolls sideways; empty text for a frame without rows."""
    if frame.empty:
        return ""
    heads = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in frame.itertuples(index=False)
    )
    title = html.escape(caption)
    # On paper, only tables of many columns break words, to fit.
    kind = _class("dense" if len(frame.columns) > _COLUMNS else "")
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{title}"><table{kind}>'
        f"<caption>{title}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
        "</table></div>"
    )


def figures(drawings: Sequence[Drawing]) -> str:
    """Figures; consecutive small ones share a grid."""
    parts: list[str] = []
    in_grid = False
    for drawing in drawings:
        if drawing.small != in_grid:
            parts.append('<div class="grid">' if drawing.small else "</div>")
            in_grid = drawing.small
        parts.append(figure(drawing))
    return "".join(parts) + ("</div>" if in_grid else "")


def figure(drawing: Drawing) -> str:
    """A figure with its text alternative and its numbers."""
    alt, title = html.escape(drawing.alt), html.escape(drawing.title)
    return (
        f"<figure><h3>{title}</h3>"
        f'<div class="plot" id="plot-{drawing.key}" role="img" aria-label="{alt}" '
        f'style="min-height:{drawing.figure.layout.height}px"></div>'
        f"<figcaption>{alt}</figcaption>"
        f"<details><summary>Numbers: {title}</summary>"
        f"{_numbers(drawing.table, drawing.title)}</details></figure>"
    )


def commands(title: str, lines: Sequence[str]) -> str:
    """Commands to copy, under a heading."""
    code, name = html.escape("\n".join(lines)), html.escape(title)
    return (
        f'<h3>{name}</h3><pre tabindex="0" role="region" aria-label="{name}">'
        f"<code>{code}</code></pre>"
    )


def card(title: str, anchor: str, lines: Sequence[tuple[str, str]], more: str) -> str:
    """A block of the summary: lines of (value, explanation), and a link to the details."""
    items = "".join(
        f"<li><strong>{html.escape(value)}</strong> {html.escape(text)}</li>"
        for value, text in lines
    )
    link = f'<a href="#{anchor}">{html.escape(more)}</a>'
    return f'<div class="card"><h3>{html.escape(title)}</h3><ul>{items}</ul>{link}</div>'


def section(title: str, content: str, kind: str = "") -> str:
    """A section with its heading, which `anchor` names."""
    heading = f'<h2 id="{anchor(title)}">{html.escape(title)}</h2>'
    return f"<section{_class(kind)}>{heading}{content}</section>"


def anchor(title: str) -> str:
    """The id of a section."""
    return title.lower().replace(" ", "-")


def contents(titles: Sequence[str]) -> str:
    """Links to sections."""
    links = "".join(f'<a href="#{anchor(each)}">{html.escape(each)}</a>' for each in titles)
    return f'<nav aria-label="Contents">{links}</nav>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _numbers(frame: pd.DataFrame, title: str) -> str:
    rounded = frame.head(_ROWS).map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
    cut = f", the first {_ROWS} of {len(frame)} rows" if len(frame) > _ROWS else ""
    return table(rounded, title + cut)
