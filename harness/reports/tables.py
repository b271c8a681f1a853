"""The tables of a report, as pandas frames."""

from importlib.metadata import PackageNotFoundError, version

import pandas as pd
from optuna.trial import TrialState

from harness.ensembles.table import corrected_cell, formatted, gain_cells, member_row
from harness.predictions import trial_name
from harness.reports.evidence import Evidence
from harness.study.trials import changed_settings, shown_settings

#: Rows of the leaderboard; the dashboard has all trials.
LEADERS = 20
# Fields of the manifest that are shown elsewhere in the page or are too long for a row.
_ELSEWHERE = frozenset({"oracle", "problems", "empty", "stream", "synthetic"})


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
                "gain over single": gain_cells(each.estimate.gain)[0] if each.estimate else "",
                "95 % of the gain": gain_cells(each.estimate.gain)[1] if each.estimate else "",
                "chosen on": f"{each.clips} clips of {each.recipe.choose_on}",
                "test, scored once": "not scored" if each.test is None else f"{each.test:.4f}",
                "test clips": str(each.test_clips),
            }
            for each in evidence.ensembles
        ]
    )


def provenance(evidence: Evidence) -> pd.DataFrame:
    """Data, weights, settings and versions of the study."""
    manifest = evidence.manifest
    rows = {k: v for k, v in manifest.items() if k not in _ELSEWHERE and v not in (None, "", [])}
    recipe = manifest.get("stream") or {}
    rows |= {f"features: {name}": value for name, value in recipe.items()}
    if "weights" in recipe:
        rows["features: weights"] = f"sha256 {recipe['weights']}"
    counts = {split: len(evidence.index.rows(split)) for split in ("train", "val", "test")}
    rows["clips"] = ", ".join(f"{count} {split}" for split, count in counts.items())
    rows["clips without features"] = len(manifest.get("empty") or ())
    if evidence.shown is not None:
        rows |= {f"version of {k}": v for k, v in evidence.shown.versions.items()}
    rows["versions that wrote this page"] = ", ".join(_installed())
    return pd.DataFrame([{"field": k, "value": _joined(v)} for k, v in rows.items()])


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
