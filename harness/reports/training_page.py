"""The page of a pretraining: its curves and the scores of the weights that were kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from harness.atomic import write_text
from harness.reports.drawing import Drawing, styled, styles
from harness.reports.markup import document, figure, paragraph, section, table

_LOSS, _EPOCH = "loss", "epoch"
# Epochs that all have a tick on the axis.
_FEW = 12


def write_training_page(
    path: Path,
    title: str,
    notes: Sequence[str],
    history: Sequence[Mapping[str, float]],
    tables: Mapping[str, pd.DataFrame],
) -> Path:
    """Writes the page.

    Args:
        notes: warnings, one line each.
        history: of each epoch: its number, the loss on train and the scores on val.
        tables: by caption.
    """
    rows = pd.DataFrame(list(history))
    scores = [name for name in rows.columns if name not in (_EPOCH, _LOSS)]
    drawings = [
        _curves("loss", "Loss on train", rows[[_EPOCH, _LOSS]]),
        _curves("scores", "Scores on val", rows[[_EPOCH, *scores]]),
    ]
    warnings = "".join(paragraph(note, "warning") for note in notes)
    shown = "".join(table(frame, name) for name, frame in tables.items())
    curves = "".join(figure(each) for each in drawings)
    body = [warnings, section("Scores of the kept weights", shown), section("Curves", curves)]
    write_text(path, document(title, body, drawings))
    return path


def _curves(key: str, title: str, rows: pd.DataFrame) -> Drawing:
    names = [name for name in rows.columns if name != _EPOCH]
    shown = go.Figure()
    for name, style in styles(names).items():
        shown.add_scatter(
            x=rows[_EPOCH], y=rows[name], mode="lines+markers", name=name,
            line={"color": style.colour, "dash": style.dash}, marker_symbol=style.symbol,
        )  # fmt: skip
    last = ", ".join(f"{name} {rows[name].iloc[-1]:.4f}" for name in names)
    alt = f"{title} by epoch; after {len(rows)} epochs: {last}."
    styled(shown, "epoch", title)
    if len(rows) < _FEW:  # otherwise the axis would show fractions of an epoch
        shown.update_xaxes(dtick=1)
    return Drawing(key, title, alt, shown, rows)
