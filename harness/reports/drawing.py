"""A figure with its text alternative and its numbers."""

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

#: The colours of Okabe and Ito and a grey, distinct for all kinds of colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#707070")
#: Lines and points also differ by dash and symbol, not by colour alone.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "5px,2px")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star")


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
