"""The first screen of a report: six answers, each with a link to its details."""

import math

import numpy as np
from optuna.trial import TrialState

from harness.ensembles.table import corrected_cell, formatted
from harness.reports import tables
from harness.reports.drawing import Drawing
from harness.reports.effects import FEW_TRIALS, no_importances
from harness.reports.evidence import Evidence
from harness.reports.markup import anchor, card

Lines = list[tuple[str, str]]
#: The sections of a report, in the order of the summary.
DATA, SCORE, MATTERED, TRIALS, ERRORS, NEXT = SECTIONS = (
    "Data",
    "Score",
    "What mattered",
    "Trials",
    "Errors",
    "Next steps",
)
# Hyperparameters, clips and targets in a card.
_FEW = 3


def cards(evidence: Evidence, drawings: list[Drawing]) -> str:
    """The six cards in a grid."""
    shown = (
        (DATA, _data(evidence), "Clips, features and versions"),
        (SCORE, _score(evidence), "Each target, ensembles and members"),
        (MATTERED, _mattered(evidence, drawings), "Hyperparameters and families"),
        (TRIALS, _trials(evidence), "Leaderboard, curves and failures"),
        (ERRORS, _errors(evidence), "Clips, calibration and each target"),
        (NEXT, _next(evidence), "Commands to copy"),
    )
    return (
        '<div class="cards">'
        + "".join(card(title, anchor(title), lines, more) for title, lines, more in shown)
        + "</div>"
    )


def _data(evidence: Evidence) -> Lines:
    index, manifest = evidence.index, evidence.manifest
    kind = "synthetic clips" if evidence.synthetic else "clips"
    counts = ", ".join(f"{len(index.rows(s))} {s}" for s in ("train", "val", "test"))
    rated = int((~np.isnan(index.ratings).any(axis=1)).sum())
    lines = [(f"{len(index):,} {kind}", f"({counts})"), (f"{rated:,} rated", "clips")]
    if index.groups:
        lines.append((f"{len(set(index.groups))} persons", ""))
    elif evidence.library is not None and evidence.library.matrix.groups is not None:
        lines.append(("Persons", "are those of another study of the ensemble"))
    else:
        lines.append(("Persons not known;", "clips count as independent"))
    empty = len(manifest.get("empty") or ())
    lines.append((f"{empty} without features", "are predicted as the mean rating of train"))
    lines.append((f"{len(index.target_names)} targets", ""))
    return lines


def _score(evidence: Evidence) -> Lines:
    found = evidence.shown
    if found is None:
        return [("No ensemble yet", "so that no score on new clips is estimated")]
    lines: Lines = []
    if found.estimate:
        lines.append((f"{found.estimate.nested:.4f}", "Expected on new clips: mean PCC, nested; 95 "
                      f"% {formatted(found.estimate.interval)}; {found.clips} clips"))  # fmt: skip
        if corrected := corrected_cell(found.estimate):
            lines.append((corrected, "The same, corrected for the choice of the epochs"))
        if gain := found.estimate.gain:
            lines.append((f"{gain.value:+.4f}", "Gain over the best single trial; "
                          f"95 % {gain.interval:+.4f}"))  # fmt: skip
    on = f"on {found.recipe.choose_on}, naive"
    lines.append(
        (f"{found.naive:.4f}", f"Ensemble {found.name} {on}: optimistic; {found.clips} clips")
    )
    lines.append((f"{found.best_single_naive:.4f}", f"Best single trial {on}; {found.clips} clips"))
    if held := found.hold_out:
        lines.append((f"{held.score:.4f}", f"Ensemble on val, which chose nothing; {held.clips} "
                                           "clips"))  # fmt: skip
    if found.test is not None:
        clips = f"{found.test_clips} clips"
        lines.append((f"{found.test:.4f}", f"Ensemble on test, scored once; {clips}"))
    if evidence.library and (oracle := evidence.library.oracle("val")) is not None:
        val = len(evidence.index.rows("val"))
        lines.append((f"{oracle:.4f}", f"Oracle on val: best possible score; {val} clips"))
    return lines


def _mattered(evidence: Evidence, drawings: list[Drawing]) -> Lines:
    lines: Lines = []
    for drawing in drawings:
        if drawing.key == "importance":
            lines += [
                (str(row.name), f"importance {row.share:.2f}, 95 % {row.low:.2f} to {row.high:.2f}")
                for row in drawing.table.head(_FEW)
                .set_axis(["name", "share", "low", "high"], axis=1)
                .itertuples(index=False)
            ]
    if not lines:
        found = tables.largest_differences(evidence).head(_FEW).to_dict("records")
        text = "{better} vs. {worse}: {difference}, 95 % {95 % interval}; {trials} trials"
        lines += [(str(row["hyperparameter"]), text.format_map(row)) for row in found]
        if evidence.study is not None:
            reason = no_importances(tables.complete(evidence)).partition(".")[0]
            lines.append(("No importances:", reason))
    families = tables.families(evidence, 2)
    known = families[families["95 % interval"] != formatted(None)] if len(families) else families
    if len(known) == 2:
        text = "mean score {mean score}, 95 % {95 % interval}; {trials} trials"
        for place, row in zip(("best", "second"), known.to_dict("records"), strict=True):
            lines.append((str(row["family"]), f"{place} family, {text.format_map(row)}"))
    elif len(families):
        lines.append(("Families", f"are not compared: fewer than two have {FEW_TRIALS} trials"))
    streams = evidence.manifest.get("streams") or {}
    lines += [(name, f"features, {stream['width']} columns") for name, stream in streams.items()]
    return lines or [("Not known", "with so few trials")]


def _trials(evidence: Evidence) -> Lines:
    if evidence.study is None:
        storage = evidence.manifest.get("storage")
        return [("Not known", f"the study is in {storage}; set --storage to show its trials")]
    states = {state: len(evidence.trials(state)) for state in TrialState}
    lines = [
        (f"{n} {'failed' if state == TrialState.FAIL else state.name.lower()}", "trials")
        for state, n in states.items()
        if n
    ]
    seconds = [t.user_attrs.get("seconds") for t in evidence.trials(TrialState.COMPLETE)]
    total = math.fsum(float(value) for value in seconds if value is not None)
    if total:
        lines.append((duration(total), "of training in complete trials"))
    failed = evidence.failures()
    if failed:
        last = list(failed)[-1]
        lines.append((f"Trial {last} failed:", failed[last]))
    return lines or [("None yet", "")]


def _errors(evidence: Evidence) -> Lines:
    clips, found = tables.clip_errors(evidence), evidence.shown
    if clips.empty or found is None:
        return [("Not known", "without an ensemble")]
    lines = [
        (f"Clip {row.clip}", f"mean error {row.error:.3f}")
        for row in clips.head(_FEW).itertuples(index=False)
    ]
    pcc = dict(zip(found.targets, found.pcc, strict=True))
    worst = min(pcc, key=lambda name: pcc[name])
    lines.append((worst, f"lowest PCC on {found.recipe.choose_on}, {pcc[worst]:.4f} (naive)"))
    persons = tables.worst_persons(evidence)
    if len(persons):
        row = persons.iloc[0]
        lines.append((f"Person {row['person']}", f"largest mean error, {row['mean error']}"))
    return lines


def _next(evidence: Evidence) -> Lines:
    lines = [("Continue", "the search: the same command with more trials")]
    lines.append(("Combine", "the best trials: harness.ensemble"))
    if found := evidence.shown:
        lines.append(("Predict", f"clips with {found.name}: harness.predict"))
    return lines


def duration(seconds: float) -> str:
    """Seconds as text, such as `3.2 min`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
