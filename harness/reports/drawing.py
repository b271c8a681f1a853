"""A figure with its text alternative and its numbers."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

#: The colours of Okabe and Ito and a grey, distinct for all kinds of colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#707070")
#: Lines and points also differ by dash and symbol, not by colour alone.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "5px,2px")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star")
#: The colour of each model and kind of score, the same in every figure.
ENSEMBLE, SINGLE, BEST, OTHER = COLOURS[0], COLOURS[1], COLOURS[5], COLOURS[6]
# Characters of a name on an axis or in a legend; the full name is shown on hovering.
_LONGEST = 24


@dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    key: unique in the page.
    alt: text alternative.
    table: the numbers of the figure.
    small: shown in a grid with other small figures.
    """

    key: str
    title: str
    alt: str
    figure: go.Figure
    table: pd.DataFrame
    small: bool = False

    def titled(self) -> go.Figure:
        """The figure with its title on white, to be shown outside the page."""
        figure = go.Figure(self.figure)
        return figure.update_layout(
            title={"text": plain(self.title), "font": {"size": 15}},
            margin_t=110 if figure.layout.showlegend is not False else 50,
            paper_bgcolor="white",
            plot_bgcolor="white",
        )


@dataclass(frozen=True)
class Style:
    """colour, dash and symbol of a value, such as a loss or a target."""

    colour: str
    dash: str
    symbol: str


def styles(values: Iterable[Any]) -> dict[Any, Style]:
    """The style of each value. The same values have the same styles in all figures; from the
    eighth value on, colours repeat with another dash and symbol."""
    count = len(COLOURS)
    return {
        value: Style(
            COLOURS[n % count],
            DASHES[(n + n // count) % count],
            SYMBOLS[(n + n // count) % count],
        )
        for n, value in enumerate(dict.fromkeys(values))
    }


def plain(text: str) -> str:
    """Text that plotly shows as it is; plotly reads <b> and <a href=...> in texts as markup."""
    return html.escape(text, quote=False)


def shortened(text: str) -> str:
    """Text of at most 24 characters: its beginning and its end, because names often differ in their
    last characters."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[1 - half :]}"


def short(text: str) -> str:
    """`plain` and `shortened` text, for axes and legends."""
    return plain(shortened(text))


def named_axis(names: Sequence[str]) -> dict[str, Any]:
    """The settings of an axis whose values are names. Names such as "2" are categories, too."""
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": list(names),
        "tickmode": "array",
        "tickvals": list(names),
        "ticktext": [short(name) for name in names],
    }


def error_bars(
    values: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]"
) -> dict[str, Any]:
    """The bars of intervals around values."""
    return {
        "type": "data", "symmetric": False, "array": high - values, "arrayminus": values - low
    }  # fmt: skip


def styled(figure: go.Figure, x: str, y: str, height: int = 340) -> go.Figure:
    """Applies the common layout; the page sets the colours of its light or dark mode."""
    figure.update_layout(
        template="none",
        height=height,
        title=None,
        margin={"l": 55, "r": 10, "t": 10, "b": 45},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"size": 12},
        # On a touch screen, dragging scrolls the page.
        dragmode=False,
    )
    figure.update_xaxes(title=x, automargin=True, zeroline=False)
    figure.update_yaxes(title=y, automargin=True, zeroline=False)
    return figure
