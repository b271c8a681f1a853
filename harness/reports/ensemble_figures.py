"""Figures of an ensemble: its scores and its members."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from harness.clips.table import EMOTIONS
from harness.ensembles.construction import Construction
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.estimate import Estimate
from harness.ensembles.intervals import Interval
from harness.reports.drawing import (
    ENSEMBLE,
    OTHER,
    SINGLE,
    Drawing,
    error_bars,
    named_axis,
    plain,
    short,
    styled,
    styles,
)
from harness.reports.evidence import Evidence

# Points in a scatter plot; more would overlap.
_POINTS = 600
# Bins of clips in the figure of the calibration.
_BINS = 5
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
#: Clips of val of Hume-Reaction, on which the published scores are.
HUME_REACTION_VAL = 4657


def ensemble_drawings(evidence: Evidence) -> list[Drawing]:
    """The figures of the shown ensemble; none if it cannot be rebuilt."""
    built = evidence.built
    if built is None or evidence.library is None:
        return []
    drawings = [_scores(evidence, built.ensemble)]
    if built.ensemble.estimate is not None:
        drawings.append(_per_target(built.ensemble.estimate, built.library.split))
    if built.curve is not None:
        drawings.append(_curve(built))
    if len(built.ensemble.members) > 1:
        drawings.append(_correlations(built))
    return [*drawings, _calibration(built), *_scatters(built)]


def _scores(evidence: Evidence, ours: Ensemble) -> Drawing:
    """The scores of the ensemble, above the published ones if the clips are Hume-Reaction."""
    rows: list[tuple[str, float, Interval | None, float | None]] = [
        ("best single trial, naive", ours.best_single_naive, None, None),
        ("ensemble, naive", ours.naive, None, ours.test),
    ]
    if ours.estimate:
        found = ours.estimate
        rows.append(("best single trial, nested", found.single, found.single_interval, None))
        rows.append(("ensemble, nested", found.nested, found.interval, None))
    if ours.recipe.choose_on != "val":
        held = ours.hold_out
        score, interval = (held.score, held.interval) if held else (np.nan, None)
        rows = [("ensemble chosen on train", score, interval, ours.test)]
    study = "synthetic clips" if evidence.synthetic else "this study"
    table = pd.DataFrame(
        [(what, study, val, *_limits(interval), test) for what, val, interval, test in rows[::-1]],
        columns=["what", "source", "val", "95 % from", "to", "test"],
    ).astype({"test": float})
    with_published = is_hume_reaction(evidence)
    if with_published:
        published = PUBLISHED.sort_values("val", ascending=False, na_position="last")
        published = published.assign(source="published")
        published["what"] += " (" + published.pop("from") + ")"
        table = pd.concat([table, published.astype({"test": float})], ignore_index=True)
    figure = go.Figure()
    drawn = table.dropna(subset="val").iloc[::-1]
    for source, part in drawn.groupby("source", sort=False):
        is_ours = source == study
        figure.add_bar(
            x=part["val"], y=part["what"], orientation="h", name=str(source),
            marker_color=[_colour(what) if is_ours else OTHER for what in part["what"]],
            error_x=error_bars(part["val"], part["95 % from"], part["to"]) if is_ours else None,
            text=part["val"].map(" {:.3f} ".format), textangle=0, insidetextanchor="start",
            textposition="inside" if is_ours else "outside", cliponaxis=False,
        )  # fmt: skip
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=drawn["what"].tolist()
    )
    alt = f"Ensemble {ours.naive:.4f} naive"
    if ours.estimate:
        alt += f", {ours.estimate.nested:.4f} nested"
    alt += f" on {ours.clips} clips of {ours.recipe.choose_on}"
    if with_published:
        alt += (
            "; below, the published scores on val of Hume-Reaction. That of MTL-DAN + LSTM is a "
            "mean over batches of 64 clips, without the last 49 clips."
        )
    figure = styled(figure, "mean PCC on val", "", 130 + 28 * len(drawn))
    title = "Mean PCC and published scores" if with_published else "Mean PCC"
    return Drawing("published", title, alt, figure, table.astype(object).fillna(""))


def _colour(what: str) -> str:
    return ENSEMBLE if what.startswith("ensemble") else SINGLE


def is_hume_reaction(evidence: Evidence) -> bool:
    """Whether the clips are those of the published scores, judged by targets and val split."""
    index = evidence.index
    same_targets = index.target_names == EMOTIONS
    return not index.synthetic and same_targets and len(index.rows("val")) == HUME_REACTION_VAL


def _limits(interval: Interval | None) -> tuple[float, float]:
    return (np.nan, np.nan) if interval is None else (interval.low, interval.high)


def _per_target(estimate: Estimate, split: str) -> Drawing:
    """Nested PCC of each target with its interval, for ensemble and best single trial."""
    ensemble, single = "ensemble", "best single trial"
    rows = [
        row
        for each in estimate.targets
        for row in (
            (each.target, ensemble, each.nested, *_limits(each.interval)),
            (each.target, single, each.single, *_limits(each.single_interval)),
        )
    ]
    columns = ["target", "model", "nested PCC", "95 % from", "to"]
    table = pd.DataFrame(rows, columns=columns)
    figure = go.Figure()
    for model, colour, pattern in ((ensemble, ENSEMBLE, ""), (single, SINGLE, "/")):
        part = table[table["model"] == model]
        figure.add_bar(
            x=part["target"], y=part["nested PCC"], name=model, marker_color=colour,
            marker_pattern_shape=pattern, customdata=part["target"].map(plain),
            hovertemplate="%{customdata}: %{y:.4f}",
            error_y=error_bars(part["nested PCC"], part["95 % from"], part["to"]),
        )  # fmt: skip
    figure.update_xaxes(named_axis([each.target for each in estimate.targets]))
    best = max(estimate.targets, key=lambda each: each.nested)
    worst = min(estimate.targets, key=lambda each: each.nested)
    alt = (
        f"Nested PCC of each target with 95 % intervals, for ensemble and best single trial; the "
        f"ensemble is best on {best.target} ({best.nested:.3f}) and worst on {worst.target} "
        f"({worst.nested:.3f})."
    )
    figure = styled(figure, "", f"nested PCC on {split}")
    return Drawing("targets", "PCC of each target", alt, figure, table.astype(object).fillna(""))


def _curve(built: Construction) -> Drawing:
    curve = built.curve
    assert curve is not None  # checked by the caller
    sizes = np.arange(1, len(curve.naive) + 1)
    table = pd.DataFrame({"K": sizes, "naive": curve.naive, "nested": curve.nested})
    figure = go.Figure()
    for name, colour, dash in (("naive", OTHER, "dash"), ("nested", ENSEMBLE, "solid")):
        figure.add_scatter(
            x=sizes, y=table[name], mode="lines+markers", name=name,
            line={"color": colour, "dash": dash},
        )  # fmt: skip
    best = table.sort_values("nested", kind="stable").iloc[-1]
    alt = (
        f"Score of {curve.method} by ensemble size, naive (optimistic) and nested; the nested one "
        f"is highest at K = {best['K']:.0f} with {best['nested']:.4f}."
    )
    figure = styled(figure, "size K", f"mean PCC on {built.library.split}")
    return Drawing("size", "Naive and nested score by ensemble size", alt, figure, table)


def _correlations(built: Construction) -> Drawing:
    names = list(built.ensemble.members[:_MEMBERS])
    values: NDArray[np.float64] = built.correlations[: len(names), : len(names)]
    heat = go.Heatmap(
        z=values, x=names, y=names, colorscale="Cividis", zmax=1.0, colorbar={"title": "r"},
        # The numbers of more members would not fit into the cells.
        texttemplate="%{z:.2f}" if len(names) <= _WRITTEN else None,
        hovertext=[[f"{plain(one)}, {plain(two)}" for two in names] for one in names],
        hoverinfo="text+z",
    )  # fmt: skip
    off = values[~np.eye(len(names), dtype=bool)]
    alt = (
        f"Correlations of {len(names)} members' predictions, mean over the targets: between "
        f"{off.min():.2f} and {off.max():.2f}."
    )
    figure = styled(go.Figure(heat), "", "", 420)
    figure.update_xaxes(named_axis(names))
    figure.update_yaxes(named_axis(names), autorange="reversed")
    table = pd.DataFrame(values, columns=names)
    table.insert(0, "member", names)
    return Drawing("correlations", "Correlations of the members", alt, figure, table)


def _calibration(built: Construction) -> Drawing:
    """Mean rating of the clips with similar predictions, for each target."""
    matrix = built.val
    truth, predicted = matrix.truth[matrix.labelled], built.predicted[matrix.labelled]
    bins = min(_BINS, len(truth))
    rows = []
    for column, name in enumerate(matrix.target_names):
        order = np.argsort(predicted[:, column], kind="stable")
        for part in np.array_split(order, bins):
            means = (predicted[part, column].mean(), truth[part, column].mean())
            rows.append((name, len(part), *map(float, means)))
    table = pd.DataFrame(rows, columns=["target", "clips", "predicted", "rated"])
    low = float(min(0.0, table["predicted"].min(), table["rated"].min()))
    high = float(max(1.0, table["predicted"].max(), table["rated"].max()))
    figure = go.Figure()
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", name="equal", hoverinfo="skip",
        line={"color": OTHER, "width": 1, "dash": "dot"},
    )  # fmt: skip
    for name, style in styles(matrix.target_names).items():
        part = table[table["target"] == name]
        figure.add_scatter(
            x=part["predicted"], y=part["rated"], mode="lines+markers", name=short(name),
            customdata=[plain(name)] * len(part),
            hovertemplate="%{customdata}: predicted %{x:.3f}, rated %{y:.3f}<extra></extra>",
            line={"color": style.colour, "dash": style.dash}, marker_symbol=style.symbol,
        )  # fmt: skip
    off = (table["rated"] - table["predicted"]).abs()
    widest = table.iloc[int(off.to_numpy().argmax())]
    alt = (
        f"Mean rating against mean prediction of val, in {bins} bins of clips for each target; the "
        f"largest difference is {off.max():.3f}, of {widest['target']} at a prediction of "
        f"{widest['predicted']:.3f}. Points above the dotted line are predicted too low."
    )
    figure = styled(figure, "mean prediction", "mean rating", 360)
    return Drawing("calibration", "Calibration", alt, figure, table)


def _scatters(built: Construction) -> list[Drawing]:
    """Predicted against rated values of val, one small figure per target."""
    matrix, predicted = built.val, built.predicted
    rated = np.flatnonzero(matrix.labelled)
    shown = np.random.default_rng(0).permutation(rated)[:_POINTS]
    drawings = []
    kind = "naive PCC" if built.library.split == "val" else "PCC"
    scores = matrix.pcc_of(predicted)
    for column, (name, pcc) in enumerate(zip(matrix.target_names, scores, strict=True)):
        table = pd.DataFrame(
            {
                "clip": [matrix.clip_ids[row] for row in shown],
                "rated": matrix.truth[shown, column],
                "predicted": predicted[shown, column],
            }
        )
        figure = go.Figure(
            go.Scatter(
                x=table["rated"], y=table["predicted"], mode="markers",
                text=table["clip"].map(plain),
                marker={"color": ENSEMBLE, "size": 4, "opacity": 0.5},
            )
        )  # fmt: skip
        figure = styled(figure, "rated", "predicted", 260)
        alt = f"{name}: {len(shown)} of {len(rated)} rated clips of val; {kind} {pcc:.3f}."
        drawings.append(Drawing(f"scatter-{column}", name, alt, figure, table, small=True))
    return drawings
