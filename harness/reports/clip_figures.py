"""Figures of single clips: the prediction after each frame."""

import pandas as pd
import plotly.graph_objects as go

from harness.reports.drawing import Drawing, plain, short, styled, styles
from harness.reports.evidence import Evidence
from harness.reports.frames import Strip


def clip_drawing(evidence: Evidence, number: int, strip: Strip) -> Drawing | None:
    """The predicted curve of each target, with the ratings as symbols at its end; None if the
    features of the clip are not stored."""
    curve = strip.unfolding
    if curve is None:
        return None
    names = evidence.index.target_names
    end = int(curve.frames[-1])
    # To the right of the curves, so that no curve is covered.
    beside = end + max(1.0, 0.03 * end)
    figure = go.Figure()
    for column, (name, style) in enumerate(styles(names).items()):
        figure.add_scatter(
            x=curve.frames, y=curve.predicted[:, column], mode="lines", name=short(name),
            legendgroup=name, hovertemplate=f"{plain(name)}: %{{y:.2f}}<extra></extra>",
            line={"color": style.colour, "dash": style.dash, "shape": "hv", "width": 2},
        )  # fmt: skip
        figure.add_scatter(
            x=[beside], y=[strip.rated[column]], mode="markers", name=short(f"{name}, rated"),
            legendgroup=name, showlegend=False,
            hovertemplate=f"{plain(name)}, rated: %{{y:.2f}}<extra></extra>",
            marker={"color": style.colour, "size": 9, "symbol": style.symbol,
                    "line": {"width": 1, "color": "#808080"}},
        )  # fmt: skip
    table = pd.DataFrame(curve.predicted, columns=list(names))
    table.insert(0, "frame", curve.frames.astype(str))
    rated = pd.DataFrame([["rated", *strip.rated]], columns=table.columns)
    scores = ", ".join(
        f"{name} {predicted:.2f} (rated {rating:.2f})"
        for name, predicted, rating in zip(names, strip.predicted, strip.rated, strict=True)
    )
    alt = (
        f"Clip {strip.clip_id}: the prediction of the ensemble after each sampled frame, from the "
        f"frames up to it. Final values: {scores}. Symbols at the right are the ratings."
    )
    figure = styled(figure, "frame", "intensity", 320)
    figure.update_yaxes(range=[-0.03, 1.05])
    return Drawing(
        f"clip-{number}", f"Predictions over the frames of clip {strip.clip_id}", alt, figure,
        pd.concat([table, rated]),
    )  # fmt: skip
