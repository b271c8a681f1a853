"""A figure with the words and the numbers that stand for it where it cannot be seen."""

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

#: Okabe and Ito's colours and a grey, told apart by all kinds of colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#707070")
#: So that no line or point is told from another by its colour alone.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "5px,2px")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star")


@dataclass(frozen=True)
class Drawing:
    """key: unique in the page. alt: says what is seen. table: the numbers behind it.
    small: stands beside others of its kind."""

    key: str
    title: str
    alt: str
    figure: go.Figure
    table: pd.DataFrame
    small: bool = False


def styled(figure: go.Figure, x: str, y: str, height: int = 340) -> go.Figure:
    """The look that all figures share; the page gives them the colours of its mode."""
    figure.update_layout(
        template="none",
        height=height,
        title=None,
        margin={"l": 55, "r": 10, "t": 10, "b": 45},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"size": 12},
        # A finger that drags scrolls the page.
        dragmode=False,
    )
    figure.update_xaxes(title=x, automargin=True, zeroline=False)
    figure.update_yaxes(title=y, automargin=True, zeroline=False)
    return figure
