"""Writes `report.html`: one file that needs no network and works with the keyboard alone."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.atomic import write_text
from harness.ensembles.caveats import SYNTHETIC, caveats
from harness.ensembles.library import FAMILY
from harness.ensembles.table import ceiling_meaning, effective, planning_lines
from harness.reports import tables
from harness.reports.clip_figures import clip_drawing
from harness.reports.commands import (
    CLIPS,
    WEIGHTS,
    combining,
    continuing,
    predicting,
    reporting,
)
from harness.reports.drawing import Drawing
from harness.reports.effects import no_importances
from harness.reports.evidence import Evidence
from harness.reports.figures import drawings
from harness.reports.frames import Strip, Unfold, strips
from harness.reports.markup import (
    commands,
    contents,
    document,
    figure,
    figures,
    paragraph,
    section,
    table,
)
from harness.reports.summary import DATA, ERRORS, MATTERED, NEXT, SCORE, SECTIONS, TRIALS, cards
from harness.study.deaths import death_lines

#: Name of the file in the folder of the study.
REPORT = "report.html"
# Figures of each section, by their keys; the keys of slices, scatter plots and clips are longer.
_OF_SCORE = ("published", "targets", "size", "correlations")
_OF_MATTERED = ("importance", "slice")
_OF_TRIALS = ("best", "time", "curves")
_OF_ERRORS = ("calibration", "scatter")


def write_report(evidence: Evidence, unfold: Unfold, data: Path | None = None) -> Path:
    """Writes `report.html` to the folder of the study. For `unfold` and `data`, see `strips`."""
    path = evidence.folder / REPORT
    write_text(path, page(evidence, strips(evidence, unfold, data)))
    return path


def page(evidence: Evidence, shown: Sequence[Strip] = ()) -> str:
    """The report as HTML text."""
    of_study = drawings(evidence)
    of_clips = {s.clip_id: clip_drawing(evidence, n, s) for n, s in enumerate(shown)}

    def chosen(keys: Sequence[str]) -> list[Drawing]:
        return [each for each in of_study if each.key.partition("-")[0] in keys]

    details = {
        DATA: _data(evidence),
        SCORE: _score(evidence, chosen(_OF_SCORE)),
        MATTERED: _mattered(evidence, chosen(_OF_MATTERED)),
        TRIALS: _trials(evidence, chosen(_OF_TRIALS)),
        ERRORS: _errors(evidence, chosen(_OF_ERRORS)) + _strips(evidence, shown, of_clips),
        NEXT: _next(evidence),
    }
    drawn = [*of_study, *(each for each in of_clips.values() if each)]
    body = [f'<p class="warning"><strong>{SYNTHETIC}</strong></p>'] if evidence.synthetic else []
    body.append(section("Summary", cards(evidence, of_study), "summary"))
    body.append(contents(SECTIONS))
    body += [section(title, content) for title, content in details.items()]
    return document(f"Study {evidence.folder.name}", body, drawn)


def _data(evidence: Evidence) -> str:
    problems, count = tables.problems(evidence), len(evidence.manifest.get("problems") or ())
    rest = f"{len(problems)} of {count} clips with problems; all are in clips-with-gaps.csv."
    return (
        table(tables.data(evidence), "Clips of each split")
        + table(problems, "Clips with problems in their input")
        + (paragraph(rest) if len(problems) < count else "")
        + table(tables.provenance(evidence), "Data, weights, versions")
    )


def _score(evidence: Evidence, drawings: Sequence[Drawing]) -> str:
    shown = evidence.shown
    unreadable = "".join(paragraph(line, "warning") for line in evidence.unreadable)
    if shown is None:
        return unreadable + paragraph(f"No ensemble yet; run {combining(evidence)}")
    parts = [
        table(
            tables.targets(evidence),
            f"PCC of {shown.name} for each target on {shown.recipe.choose_on}",
        )
    ]
    if evidence.ceilings:
        parts.append(paragraph(f"{ceiling_meaning(shown.synthetic)}."))
    if evidence.stale:
        parts.append(paragraph(evidence.stale, "warning"))
    parts += [paragraph(f"{line}.") for line in (*planning_lines(shown), *caveats(shown))]
    parts.append(table(tables.ensembles(evidence), "Ensembles of this study") + unreadable)
    parts.append(paragraph(f"{effective(shown)}."))
    parts.append(table(tables.members(evidence), f"Members of {shown.name}"))
    return "".join(parts) + figures(drawings)


def _mattered(evidence: Evidence, drawings: Sequence[Drawing]) -> str:
    values = tables.settings(evidence)
    importance = any(drawing.key == "importance" for drawing in drawings)
    note = paragraph(
        "The tables compare the mean score on val of complete trials, without those that were "
        "stopped early. The sampler prefers promising values, so that trials are no random sample, "
        "and a difference may have another cause. The largest differences are between the best and "
        "the worst value with at least three trials each; their intervals (Welch) are widened for "
        "the number of pairs of values."
    )
    if values.empty:
        note = paragraph("No hyperparameter has two values in complete trials yet.")
    return (
        note
        + table(tables.largest_differences(evidence), "Largest difference by hyperparameter")
        + table(tables.streams(evidence), "Score by streams: ensembles of their trials alone")
        + table(
            tables.added(evidence),
            "What each stream adds: the shown ensemble, and one of the trials that do not read the "
            "stream, on the same clips; the intervals do not include the selection of trials",
        )
        + table(values, "Score by hyperparameter")
        + table(tables.families(evidence), "Families of trials: " + ", ".join(FAMILY))
        + (
            ""
            if importance
            else paragraph(f"No importances: {no_importances(tables.complete(evidence))}.")
        )
        + figures(drawings)
    )


def _trials(evidence: Evidence, drawings: Sequence[Drawing]) -> str:
    failed = table(tables.failed(evidence), "Failed trials") + _dead(evidence)
    leaders = tables.leaderboard(evidence)
    if evidence.library is None or leaders.empty:
        todo = "correct the reasons above and run" if failed else "run"
        none = f"No trial has finished with predictions yet; {todo} {continuing(evidence)[-1]}"
        return failed + paragraph(none) + figures(drawings)
    clips = int(evidence.library.matrix.labelled.sum())
    note = (
        f"Scores on the {clips} rated clips of val are optimistic, because val selected trials and "
        "epochs. The corrected score is without the expected optimism of the choice of the epoch. "
        "The intervals resample persons, or clips if persons are not known. They do not correct "
        "for the selection of the trial."
    )
    return (
        paragraph(note) + table(leaders, "Leaderboard: the best trials") + failed
        + figures(drawings)
    )  # fmt: skip


def _dead(evidence: Evidence) -> str:
    dead = tables.dead(evidence)
    if evidence.study is None or dead.empty:
        return ""
    lines = [paragraph(f"{line}.") for line in death_lines(evidence.study)]
    return table(dead, "Trials that ended early because they could not recover") + "".join(lines)


def _errors(evidence: Evidence, drawings: Sequence[Drawing]) -> str:
    worst = tables.worst_clips(evidence)
    if worst.empty:
        return paragraph("Errors are shown once there is an ensemble.")
    shown = evidence.shown
    if shown is not None and shown.recipe.choose_on != "val":
        note = "Errors of the ensemble on val, which took no part in selecting its members."
    else:
        note = (
            "Errors of the ensemble on val. These clips selected its members, so that errors on "
            "new clips are larger."
        )
    note += " The error of a clip is the mean absolute difference over the targets."
    return (
        paragraph(note)
        + table(worst, "Clips with the largest errors")
        + table(tables.worst_persons(evidence), "Persons with the largest errors")
        + figures(drawings)
    )


def _strips(
    evidence: Evidence, shown: Sequence[Strip], drawings: Mapping[str, Drawing | None]
) -> str:
    if not shown:
        return paragraph("To show frames and predictions of a few clips, build an ensemble and run "
                         f"{reporting(evidence)} --data DIR")  # fmt: skip
    parts = [
        "<h3>Clips from the best to the worst predicted one</h3>",
        paragraph("Sampled frames, and the prediction of the ensemble after each frame."),
    ]
    if not evidence.synthetic:
        parts.append(paragraph("These frames show people: check the licence of the data before you "
                               "share them."))  # fmt: skip
    for strip in shown:
        parts.append(f'<div class="clip">{_pictures(strip)}')
        drawing = drawings[strip.clip_id]
        if drawing is None:
            parts.append(paragraph("The predictions over the frames need the features of the clip, "
                                   "which are not stored; python -m harness.extract computes "
                                   "them."))  # fmt: skip
            parts.append(table(_rated(evidence, strip), f"Clip {strip.clip_id}"))
        else:
            parts.append(figure(drawing))
        parts.append("</div>")
    return "".join(parts)


def _pictures(strip: Strip) -> str:
    clip = html.escape(strip.clip_id)
    pictures = "".join(
        f'<img src="{each.url}" alt="Frame {each.frame} of clip {clip}">' for each in strip.pictures
    )
    return f'<div class="strip">{pictures}</div>'


def _rated(evidence: Evidence, strip: Strip) -> pd.DataFrame:
    names = evidence.index.target_names
    rows = [
        (name, f"{rated:.2f}", f"{predicted:.2f}")
        for name, rated, predicted in zip(names, strip.rated, strip.predicted, strict=True)
    ]
    return pd.DataFrame(rows, columns=["target", "rated", "predicted"])


def _next(evidence: Evidence) -> str:
    searches = continuing(evidence)
    python = [line for line in searches if line.startswith("harness.")]
    shell = [line for line in searches if not line.startswith("harness.")]
    again = [each.command(evidence.folder) for each in evidence.ensembles]
    parts = []
    if shell:
        parts.append(commands("Continue the search", shell))
    if python:
        parts.append(commands("Continue the search from Python", ["import harness", *python]))
    parts.append(commands("Combine the best trials", again or [combining(evidence)]))
    if predict := predicting(evidence):
        parts.append(commands("Predict clips", [predict]))
        unknown = [name for name in (CLIPS, WEIGHTS) if name in predict.split()]
        note = "This predicts the clips of the study; give another folder to predict new clips."
        if unknown:
            note = f"Replace {' and '.join(unknown)} by your folder of clips or your weight file."
        parts.append(paragraph(note))
    return "".join([*parts, commands("Write this report again", [reporting(evidence)])])
