"""The tables of a report, as pandas frames."""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from harness.ensembles.by_streams import added_by_streams, by_streams
from harness.ensembles.intervals import Interval
from harness.ensembles.table import ceiling_cell, corrected_cell, formatted, gain_cells, member_row
from harness.predictions import trial_name
from harness.reports.effects import FEW_TRIALS, by_value, differences, mean_interval
from harness.reports.evidence import Evidence
from harness.study.deaths import is_dead
from harness.study.trials import REASON, SECONDS, changed_settings, shown_settings

#: Rows of the leaderboard; the dashboard has all trials.
LEADERS = 20
#: Clips, persons and problems in a table, the worst first.
WORST = 10
# Fields of the manifest that are shown elsewhere in the page or are too long for a row.
_ELSEWHERE = frozenset(
    (
        *("oracle", "oracle_by_target", "oracles", "ceilings"),
        *("problems", "empty", "streams", "synthetic"),
    )
)


def leaderboard(evidence: Evidence, rows: int = LEADERS) -> pd.DataFrame:
    """The best trials: score on val with its 95 % interval, time, hyperparameters.

    Without the storage of the study, the hyperparameters come from the prediction files.
    """
    seconds = {}
    params = {}
    complete = evidence.trials(TrialState.COMPLETE)
    changed = changed_settings(complete)
    for trial in complete:
        seconds[trial_name(trial.number)] = trial.user_attrs.get("seconds")
        params[trial_name(trial.number)] = shown_settings(trial, changed)
    if evidence.library is None:
        return pd.DataFrame()
    matrix = evidence.library.matrix
    order = sorted(range(len(matrix)), key=lambda slot: -matrix.trials[slot].info.val_pcc)[:rows]
    resamples = evidence.resamples(order)
    table = []
    for place, slot in enumerate(order):
        info = matrix.trials[slot].info
        # The storage has only the trials of this study.
        own = matrix.trials[slot].study.folder == evidence.folder
        row = {
            "trial": matrix.trials[slot].id,
            "mean PCC": f"{info.val_pcc:.4f}",
            "corrected": "" if info.corrected is None else f"{info.corrected:.4f}",
            "95 % interval": formatted(resamples.score(place), ".3f"),
            "best epoch": str(info.best_epoch),
        }
        took = seconds.get(info.trial_id) if own else None
        if took is not None:
            row["time"] = f"{took:.1f} s"
        shown = (own and params.get(info.trial_id)) or info.config
        table.append(row | {name: _short(value) for name, value in shown.items()})
    return pd.DataFrame(table).fillna("")


def dead(evidence: Evidence) -> pd.DataFrame:
    """The trials that were ended because they could not recover: reason, epochs, time,
    hyperparameters."""
    trials = [trial for trial in evidence.trials(TrialState.PRUNED) if is_dead(trial)]
    changed = changed_settings(evidence.trials())
    rows = [
        {
            "trial": trial_name(trial.number),
            "reason": trial.user_attrs[REASON],
            "epochs": str(len(trial.intermediate_values)),
            "time": f"{trial.user_attrs[SECONDS]:.1f} s",
            **{name: _short(value) for name, value in shown_settings(trial, changed).items()},
        }
        for trial in trials
    ]
    return pd.DataFrame(rows).fillna("")


def members(evidence: Evidence) -> pd.DataFrame:
    """The members of the shown ensemble, the largest weight first."""
    shown = evidence.shown
    if shown is None:
        return pd.DataFrame()
    return pd.DataFrame([member_row(member) for member in shown.member_reports])


def ensembles(evidence: Evidence) -> pd.DataFrame:
    """All ensembles of the study."""
    return pd.DataFrame(
        [
            {
                "ensemble": each.name,
                "method": each.method,
                "members": str(len(each.members)),
                "naive (optimistic)": f"{each.naive:.4f}",
                "nested": f"{each.estimate.nested:.4f}" if each.estimate else "",
                "corrected": corrected_cell(each.estimate),
                "95 % interval": formatted(each.estimate.interval) if each.estimate else "",
                "gain": gain_cells(each.estimate.gain)[0] if each.estimate else "",
                "95 % of the gain": gain_cells(each.estimate.gain)[1] if each.estimate else "",
                "chosen on": f"{each.clips} clips of {each.recipe.choose_on}",
                "test": "not scored" if each.test is None else f"{each.test:.4f}",
                "test clips": str(each.test_clips),
            }
            for each in evidence.ensembles
        ]
    )


