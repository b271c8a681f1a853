"""Figures of an ensemble: its scores and its members."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from harness.clips.table import EMOTIONS
from harness.ensembles.bootstrap import replicates
from harness.ensembles.construction import Construction
from harness.ensembles.estimate import MIN_GROUPS
from harness.ensembles.library import PredictionMatrix
from harness.reports.drawing import COLOURS, Drawing, styled
from harness.reports.evidence import REPLICATES, Evidence

# Points in a scatter plot; more would overlap.
_POINTS = 600
# Members in the heatmap of correlations.
_MEMBERS = 25
# Members up to which the cells of the heatmap show numbers.
_WRITTEN = 10
#: Published mean PCC on val and test of Hume-Reaction, with the modality.
#: MuSe-2022 (arXiv 2207.05691) and its winner, the MTL-DAN paper (arXiv 2303.09240), ABAW 5.
PUBLISHED = pd.DataFrame(
    [
        ("eGeMAPS baseline", "audio", 0.0583, None),
        ("DeepSpectrum baseline", "audio", 0.1087, None),
        ("ResNet50-VGGFace2 baseline", "video", 0.2488, None),
        ("ResNet50-FAU baseline", "video", 0.2840, None),
        ("MuSe-2022, best baseline", "any", None, 0.2801),
        ("MTL-DAN + LSTM", "video", 0.3254, None),
        ("USTC dual branch", "video", 0.3500, None),
        ("HKUST-NISL", "video", 0.362, None),
        ("TEMMA + GRU", "both", None, 0.3879),
        ("Qian et al.", "video", None, 0.4080),
        ("USTC dual branch", "both", 0.4429, 0.4380),
        ("HKUST-NISL", "both", 0.455, 0.4547),
    ],
    columns=["what", "from", "val", "test"],
)
Floats = NDArray[np.float64]


def ensemble_drawings(evidence: Evidence) -> list[Drawing]:
    """The figures of the shown ensemble; none if it cannot be rebuilt."""
    built = evidence.built
    if built is None or evidence.library is None:
        return []
    nested = _groups(evidence, built).max() + 1 >= MIN_GROUPS
    spread = _spread(evidence, built) if nested else None
    drawings = [_published(evidence, built, spread)]
    if spread is not None:
        drawings.append(_per_target(built, spread))
    if built.curve is not None:
        drawings.append(_curve(built))
    if len(built.ensemble.members) > 1:
        drawings.append(_correlations(built))
    return drawings + _scatters(built, evidence.library.matrix)


def _groups(evidence: Evidence, built: Construction) -> NDArray[np.intp]:
    """(clips,) the groups that the intervals of the ensemble use."""
    groups = evidence.groups()
    return np.arange(len(groups)) if built.ensemble.recipe.groups is False else groups


def _spread(evidence: Evidence, built: Construction) -> Floats:
    """(replicates, 2, targets) bootstrap of the nested PCC of ensemble and best single trial."""
    chooser, moments = built.chooser, built.chooser.moments
    pooled = np.stack([chooser.out_of_fold(chooser.recipe.method), chooser.out_of_fold("single")])
    groups = _groups(evidence, built)[moments.order]
    return replicates(moments.truth, pooled, groups, REPLICATES, chooser.recipe.seed)


def _published(evidence: Evidence, built: Construction, spread: Floats | None) -> Drawing:
    """The scores above the published ones, if the targets are those of Hume-Reaction."""
    ours, where = built.ensemble, "synthetic" if evidence.synthetic else "here"
    rows = [
        ("best single trial, naive", where, ours.best_single_naive, None, None, None),
        ("ensemble, naive", where, ours.naive, None, None, ours.test),
    ]
    if ours.estimate and spread is not None:
        low, high = np.quantile(spread.mean(axis=2), [0.025, 0.975], axis=0)
        rows.append(("best single trial, nested", where, ours.estimate.single, low[1], high[1],
                     None))  # fmt: skip
        rows.append(("ensemble, nested", where, ours.estimate.nested, low[0], high[0], None))
    columns = ["what", "on", "val", "95 % from", "to", "test"]
    table = pd.DataFrame(rows[::-1], columns=columns).astype({"test": float})
    if evidence.index.target_names == EMOTIONS:
        known = PUBLISHED.dropna(subset="val").sort_values("val", ascending=False)
        others = PUBLISHED[PUBLISHED["val"].isna()]
        published = pd.concat([known, others]).assign(on="Hume-Reaction, published")
        published["what"] += " (" + published.pop("from") + ")"
        table = pd.concat([table, published.astype({"test": float})], ignore_index=True)
    figure = go.Figure()
    drawn = table.dropna(subset="val").iloc[::-1]
    for on, part in drawn.groupby("on", sort=False):
        is_ours = on == where
        name = {"synthetic": "synthetic clips", "here": "this study"}.get(str(on), str(on))
        figure.add_bar(
            x=part["val"], y=part["what"], orientation="h", name=name,
            marker_color=COLOURS[0] if is_ours else COLOURS[6],
            error_x={"type": "data", "symmetric": False, "array": part["to"] - part["val"],
                     "arrayminus": part["val"] - part["95 % from"]} if is_ours else None,
            text=part["val"].map(" {:.3f} ".format), textangle=0, insidetextanchor="start",
            textposition="inside" if is_ours else "outside", cliponaxis=False,
        )  # fmt: skip
    figure.update_yaxes(categoryorder="array", categoryarray=drawn["what"].tolist())
    alt = f"Ensemble {ours.naive:.4f} naive"
    if ours.estimate:
        alt += f", {ours.estimate.nested:.4f} nested"
    alt += " on val"
    if len(table) > len(rows):
        alt += "; below, the published scores on val of Hume-Reaction"
        alt += ", which are OTHER DATA than these synthetic clips." if evidence.synthetic else "."
    figure = styled(figure, "mean PCC on val", "", 130 + 28 * len(drawn))
    title = "Mean PCC and published scores" if len(table) > len(rows) else "Mean PCC"
    return Drawing("published", title, alt, figure, table.astype(object).fillna(""))


def _per_target(built: Construction, spread: Floats) -> Drawing:
    """Nested PCC of each target with its interval, for ensemble and best single trial."""
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    estimate = built.ensemble.estimate
    assert estimate is not None  # there are enough groups
    scores = np.array([[t.nested for t in estimate.targets], [t.single for t in estimate.targets]])
    names = list(built.ensemble.targets)
    figure = go.Figure()
    rows = []
    for model, (label, colour) in enumerate(
        (("ensemble", COLOURS[0]), ("best single trial", COLOURS[1]))
    ):
        figure.add_bar(
            x=names, y=scores[model], name=label, marker_color=colour,
            marker_pattern_shape="/" if model else "",
            error_y={"type": "data", "symmetric": False, "array": high[model] - scores[model],
                     "arrayminus": scores[model] - low[model]},
        )  # fmt: skip
        rows += [
            (name, label, *values)
            for name, *values in zip(names, scores[model], low[model], high[model], strict=True)
        ]
    table = pd.DataFrame(rows, columns=["target", "model", "nested PCC", "95 % from", "to"])
    best, worst = (names[i] for i in (int(scores[0].argmax()), int(scores[0].argmin())))
    alt = (
        f"Nested PCC of each target with 95 % intervals, for ensemble and best single trial; the "
        f"ensemble is best on {best} ({scores[0].max():.3f}) and worst on {worst} "
        f"({scores[0].min():.3f})."
    )
    figure = styled(figure, "", "nested PCC on val")
    return Drawing("targets", "PCC of each target", alt, figure, table)


def _curve(built: Construction) -> Drawing:
    curve = built.curve
    assert curve is not None  # checked by the caller
    sizes = np.arange(1, len(curve.naive) + 1)
    table = pd.DataFrame({"K": sizes, "naive": curve.naive, "nested": curve.nested})
    figure = go.Figure()
    for name, colour, dash in (("naive", COLOURS[1], "dash"), ("nested", COLOURS[0], "solid")):
        figure.add_scatter(
            x=sizes, y=table[name], mode="lines+markers", name=name,
            line={"color": colour, "dash": dash},
        )  # fmt: skip
    best = table.sort_values("nested", kind="stable").iloc[-1]
    alt = (
        f"Score of {curve.method} by ensemble size, naive (optimistic) and nested; the nested one "
        f"is highest at K = {best['K']:.0f} with {best['nested']:.4f}."
    )
    figure = styled(figure, "size K", "mean PCC on val")
    return Drawing("size", "Naive and nested score by ensemble size", alt, figure, table)


def _correlations(built: Construction) -> Drawing:
    names = list(built.ensemble.members[:_MEMBERS])
    values: NDArray[np.float64] = built.correlations[: len(names), : len(names)]
    heat = go.Heatmap(
        z=values, x=names, y=names, colorscale="Cividis", zmax=1.0, colorbar={"title": "r"},
        # The numbers of more members would not fit into the cells.
        texttemplate="%{z:.2f}" if len(names) <= _WRITTEN else None,
    )  # fmt: skip
    off = values[~np.eye(len(names), dtype=bool)]
    alt = (
        f"Correlations of {len(names)} members' predictions, mean over the targets: between "
        f"{off.min():.2f} and {off.max():.2f}."
    )
    figure = styled(go.Figure(heat), "", "", 420)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    table = pd.DataFrame(values, columns=names)
    table.insert(0, "member", names)
    return Drawing("correlations", "Correlations of the members", alt, figure, table)


def _scatters(built: Construction, matrix: PredictionMatrix) -> list[Drawing]:
    """Predicted against rated values, one small figure per target."""
    place = {trial.id: slot for slot, trial in enumerate(matrix.trials)}
    members = [place[member] for member in built.ensemble.members]
    predicted = built.ensemble.combine(matrix.predictions[:, members])
    rated = np.flatnonzero(matrix.labelled)
    shown = np.random.default_rng(0).permutation(rated)[:_POINTS]
    drawings = []
    for column, (name, pcc) in enumerate(zip(matrix.target_names, built.ensemble.pcc, strict=True)):
        table = pd.DataFrame(
            {
                "clip": [matrix.clip_ids[row] for row in shown],
                "rated": matrix.truth[shown, column],
                "predicted": predicted[shown, column],
            }
        )
        figure = go.Figure(
            go.Scatter(
                x=table["rated"], y=table["predicted"], mode="markers", text=table["clip"],
                marker={"color": COLOURS[0], "size": 4, "opacity": 0.5},
            )
        )  # fmt: skip
        figure = styled(figure, "rated", "predicted", 260)
        alt = f"{name}: {len(shown)} of {len(rated)} rated clips of val; naive PCC {pcc:.3f}."
        drawings.append(Drawing(f"scatter-{column}", name, alt, figure, table, small=True))
    return drawings
