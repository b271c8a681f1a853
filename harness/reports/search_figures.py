"""Figures of a search: how it went, what mattered."""

import math

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from harness.reports.drawing import COLOURS, Drawing, styled
from harness.reports.evidence import Evidence

_SCORE = "mean PCC on val"
# Curves that a figure can hold; the best ones of each state.
_CURVES = 150
#: What the paper compares: colour, columns and axis of the slices.
_SLICES = ("loss", "layers", "stride")


def search_drawings(evidence: Evidence) -> list[Drawing]:
    """Those for which the study has enough trials."""
    complete = sorted(
        (t for t in evidence.trials(TrialState.COMPLETE) if t.value is not None),
        key=lambda trial: trial.number,
    )
    drawings: list[Drawing] = []
    if complete:
        drawings += [_best_so_far(complete), _over_time(complete)]
    importance = _importance(evidence.study, complete)
    drawings += [importance] if importance else []
    drawings += _slices(complete)
    curves = _curves(evidence.trials(TrialState.COMPLETE, TrialState.PRUNED))
    return drawings + ([curves] if curves else [])


def _best_so_far(trials: list[FrozenTrial]) -> Drawing:
    table = pd.DataFrame({"trial": [t.number for t in trials], "score": [t.value for t in trials]})
    table["best so far"] = table["score"].cummax()
    figure = go.Figure()
    figure.add_scatter(
        x=table["trial"], y=table["score"], mode="markers", name="trial", marker_color=COLOURS[4]
    )
    figure.add_scatter(
        x=table["trial"], y=table["best so far"], mode="lines", name="best so far",
        line={"shape": "hv", "color": COLOURS[0]},
    )  # fmt: skip
    best = table.sort_values("score", kind="stable").iloc[-1]
    alt = (
        f"Scores of {len(table)} complete trials by number; the best, {best['score']:.4f}, "
        f"is trial {best['trial']:.0f}."
    )
    return Drawing("best", "Best so far, over trials", alt, styled(figure, "trial", _SCORE), table)


def _over_time(trials: list[FrozenTrial]) -> Drawing:
    ended = [t for t in trials if t.datetime_complete and t.datetime_start]
    begun = min(t.datetime_start for t in ended if t.datetime_start)
    rows = [
        ((t.datetime_complete - begun).total_seconds() / 60, t.value)
        for t in ended
        if t.datetime_complete
    ]
    table = pd.DataFrame(sorted(rows), columns=["minutes", "score"])
    table["best so far"] = table["score"].cummax()
    figure = go.Figure()
    figure.add_scatter(
        x=table["minutes"], y=table["score"], mode="markers", name="trial", marker_color=COLOURS[4]
    )
    figure.add_scatter(
        x=table["minutes"], y=table["best so far"], mode="lines", name="best so far",
        line={"shape": "hv", "color": COLOURS[0]},
    )  # fmt: skip
    alt = f"The same over {table['minutes'].max():.1f} minutes since the first trial began."
    figure = styled(figure, "minutes since the first trial began", _SCORE)
    return Drawing("time", "Best so far, over time", alt, figure, table)


def _importance(study: optuna.Study | None, trials: list[FrozenTrial]) -> Drawing | None:
    varied = {k for t in trials for k in t.params if any(o.params.get(k) != t.params[k]
                                                         for o in trials)}  # fmt: skip
    if study is None or len(trials) < 4 or not varied:
        return None
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    table = pd.DataFrame({"name": list(found), "share": list(found.values())})
    table = table.sort_values("share", kind="stable")
    bar = go.Bar(x=table["share"], y=table["name"], orientation="h", marker_color=COLOURS[0])
    largest = table.iloc[-1]
    alt = f"Share of each hyperparameter; {largest['name']} has the largest, {largest['share']:.2f}"
    alt += f". Of {len(trials)} trials: a hint, not a finding."
    height = 120 + 26 * len(table)
    figure = styled(go.Figure(bar), "importance (PED-ANOVA)", "", height)
    return Drawing("importance", "Importance of each hyperparameter", alt, figure, table)


def _slices(trials: list[FrozenTrial]) -> list[Drawing]:
    """Score over stride for each loss, a small figure for each depth."""
    rows = [(*(t.params.get(name, "fixed") for name in _SLICES), t.value) for t in trials]
    table = pd.DataFrame(rows, columns=[*_SLICES, "score"])
    if all(table[name].nunique() < 2 for name in _SLICES):
        return []
    bounds = [table["score"].min() - 0.01, table["score"].max() + 0.01]
    drawings = []
    for depth, part in table.groupby("layers"):
        figure = go.Figure()
        for colour, (loss, points) in zip(COLOURS, part.groupby("loss"), strict=False):
            ordered = points.sort_values("stride", key=lambda s: s.astype(str).str.zfill(6))
            figure.add_scatter(
                x=ordered["stride"].astype(str), y=ordered["score"], mode="markers",
                name=str(loss), marker={"color": colour, "size": 8},
            )  # fmt: skip
        figure = styled(figure, "stride", _SCORE, 280)
        strides = sorted(table["stride"].astype(str).unique(), key=lambda s: s.zfill(6))
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=strides)
        figure.update_yaxes(range=bounds)
        figure.update_layout(showlegend=True)
        best = part.sort_values("score", kind="stable").iloc[-1]
        alt = (
            f"{len(part)} trials with {depth} layers; best {best['score']:.4f} with loss "
            f"{best['loss']} at stride {best['stride']}."
        )
        name = f"Loss and stride, layers {depth}"
        drawings.append(Drawing(f"slice-{depth}", name, alt, figure, part, small=True))
    return drawings


def _curves(trials: list[FrozenTrial]) -> Drawing | None:
    with_curve = [t for t in trials if t.intermediate_values]
    if not with_curve:
        return None
    best = {t.number: max(v for v in t.intermediate_values.values()) for t in with_curve}
    shown = sorted(with_curve, key=lambda t: -best[t.number])[:_CURVES]
    figure = go.Figure()
    for trial in reversed(shown):
        steps = sorted(trial.intermediate_values.items())
        pruned = trial.state == TrialState.PRUNED
        figure.add_scatter(
            x=[step for step, _ in steps],
            y=[value if math.isfinite(value) else None for _, value in steps],
            mode="lines+markers" if len(steps) == 1 else "lines",
            name=f"trial {trial.number}" + (" (pruned)" if pruned else ""),
            line={"color": COLOURS[6] if pruned else COLOURS[0], "width": 1},
            opacity=0.35 if pruned else 0.8,
            showlegend=False,
        )
    pruned_count = sum(t.state == TrialState.PRUNED for t in with_curve)
    alt = (
        f"Score on val after each epoch of {len(shown)} of {len(with_curve)} trials; "
        f"the {pruned_count} pruned ones are faint."
    )
    table = pd.DataFrame(
        [(t.number, t.state.name.lower(), len(t.intermediate_values), best[t.number])
         for t in shown], columns=["trial", "state", "epochs", "best score"],
    )  # fmt: skip
    return Drawing("curves", "Learning curves", alt, styled(figure, "epoch", _SCORE), table)