def provenance(evidence: Evidence) -> pd.DataFrame:
    """Data, weights, settings and versions of the study."""
    manifest = evidence.manifest
    rows = {k: v for k, v in manifest.items() if k not in _ELSEWHERE and v not in (None, "", [])}
    for name, known in (manifest.get("streams") or {}).items():
        stream = {**known, **known["details"], "details": None}
        rows |= {f"{name}: {k}": v for k, v in stream.items() if v not in (None, "", [])}
    counts = {split: len(evidence.index.rows(split)) for split in ("train", "val", "test")}
    rows["clips"] = ", ".join(f"{count} {split}" for split, count in counts.items())
    rows["clips without features"] = len(manifest.get("empty") or ())
    if evidence.shown is not None:
        rows |= {f"version of {k}": v for k, v in evidence.shown.versions.items()}
    rows["versions that wrote this page"] = ", ".join(_installed())
    return pd.DataFrame([{"field": k, "value": _joined(v)} for k, v in rows.items()])


def data(evidence: Evidence) -> pd.DataFrame:
    """The clips of each split: rated ones, persons, and those without features."""
    index, empty = evidence.index, set(evidence.manifest.get("empty") or ())
    rows = []
    for split in ("train", "val", "test"):
        own = index.rows(split)
        persons = len({index.groups[row] for row in own}) if index.groups else None
        rows.append(
            {
                "split": split,
                "clips": str(len(own)),
                "rated": str(int((~np.isnan(index.ratings[own]).any(axis=1)).sum())),
                "persons": "not known" if persons is None else str(persons),
                "without features": str(len(empty.intersection(index.ids(split)))),
            }
        )
    return pd.DataFrame(rows)


def problems(evidence: Evidence) -> pd.DataFrame:
    """Clips with partly or completely missing input, with the reason; first those that
    have no features."""
    found = list((evidence.manifest.get("problems") or {}).items())
    empty = set(evidence.manifest.get("empty") or ())
    found.sort(key=lambda item: item[0] not in empty)
    return pd.DataFrame(found[:WORST], columns=["clip", "problem"])


def targets(evidence: Evidence) -> pd.DataFrame:
    """The scores of each target, as the terminal shows them."""
    shown = evidence.shown
    if shown is None:
        return pd.DataFrame()
    estimates = shown.estimate.targets if shown.estimate else (None,) * len(shown.targets)
    ceilings = evidence.ceilings
    rows = []
    for name, naive, found in zip(shown.targets, shown.pcc, estimates, strict=True):
        row = {"target": name, "naive": f"{naive:.4f}"}
        if found is not None:
            gain, interval = gain_cells(found.gain)
            row |= {
                "nested": f"{found.nested:.4f}",
                "95 % interval": formatted(found.interval),
                "single": f"{found.single:.4f}",
                "gain": gain,
                "95 % of the gain": interval,
            }
        if ceilings:
            row["ceiling"] = ceiling_cell(ceilings, name)
        rows.append(row)
    return pd.DataFrame(rows)


def streams(evidence: Evidence) -> pd.DataFrame:
    """The scores of the trials by the streams that they read; empty if all read the same."""
    found = by_streams(evidence.built) if evidence.built is not None else []
    if len(found) < 2:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "streams": each.streams,
            "trials": str(each.trials),
            "best single (optimistic)": f"{each.best:.4f}",
            "nested": "undefined" if math.isnan(each.nested) else f"{each.nested:.4f}",
        }
        for each in found
    )


def added(evidence: Evidence) -> pd.DataFrame:
    """What each stream adds to the nested PCC of the shown ensemble."""
    found = added_by_streams(evidence.built) if evidence.built is not None else []
    return pd.DataFrame(
        {
            "stream": each.stream,
            "target": each.target or "mean",
            "nested without it": f"{each.without:.4f}",
            "it adds": f"{each.difference:+.4f}",
            "95 % interval": formatted(each.interval),
        }
        for each in found
    )


def settings(evidence: Evidence) -> pd.DataFrame:
    """The score of the complete trials by each value of each hyperparameter, the best first.

    The intervals take the trials as independent. Values with few trials have wide ones.
    """
    trials = complete(evidence)
    rows = []
    for name in sorted({name for trial in trials for name in trial.params}):
        scores = by_value(name, trials)
        best_first = _by_mean(scores)
        rows += [
            {"hyperparameter": name, "value": value} | _compared(scores[value])
            for value in best_first
        ]
    return pd.DataFrame(rows)


