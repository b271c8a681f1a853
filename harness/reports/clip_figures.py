"""Figures of single clips: what is predicted of them as they go on."""

import pandas as pd
import plotly.graph_objects as go

from harness.reports.drawing import COLOURS, DASHES, SYMBOLS, Drawing, styled
from harness.reports.evidence import Evidence
from harness.reports.frames import Strip


def clip_drawing(evidence: Evidence, number: int, strip: Strip) -> Drawing | None:
    """The curves of a strip, a target each, and beside their ends what was rated; None where the
    clip's features are not stored any more."""
    curve = strip.unfolding
    if curve is None:
        return None
    names = evidence.index.target_names
    end = int(curve.frames[-1])
    # Right of the curves, where it covers none of them.
    beside = end + max(1.0, 0.03 * end)
    figure = go.Figure()
    for column, name in enumerate(names):
        colour, dash = COLOURS[column % len(COLOURS)], DASHES[column % len(DASHES)]
        figure.add_scatter(
            x=curve.frames, y=curve.predicted[:, column], mode="lines", name=name,
            legendgroup=name, line={"color": colour, "dash": dash, "shape": "hv", "width": 2},
        )  # fmt: skip
        figure.add_scatter(
            x=[beside], y=[strip.rated[column]], mode="markers", name=f"{name}, rated",
            legendgroup=name, showlegend=False,
            marker={"color": colour, "size": 9, "symbol": SYMBOLS[column % len(SYMBOLS)],
                    "line": {"width": 1, "color": "#808080"}},
        )  # fmt: skip
    table = pd.DataFrame(curve.predicted, columns=list(names))
    table.insert(0, "frame", curve.frames.astype(str))
    rated = pd.DataFrame([["rated", *strip.rated]], columns=table.columns)
    said = ", ".join(
        f"{name} {predicted:.2f} (rated {rating:.2f})"
        for name, predicted, rating in zip(names, strip.predicted, strip.rated, strict=True)
    )
    alt = (
        f"Clip {strip.clip_id}: what the ensemble predicts after each sampled frame, of the frames "
        f"up to it; at the end {said}. Symbols at the right are the ratings."
    )
    figure = styled(figure, "frame", "intensity", 320)
    figure.update_yaxes(range=[-0.03, 1.05])
    return Drawing(
        f"clip-{number}", f"Clip {strip.clip_id} as it goes on", alt, figure,
        pd.concat([table, rated]),
    )  # fmt: skip
