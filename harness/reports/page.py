"""Writes `report.html`: one file that needs no network and works with the keyboard alone."""

import html
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
import plotly.io
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs

from harness.atomic import write_text
from harness.ensembles.caveats import SYNTHETIC, caveats
from harness.ensembles.table import effective, formatted, planning_lines
from harness.reports import tables
from harness.reports.clip_figures import clip_drawing
from harness.reports.drawing import Drawing
from harness.reports.ensemble_figures import ensemble_drawings
from harness.reports.evidence import Evidence
from harness.reports.frames import Strip, Unfold, strips
from harness.reports.search_figures import search_drawings

#: Name of the file in the folder of the study.
REPORT = "report.html"
# Rows of the numbers of a figure; the files of the study have all.
_ROWS = 200


def write_report(evidence: Evidence, unfold: Unfold, data: Path | None = None) -> Path:
    """Writes `report.html` to the folder of the study. For `unfold` and `data`, see `strips`."""
    path = evidence.folder / REPORT
    write_text(path, page(evidence, strips(evidence, unfold, data)))
    return path


def page(evidence: Evidence, shown: Sequence[Strip] = ()) -> str:
    """The report as HTML text."""
    of_search, of_ensemble = search_drawings(evidence), ensemble_drawings(evidence)
    of_clips = {s.clip_id: clip_drawing(evidence, n, s) for n, s in enumerate(shown)}
    sections = {
        "Leaderboard": _leaders(evidence, tables.leaderboard(evidence)),
        "The search": _drawings(of_search) or _p("No finished trials yet."),
        "The ensemble": _ensemble(evidence, of_ensemble),
        "A few clips": _strips(evidence, shown, of_clips),
        "What was run": _run(evidence),
    }
    drawn = [*of_search, *of_ensemble, *(each for each in of_clips.values() if each)]
    figures = {each.key: json.loads(plotly.io.to_json(each.figure)) for each in drawn}
    body = [_head(evidence), _contents(sections)]
    body += [_section(title, content) for title, content in sections.items()]
    values = {
        "TITLE": html.escape(f"Study {evidence.folder.name}"),
        "BODY": "\n".join(body),
        # Escaped, because text like </script> would end the script element.
        "FIGURES": json.dumps(figures).replace("<", "\\u003c"),
        "PLOTLY": get_plotlyjs().replace("</script", "<\\/script"),
    }
    template = (files("harness.reports") / "page.html").read_text(encoding="utf-8")
    # In one pass, because a value may contain the name of another, such as %PLOTLY%.
    return re.sub("%(TITLE|BODY|FIGURES|PLOTLY)%", lambda match: values[match[1]], template)


def _head(evidence: Evidence) -> str:
    lines = [f"<h1>Study {html.escape(evidence.folder.name)}</h1>"]
    if evidence.synthetic:
        lines.append(f'<p class="warning"><strong>{SYNTHETIC}</strong></p>')
    states = {state: len(evidence.trials(state)) for state in TrialState}
    counts = ", ".join(f"{n} {state.name.lower()}" for state, n in states.items() if n)
    if evidence.study is None:
        counts = "not known, as the storage is elsewhere; set --storage to show the search figures"
    lines.append(_p(f"Trials: {counts or 'none yet'}."))
    lines.append(_facts(evidence))
    return "\n".join(lines)


def _facts(evidence: Evidence) -> str:
    """The most important scores, each with an explanation."""
    facts: list[tuple[str, float, str]] = []
    found, oracle = evidence.shown, evidence.manifest.get("oracle") or {}
    if found is not None:
        if found.estimate:
            interval = formatted(found.estimate.interval)
            note = f"{found.name}, nested; 95 % {interval}"
            if (corrected := found.estimate.mean_pcc_corrected) is not None:
                note += f"; {corrected:.4f} corrected for the choice of the epochs"
            facts.append(("Expected on new clips", found.estimate.nested, note))
            if gain := found.estimate.gain:
                facts.append(("Gain over the best single trial", gain.value,
                              f"95 % {gain.interval:+.4f}"))  # fmt: skip
        naive = f"naive: optimistic; {found.clips} clips"
        split = found.recipe.choose_on
        facts.append((f"Ensemble on {split}", found.naive, naive))
        facts.append((f"Best single trial on {split}", found.best_single_naive, naive))
        if held := found.hold_out:
            facts.append(("Ensemble on val", held.score, f"chose nothing; {held.clips} clips"))
        if found.test is not None:
            facts.append(("Ensemble on test", found.test,
                          f"scored once; {found.test_clips} clips"))  # fmt: skip
    if "val" in oracle:
        facts.append(("Oracle on val", oracle["val"], "best possible score"))
    items = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{value:.4f}<small>{html.escape(note)}</small></dd>"
        "</div>"
        for name, value, note in facts
    )
    return f'{_p("Mean PCC:")}<dl class="facts">{items}</dl>' if facts else ""


