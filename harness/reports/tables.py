"""The tables of a report, as pandas frames."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
from optuna.trial import TrialState

from harness.predictions import trial_name
from harness.reports.evidence import Evidence
from harness.study.trials import changed_settings, shown_settings

#: Rows of the leaderboard; the dashboard has them all.
LEADERS = 20
# Of the manifest: what other parts of the page show, and what is too long for a row.
_ELSEWHERE = frozenset({"oracle", "problems", "empty", "recipe", "synthetic"})


def leaderboard(evidence: Evidence, rows: int = LEADERS) -> pd.DataFrame:
    """The best trials: score on val with the 95 % interval of its bootstrap, time, configuration.

    From the study's log, or from the prediction files alone where the log lies elsewhere.
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
    low, high = np.quantile(evidence.spread(order).mean(axis=2), [0.025, 0.975], axis=0)
    table = []
    for slot, *bounds in zip(order, low, high, strict=True):
        info = matrix.trials[slot].info
        # The log is of this study alone, and so are its trials' numbers.
        own = matrix.trials[slot].study.folder == evidence.folder
        row = {
            "trial": matrix.trials[slot].id,
            "mean PCC": f"{info.val_pcc:.4f}",
            "95 % interval": f"{bounds[0]:.3f} to {bounds[1]:.3f}",
            "best epoch": str(info.best_epoch),
        }
        took = seconds.get(info.trial_id) if own else None
        if took is not None:
            row["time"] = f"{took:.1f} s"
        shown = (own and params.get(info.trial_id)) or info.config
        table.append(row | {name: _short(value) for name, value in shown.items()})
    return pd.DataFrame(table).fillna("")


def members(evidence: Evidence) -> pd.DataFrame:
    """The members of the ensemble shown, the heaviest first."""
    shown = evidence.shown
    if shown is None:
        return pd.DataFrame()
    return pd.DataFrame(
        [
            {
                "trial": member.trial,
                "weight": f"{member.weight:.3f}",
                "mean PCC": f"{member.pcc:.4f}",
                "left out": "" if member.left_out is None else f"{member.left_out:+.4f}",
                "correlation": "" if member.correlation is None else f"{member.correlation:.2f}",
                "family": member.family,
            }
            for member in shown.member_reports
        ]
    )


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
                "95 % interval": f"{each.estimate.interval.low:.4f} to "
                f"{each.estimate.interval.high:.4f}" if each.estimate else "",
                "p of no gain": f"{each.estimate.p:.4f}" if each.estimate else "",
                "test, scored once": "not scored" if each.test is None else f"{each.test:.4f}",
            }
            for each in evidence.ensembles
        ]
    )  # fmt: skip


def provenance(evidence: Evidence) -> pd.DataFrame:
    """What was run: data, weights, settings, versions."""
    manifest = evidence.manifest
    rows = {k: v for k, v in manifest.items() if k not in _ELSEWHERE and v not in (None, "", [])}
    recipe = manifest.get("recipe") or {}
    rows |= {f"features: {name}": value for name, value in recipe.items()}
    if "weights" in recipe:
        rows["features: weights"] = f"sha256 {recipe['weights']}"
    counts = {split: len(evidence.index.rows(split)) for split in ("train", "val", "test")}
    rows["clips"] = ", ".join(f"{count} {split}" for split, count in counts.items())
    rows["clips that gave nothing"] = len(manifest.get("empty") or ())
    if evidence.shown is not None:
        rows |= {f"version of {k}": v for k, v in evidence.shown.versions.items()}
    rows["versions when this page was written"] = ", ".join(_installed())
    return pd.DataFrame([{"what": k, "value": _said(v)} for k, v in rows.items()])


def _installed() -> list[str]:
    """Of what a search runs on, without importing it."""
    found = []
    for name in ("torch", "ray", "optuna", "numpy", "pyarrow", "av", "plotly"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
