"""Figures of a search: its progress and the effect of the hyperparameters."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState

from harness.ensembles.construction import nested_score
from harness.ensembles.intervals import Interval
from harness.ensembles.selection import Recipe
from harness.predictions import trial_name
from harness.reports.drawing import (
    BEST,
    ENSEMBLE,
    OTHER,
    SINGLE,
    SYMBOLS,
    Drawing,
    error_bars,
    styled,
    styles,
)
from harness.reports.effects import importances
from harness.reports.evidence import Evidence
from harness.reports.tables import complete
from harness.sampling import shown
from harness.study.trials import SECONDS, configuration

_SCORE = "mean PCC on val"
# Members of the ensembles by time, and how many of these are computed at most.
_TOP, _POINTS = 5, 20
# Learning curves in the figure; the best trials are shown.
_CURVES = 150
#: Hyperparameters that the paper compares: colour, figure and axis of the slices.
_SLICES = ("loss", "layers", "stride")


def search_drawings(evidence: Evidence) -> list[Drawing]:
    """The figures for which the study has enough trials."""
    trials = complete(evidence)
    drawings: list[Drawing] = []
    if trials:
        drawings += [_best_so_far(trials), _by_cost(evidence)]
    importance = _importance(trials)
    drawings += [importance] if importance else []
    drawings += _slices(trials)
    curves = _curves(evidence.trials(TrialState.COMPLETE, TrialState.PRUNED))
    return drawings + ([curves] if curves else [])


def _best_so_far(trials: list[FrozenTrial]) -> Drawing:
    table = pd.DataFrame({"trial": [t.number for t in trials], "score": [t.value for t in trials]})
    table["best so far"] = table["score"].cummax()
    figure = _history(table, "trial")
    best = table.sort_values("score", kind="stable").iloc[-1]
    alt = (
        f"Scores of {len(table)} complete trials by number; the best, {best['score']:.4f}, "
        f"is trial {best['trial']:.0f}."
    )
    return Drawing("best", "Best score by trial", alt, styled(figure, "trial", _SCORE), table)


def _history(table: pd.DataFrame, x: str) -> go.Figure:
    """The scores as points and the best so far as steps. x: the column of the horizontal axis."""
    figure = go.Figure()
    figure.add_scatter(
        x=table[x], y=table["score"], mode="markers", name="trial",
        marker={"color": SINGLE, "size": 7, "line": {"width": 1, "color": OTHER}},
    )  # fmt: skip
    figure.add_scatter(
        x=table[x], y=table["best so far"], mode="lines", name="best so far",
        line={"shape": "hv", "color": BEST, "width": 2},
    )  # fmt: skip
    return figure


def _by_cost(evidence: Evidence) -> Drawing:
    """Scores by the time that all trials took until then, also pruned and failed ones."""
    ended = sorted(
        (t for t in evidence.trials() if t.state.is_finished() and t.datetime_complete),
        key=lambda trial: (trial.datetime_complete, trial.number),
    )
    table = pd.DataFrame(
        {
            "trial": [trial.number for trial in ended],
            "minutes": np.cumsum([_seconds(trial) for trial in ended]) / 60,
            "score": [t.value if t.state == TrialState.COMPLETE else None for t in ended],
        }
    )
    total = table["minutes"].max()
    table = table.dropna(subset="score").reset_index(drop=True)
    table["best so far"] = table["score"].cummax()
    table["ensemble, nested"] = _ensembles(evidence, table["trial"].tolist())
    figure = _history(table, "minutes")
    alt = (
        f"Scores of the same trials by the time spent: {total:.1f} minutes of training in all, "
        "added up over workers, with pruned and failed trials."
    )
    known = table.dropna(subset="ensemble, nested")
    if len(known):
        figure.add_scatter(
            x=known["minutes"], y=known["ensemble, nested"], mode="lines+markers",
            name="ensemble, nested", line={"color": ENSEMBLE, "width": 2, "dash": "dash"},
            marker={"symbol": SYMBOLS[0]},
        )  # fmt: skip
        alt += (
            f" The ensemble of the {_TOP} best trials until then has the nested score "
            f"{known['ensemble, nested'].iloc[-1]:.4f} at the end."
        )
    figure = styled(figure, "minutes of all trials", _SCORE)
    figure.update_layout(showlegend=True)
    return Drawing("time", "Score by time spent", alt, figure, table)


def _seconds(trial: FrozenTrial) -> float:
    """What a finished trial cost; of a failed one, the time until its end was known."""
    known = trial.user_attrs.get(SECONDS)
    if known is not None:
        return float(known)
    return trial.duration.total_seconds() if trial.duration else 0.0


def _ensembles(evidence: Evidence, trials: list[int]) -> list[float]:
    """After each complete trial, the nested score of the mean of the best ones until then; NaN
    after most of many trials, and where predictions are missing."""
    found = [math.nan] * len(trials)
    if evidence.library is None:
        return found
    matrix = evidence.library.matrix
    own = {t.info.trial_id: slot for slot, t in enumerate(matrix.trials)
           if t.study.folder == evidence.folder}  # fmt: skip
    for size in np.unique(np.geomspace(2, max(2, len(trials)), _POINTS).round()).astype(int):
        names = map(trial_name, trials[:size])
        slots = [own[name] for name in names if name in own]
        if size <= len(trials) and len(slots) > 1:
            recipe = Recipe("mean", min(_TOP, len(slots)))
            found[size - 1] = nested_score(matrix, slots, recipe)
    return found


def _importance(trials: list[FrozenTrial]) -> Drawing | None:
    """The importances with their intervals; None if there are too few trials."""
    table = importances(trials)
    if table.empty:
        return None
    figure = go.Figure(
        go.Bar(
            x=table["share"], y=table["name"], orientation="h", marker_color=OTHER,
            error_x=error_bars(table["share"], table["95 % from"], table["to"]),
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )  # fmt: skip
    largest = table.iloc[0]
    interval = Interval(largest["95 % from"], largest["to"])
    alt = (
        f"PED-ANOVA importance of each hyperparameter in {len(trials)} complete trials; "
        f"{largest['name']} has the largest share, {largest['share']:.2f} (95 % {interval:.2f}). "
        "The intervals are those of a jackknife over 20 parts of the trials."
    )
    figure = styled(figure, "importance (PED-ANOVA)", "", 120 + 26 * len(table))
    figure.update_yaxes(autorange="reversed", type="category")
    return Drawing("importance", "Importance of each hyperparameter", alt, figure, table)


def _slices(trials: list[FrozenTrial]) -> list[Drawing]:
    """Score by stride and loss, one small figure per number of layers."""
    configs = [shown(configuration(t) | t.params) for t in trials]
    rows = [
        (*(config.get(name, "fixed") for name in _SLICES), trial.value)
        for config, trial in zip(configs, trials, strict=True)
    ]
    table = pd.DataFrame(rows, columns=[*_SLICES, "score"])
    if all(table[name].nunique() < 2 for name in _SLICES):
        return []
    bounds = [table["score"].min() - 0.01, table["score"].max() + 0.01]
    drawings = []
    # Of all losses of the study, so that each has one colour in all of these figures.
    style = styles(sorted(table["loss"].unique()))
    for depth, part in table.groupby("layers"):
        figure = go.Figure()
        for loss, points in part.groupby("loss"):
            ordered = points.sort_values("stride", key=lambda s: s.astype(str).str.zfill(6))
            figure.add_scatter(
                x=ordered["stride"].astype(str), y=ordered["score"], mode="markers",
                name=str(loss),
                marker={"color": style[loss].colour, "symbol": style[loss].symbol, "size": 9},
            )  # fmt: skip
        figure = styled(figure, "stride", _SCORE, 280)
        strides = sorted(table["stride"].astype(str).unique(), key=lambda s: s.zfill(6))
        # All figures have the same axes, also if a stride has no trial.
        figure.update_xaxes(
            type="category", categoryorder="array", categoryarray=strides,
            tickvals=strides, range=[-0.5, len(strides) - 0.5],
        )  # fmt: skip
        figure.update_yaxes(range=bounds)
        figure.update_layout(showlegend=True)
        best = part.sort_values("score", kind="stable").iloc[-1]
        layers = f"{depth} {'layer' if depth == 1 else 'layers'}"
        alt = (
            f"{len(part)} trials with {layers}; best {best['score']:.4f} with loss "
            f"{best['loss']} at stride {best['stride']}."
        )
        name = f"Loss and stride with {layers}"
        drawings.append(Drawing(f"slice-{depth}", name, alt, figure, part, small=True))
    return drawings


def _curves(trials: list[FrozenTrial]) -> Drawing | None:
    with_curve = [t for t in trials if t.intermediate_values]
    if not with_curve:
        return None
    best = {
        t.number: max((v for v in t.intermediate_values.values() if math.isfinite(v)), default=-1.0)
        for t in with_curve
    }
    shown = sorted(with_curve, key=lambda t: -best[t.number])[:_CURVES]
    # The best curves are drawn last, on top.
    shown.sort(key=lambda t: (t.state == TrialState.COMPLETE, best[t.number]))
    figure = go.Figure()
    for trial in shown:
        pruned = trial.state == TrialState.PRUNED
        epochs, scores = zip(*sorted(trial.intermediate_values.items()), strict=True)
        figure.add_scatter(
            x=epochs, y=scores, mode="lines+markers" if len(epochs) == 1 else "lines",
            name=f"trial {trial.number}" + (" (pruned)" if pruned else ""),
            line={"color": OTHER if pruned else SINGLE, "width": 1 if pruned else 1.5},
            opacity=0.4 if pruned else 0.9,
        )  # fmt: skip
    pruned_count = sum(t.state == TrialState.PRUNED for t in with_curve)
    alt = (
        f"Score on val after each epoch of {len(shown)} of {len(with_curve)} trials; "
        f"the curves of {pruned_count} pruned trials are grey."
    )
    table = pd.DataFrame(
        [(t.number, t.state.name.lower(), len(t.intermediate_values), best[t.number])
         for t in reversed(shown)], columns=["trial", "state", "epochs", "best score"],
    )  # fmt: skip
    return Drawing("curves", "Learning curves", alt, styled(figure, "epoch", _SCORE), table)
