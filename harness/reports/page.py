"""Evidence -> `report.html`: one file, no network, readable without a mouse."""

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
import plotly.io
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs

from harness.atomic import write_text
from harness.reports import tables
from harness.reports.drawing import Drawing
from harness.reports.ensemble_figures import ensemble_drawings
from harness.reports.evidence import Evidence
from harness.reports.frames import Strip, strips
from harness.reports.search_figures import search_drawings

#: The file's name in the study's folder.
REPORT = "report.html"
_SYNTHETIC = "SYNTHETIC demo clips: no score here is a result on Hume-Reaction."


def write_report(evidence: Evidence, data: Path | None = None) -> Path:
    """Writes `report.html` into the study's folder. data: of `strips`."""
    path = evidence.folder / REPORT
    write_text(path, page(evidence, strips(evidence, data)))
    return path


def page(evidence: Evidence, shown: Sequence[Strip] = ()) -> str:
    """The report as html text."""
    of_search, of_ensemble = search_drawings(evidence), ensemble_drawings(evidence)
    leaders = tables.leaderboard(evidence)
    body = [_head(evidence)]
    body.append(_section("Leaderboard", _leaders(leaders)))
    body.append(_section("The search", _drawings(of_search) or _p("No trial has a curve yet.")))
    body.append(_section("The ensemble", _ensemble(evidence, of_ensemble)))
    if shown:
        body.append(_section("A few clips", _strips(evidence, shown)))
    body.append(_section("What was run", _run(evidence)))
    figures = {d.key: json.loads(plotly.io.to_json(d.figure)) for d in (*of_search, *of_ensemble)}
    here = files("harness.reports")
    return (
        (here / "page.html").read_text(encoding="utf-8")
        .replace("%TITLE%", html.escape(f"Study {evidence.folder.name}"))
        .replace("%BODY%", "\n".join(body))
        # In a script no tag may seem to end it.
        .replace("%FIGURES%", json.dumps(figures).replace("<", "\\u003c"))
        .replace("%PLOTLY%", get_plotlyjs().replace("</script", "<\\/script"))
    )  # fmt: skip


def _head(evidence: Evidence) -> str:
    lines = [f"<h1>Study {html.escape(evidence.folder.name)}</h1>"]
    if evidence.synthetic:
        lines.append(f'<p class="warning"><strong>{_SYNTHETIC}</strong></p>')
    states = {state: len(evidence.trials(state)) for state in TrialState}
    told = ", ".join(f"{n} {state.name.lower()}" for state, n in states.items() if n)
    if evidence.study is None:
        told = "the study's log lies elsewhere (--storage); the figures of the search need it"
    lines.append(_p(f"Trials: {told or 'none yet'}."))
    found = evidence.shown
    if found is not None:
        text = f"Ensemble {found.name}: mean PCC {found.naive:.4f} on val (naive, optimistic)"
        if found.estimate:
            bounds = found.estimate.interval
            text += (f"; to be expected: {found.estimate.nested:.4f}, 95 % {bounds.low:.4f} to "
                     f"{bounds.high:.4f} (nested)")  # fmt: skip
        if found.test is not None:
            text += f"; test {found.test:.4f}, scored once"
        lines.append(_p(text + "."))
    oracle = evidence.manifest.get("oracle") or {}
    if oracle:
        told = ", ".join(f"{value:.4f} on {split}" for split, value in oracle.items())
        lines.append(_p(f"Oracle, the best prediction that the true curves allow: {told}."))
    return "\n".join(lines)


def _leaders(leaders: pd.DataFrame) -> str:
    if leaders.empty:
        return _p("No trial has ended with predictions yet; run python -m harness.search.")
    note = (
        "Scores on val, which chose trials and epochs: optimistic. Intervals by bootstrap of the "
        "clips, or of persons where the data says who; they do not undo the choice."
    )
    return _p(note) + _table(leaders, "The best trials")


def _ensemble(evidence: Evidence, drawings: Sequence[Drawing]) -> str:
    if evidence.shown is None:
        again = f"python -m harness.ensemble --top 5 --study {evidence.folder.name}"
        return _p(f"None yet: {again}")
    parts = [_table(tables.ensembles(evidence), "Ensembles of this study")]
    if evidence.stale:
        parts.append(f'<p class="warning">{html.escape(evidence.stale)}</p>')
    shown = evidence.shown
    if shown.early_stopped:
        parts.append(_p("Training stopped by the score on val, the split that chose: all scores on "
                        "val are a little too high (.004 to .007 in simulations)."))  # fmt: skip
    parts.append(_p(f"Effective number of members of {shown.name}: "
                    f"{shown.effective_members:.1f} of {len(shown.members)}."))  # fmt: skip
    parts.append(_table(tables.members(evidence), f"Members of {shown.name}"))
    return "".join(parts) + _drawings(drawings)


def _strips(evidence: Evidence, shown: Sequence[Strip]) -> str:
    parts = [_p("Clips of val, from the one predicted best to the worst.")]
    for strip in shown:
        pictures = "".join(
            f'<img src="{url}" alt="frame {number} of {html.escape(strip.clip_id)}">'
            for number, url in enumerate(strip.pictures, start=1)
        )
        table = pd.DataFrame(
            {
                "": ["rated", "predicted"],
                **{
                    name: [f"{strip.rated[c]:.2f}", f"{strip.predicted[c]:.2f}"]
                    for c, name in enumerate(evidence.index.target_names)
                },
            }
        )
        parts.append(f'<div class="strip">{pictures}</div>{_table(table, strip.clip_id)}')
    return "".join(parts)


def _run(evidence: Evidence) -> str:
    name = evidence.folder.name
    results = evidence.folder.parent
    commands = [
        f"python -m harness.search --study {name} --results {results} ...",
        *(f"python -m harness.ensemble --study {name} --results {results} --method "
          f"{each.recipe.method}" + (f" --top {each.recipe.top}" if each.recipe.top else "")
          for each in evidence.ensembles),
        f"python -m harness.report --study {name} --results {results}",
    ]  # fmt: skip
    code = html.escape("\n".join(commands))
    return _table(tables.provenance(evidence), "Data, weights, versions") + f"<pre>{code}</pre>"


def _drawings(drawings: Sequence[Drawing]) -> str:
    """Small ones that follow each other stand in one grid."""
    parts: list[str] = []
    in_grid = False
    for drawing in drawings:
        if drawing.small != in_grid:
            parts.append('<div class="grid">' if drawing.small else "</div>")
            in_grid = drawing.small
        parts.append(_figure(drawing))
    return "".join(parts) + ("</div>" if in_grid else "")


def _figure(drawing: Drawing) -> str:
    alt, title = html.escape(drawing.alt), html.escape(drawing.title)
    return (
        f"<figure><h3>{title}</h3>"
        f'<div class="plot" id="plot-{drawing.key}" role="img" aria-label="{alt}" '
        f'style="min-height:{drawing.figure.layout.height}px"></div>'
        f"<figcaption>{alt}</figcaption>"
        f"<details><summary>Numbers: {title}</summary>"
        f"{_table(_rounded(drawing.table), drawing.title)}</details></figure>"
    )


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    return table.head(200).map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))


def _table(table: pd.DataFrame, caption: str) -> str:
    heads = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    said = html.escape(caption)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{said}"><table>'
        f"<caption>{said}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
        "</table></div>"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def _p(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