def _leaders(evidence: Evidence, leaders: pd.DataFrame) -> str:
    if evidence.library is None or leaders.empty:
        return _p("No trial has finished with predictions yet; run python -m harness.search.")
    clips = int(evidence.library.matrix.labelled.sum())
    note = (
        f"Scores on the {clips} rated clips of val are optimistic, because val selected trials and "
        "epochs. The corrected score is without the expected optimism of the choice of the epoch. "
        "The intervals resample persons, or clips if persons are not known. They do not correct "
        "for the selection of the trial."
    )
    return _p(note) + _table(leaders, "The best trials")


def _ensemble(evidence: Evidence, drawings: Sequence[Drawing]) -> str:
    if evidence.shown is None:
        top = min(5, len(evidence.library.matrix)) if evidence.library else 5
        again = f"python -m harness.ensemble --top {top} {_options(evidence)}"
        return _p(f"No ensemble yet; run {again}")
    parts = [_table(tables.ensembles(evidence), "Ensembles of this study")]
    if evidence.stale:
        parts.append(f'<p class="warning">{html.escape(evidence.stale)}</p>')
    shown = evidence.shown
    parts += [_p(f"{line}.") for line in (*planning_lines(shown), *caveats(shown))]
    parts.append(_p(f"{effective(shown)}."))
    parts.append(_table(tables.members(evidence), f"Members of {shown.name}"))
    return "".join(parts) + _drawings(drawings)


def _strips(
    evidence: Evidence, shown: Sequence[Strip], drawings: Mapping[str, Drawing | None]
) -> str:
    if not shown:
        return _p("To show frames and predictions of a few clips, build an ensemble and run "
                  f"python -m harness.report {_options(evidence)} --data DIR")  # fmt: skip
    parts = [_p("Clips of val, from the best to the worst predicted one: sampled frames, and the "
                "prediction of the ensemble after each frame.")]  # fmt: skip
    if not evidence.synthetic:
        parts.append(_p("These frames show people: check the licence of the data before you share "
                        "them."))  # fmt: skip
    for strip in shown:
        parts.append(f'<div class="clip">{_pictures(strip)}')
        drawing = drawings[strip.clip_id]
        if drawing is None:
            parts.append(_p("The predictions over the frames need the features of the clip, which "
                            "are not stored; python -m harness.extract computes "
                            "them."))  # fmt: skip
            parts.append(_table(_rated(evidence, strip), f"Clip {strip.clip_id}"))
        else:
            parts.append(_figure(drawing))
        parts.append("</div>")
    return "".join(parts)


def _pictures(strip: Strip) -> str:
    clip = html.escape(strip.clip_id)
    pictures = "".join(
        f'<img src="{each.url}" alt="Frame {each.frame} of clip {clip}">' for each in strip.pictures
    )
    return f'<div class="strip">{pictures}</div>'


def _rated(evidence: Evidence, strip: Strip) -> pd.DataFrame:
    rows = {"rated": strip.rated, "predicted": strip.predicted}
    table = pd.DataFrame(rows, index=list(evidence.index.target_names)).T.map("{:.2f}".format)
    return table.rename_axis("value").reset_index()


def _run(evidence: Evidence) -> str:
    commands = [
        # Studies of older versions have no record of their commands.
        *(evidence.commands or (f"python -m harness.search {_options(evidence)} ...",)),
        *(each.command(evidence.folder.parent) for each in evidence.ensembles),
        f"python -m harness.report {_options(evidence)}",
    ]  # fmt: skip
    code = html.escape("\n".join(commands))
    return (_table(tables.provenance(evidence), "Data, weights, versions")
            + f'<h3>Commands</h3><pre tabindex="0" role="region" aria-label="Commands">{code}</pre>'
            )  # fmt: skip


def _options(evidence: Evidence) -> str:
    """The options of a command that name the study."""
    folder = evidence.folder
    return shlex.join(["--study", folder.name, "--results", str(folder.parent)])


def _drawings(drawings: Sequence[Drawing]) -> str:
    """The figures; consecutive small ones share a grid."""
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
        f"{_numbers(drawing.table, drawing.title)}</details></figure>"
    )


def _numbers(table: pd.DataFrame, title: str) -> str:
    rounded = table.head(_ROWS).map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
    cut = f", the first {_ROWS} of {len(table)} rows" if len(table) > _ROWS else ""
    return _table(rounded, title + cut)


def _table(table: pd.DataFrame, caption: str) -> str:
    heads = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    title = html.escape(caption)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{title}"><table>'
        f"<caption>{title}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
        "</table></div>"
    )


def _section(title: str, content: str) -> str:
    return f'<section><h2 id="{_anchor(title)}">{html.escape(title)}</h2>{content}</section>'


def _contents(titles: Iterable[str]) -> str:
    links = "".join(f'<a href="#{_anchor(each)}">{html.escape(each)}</a>' for each in titles)
    return f'<nav aria-label="Contents">{links}</nav>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _p(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