def complete(evidence: Evidence) -> list[FrozenTrial]:
    """The complete trials, by number."""
    return sorted(
        (t for t in evidence.trials(TrialState.COMPLETE) if t.value is not None),
        key=lambda trial: trial.number,
    )


def largest_differences(evidence: Evidence) -> pd.DataFrame:
    """The largest difference between two values of each hyperparameter, as text."""
    found = differences(complete(evidence))
    if found.empty:
        return found
    limits = zip(found.pop("95 % from"), found.pop("to"), strict=True)
    intervals = [formatted(Interval(*pair), "+.4f") for pair in limits]
    found["difference"] = found["difference"].map("{:+.4f}".format)
    return found.assign(**{"95 % interval": intervals})


def families(evidence: Evidence, rows: int = WORST) -> pd.DataFrame:
    """The families of trials with their scores: first those whose mean has an interval, the best
    mean first."""
    if evidence.library is None:
        return pd.DataFrame()
    found: dict[str, list[float]] = {}
    for trial in evidence.library.matrix.trials:
        found.setdefault(trial.family, []).append(trial.info.val_pcc)
    order = sorted(_by_mean(found), key=lambda name: len(found[name]) < FEW_TRIALS)
    return pd.DataFrame([{"family": name} | _compared(found[name]) for name in order[:rows]])


def _by_mean(scores: Mapping[str, Sequence[float]]) -> list[str]:
    return sorted(scores, key=lambda name: -float(np.mean(scores[name])))


def _compared(scores: Sequence[float]) -> dict[str, str]:
    return {
        "trials": str(len(scores)),
        "mean score": f"{np.mean(scores):.4f}",
        "95 % interval": formatted(mean_interval(scores)),
        "best": f"{max(scores):.4f}",
    }


def failed(evidence: Evidence) -> pd.DataFrame:
    """The failed trials with their reasons."""
    rows = [(str(number), reason) for number, reason in evidence.failures().items()]
    return pd.DataFrame(rows, columns=["trial", "reason"])


def worst_clips(evidence: Evidence) -> pd.DataFrame:
    """The rated clips of val with the largest errors of the shown ensemble.

    The error is the mean absolute difference over the targets.
    """
    found = clip_errors(evidence)
    if found.empty:
        return found
    found = found.head(WORST)
    return found.assign(error=found["error"].map("{:.3f}".format)).astype(str)


def clip_errors(evidence: Evidence) -> pd.DataFrame:
    """The errors of all rated clips of val, the largest first; empty without an ensemble.

    Columns: clip, person (if known), error, worst target, its rating and its prediction.
    """
    if evidence.built is None or evidence.library is None:
        return pd.DataFrame()
    matrix = evidence.library.matrix
    rows = np.flatnonzero(matrix.labelled)
    truth, predicted = matrix.truth[rows], evidence.built.predicted[rows]
    errors = np.abs(predicted - truth)
    worst, own = errors.argmax(axis=1), np.arange(len(rows))
    found = pd.DataFrame(
        {
            "clip": [matrix.clip_ids[row] for row in rows],
            "error": errors.mean(axis=1),
            "worst target": [matrix.target_names[column] for column in worst],
            "rated": [f"{value:.2f}" for value in truth[own, worst]],
            "predicted": [f"{value:.2f}" for value in predicted[own, worst]],
        }
    )
    if matrix.groups is not None:
        found.insert(1, "person", [matrix.groups[row] for row in rows])
    return found.sort_values("error", ascending=False, kind="stable")


def worst_persons(evidence: Evidence) -> pd.DataFrame:
    """The persons of val with the largest mean errors; empty if persons are not known."""
    found = clip_errors(evidence)
    if "person" not in found:
        return pd.DataFrame()
    persons = found.groupby("person")["error"].agg(["size", "mean"])
    persons = persons.sort_values("mean", ascending=False, kind="stable").head(WORST).reset_index()
    return pd.DataFrame(
        {
            "person": persons["person"],
            "clips": persons["size"].astype(str),
            "mean error": persons["mean"].map("{:.3f}".format),
        }
    )


def _installed() -> list[str]:
    """Versions of the libraries that a search uses, without importing them."""
    found = []
    for name in ("torch", "ray", "optuna", "numpy", "pyarrow", "av", "plotly"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _joined(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
