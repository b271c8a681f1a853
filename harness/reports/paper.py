"""Figures and tables of a study for a paper: PDF and SVG, csv and LaTeX. Needs no browser."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.atomic import write_bytes, write_text
from harness.ensembles.caveats import SYNTHETIC
from harness.errors import InputError
from harness.reports import tables
from harness.reports.drawing import BEST, ENSEMBLE, OTHER, SINGLE, Drawing, shortened, styles
from harness.reports.evidence import Evidence
from harness.reports.figures import drawings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches: a column of a page in two columns, and its usual height.
_WIDTH, _HEIGHT = 3.4, 2.4
_FORMATS = ("pdf", "svg")
# Text stays text in both; equal inputs give equal files.
_SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names of targets are no mathematics.
    "text.parse_math": False,
}


def write_figures(evidence: Evidence, folder: Path) -> list[Path]:
    """Writes the main figures as PDF and SVG, and the tables as csv and LaTeX (booktabs).

    Returns:
        the paths.

    Raises:
        InputError: matplotlib is not installed, or the study has no figure yet.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "`figures`: needs matplotlib: pip install 'reaction-harness[paper]'"
        ) from error
    found = {each.key: each for each in drawings(evidence) if each.key in _DRAWN}
    if not found:
        raise InputError(f"{evidence.folder}: no finished trials, and so no figures; search first")
    written = []
    for key, drawing in found.items():
        with rc_context(_SETTINGS):
            figure = Figure((_WIDTH, _HEIGHT), layout="constrained")
            axes = figure.add_subplot()
            _DRAWN[key](axes, drawing)
            if evidence.synthetic:
                figure.suptitle(SYNTHETIC, fontsize=5)
            for kind in _FORMATS:
                content = io.BytesIO()
                dates = {"CreationDate" if kind == "pdf" else "Date": None}
                figure.savefig(content, format=kind, metadata=dates)
                written.append(folder / f"{key}.{kind}")
                write_bytes(written[-1], content.getvalue())
    return written + _write_tables(evidence, folder)


def _write_tables(evidence: Evidence, folder: Path) -> list[Path]:
    found = {
        "leaderboard": tables.leaderboard(evidence),
        "ensembles": tables.ensembles(evidence),
        "scores": tables.targets(evidence),
        "members": tables.members(evidence),
        "hyperparameters": tables.settings(evidence),
        "differences": tables.largest_differences(evidence),
        "families": tables.families(evidence),
    }
    written = []
    for name, frame in found.items():
        if frame.empty:
            continue
        note = f"% {SYNTHETIC}\n" if evidence.synthetic else ""
        latex = note + frame.to_latex(index=False, escape=True)
        if evidence.synthetic:
            frame = frame.assign(data="SYNTHETIC demo clips")
        for suffix, text in ((".csv", frame.to_csv(index=False)), (".tex", latex)):
            written.append(folder / f"{name}{suffix}")
            write_text(written[-1], text)
    return written


def _targets(axes: "Axes", drawing: Drawing) -> None:
    table = drawing.table
    names = list(dict.fromkeys(table["target"]))
    for shift, (model, colour, hatch) in enumerate(
        (("ensemble", ENSEMBLE, ""), ("best single trial", SINGLE, "//"))
    ):
        own = table[table["model"] == model]
        limits = own[["95 % from", "to"]].apply(pd.to_numeric, errors="coerce")
        errors = [own["nested PCC"] - limits["95 % from"], limits["to"] - own["nested PCC"]]
        places = [place + 0.4 * shift for place in range(len(names))]
        axes.bar(places, own["nested PCC"], 0.38, label=model, color=colour, hatch=hatch,
                 yerr=errors, error_kw={"linewidth": 0.8, "capsize": 2})  # fmt: skip
    middle = [place + 0.2 for place in range(len(names))]
    axes.set_xticks(middle, [shortened(name) for name in names], rotation=40, ha="right")
    axes.set_ylabel(_scale(drawing))
    # Above the axes, because the bars begin at 0.
    axes.legend(frameon=False, fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _size(axes: "Axes", drawing: Drawing) -> None:
    table = drawing.table
    axes.plot(table["K"], table["naive"], color=OTHER, linestyle="--", label="naive")
    axes.plot(table["K"], table["nested"], color=ENSEMBLE, label="nested")
    _label(axes, "size K", _scale(drawing))


def _best(axes: "Axes", drawing: Drawing) -> None:
    table = drawing.table
    axes.plot(table["trial"], table["score"], ".", color=SINGLE, label="trial")
    axes.step(table["trial"], table["best so far"], color=BEST, where="post", label="best so far")
    _label(axes, "trial", "mean PCC on val")


def _importance(axes: "Axes", drawing: Drawing) -> None:
    table = drawing.table[::-1]
    errors = [table["share"] - table["95 % from"], table["to"] - table["share"]]
    axes.barh(table["name"], table["share"], color=OTHER, xerr=errors,
              error_kw={"linewidth": 0.8, "capsize": 2})  # fmt: skip
    axes.set_xlabel("importance (PED-ANOVA)")


def _calibration(axes: "Axes", drawing: Drawing) -> None:
    table = drawing.table
    axes.axline((0, 0), slope=1, color=OTHER, linestyle=":", linewidth=0.8)
    markers = ("o", "s", "D", "P", "X", "^", "*")
    for n, (name, style) in enumerate(styles(dict.fromkeys(table["target"])).items()):
        own = table[table["target"] == name]
        axes.plot(own["predicted"], own["rated"], color=style.colour, linewidth=0.8, markersize=3,
                  marker=markers[(n + n // len(markers)) % len(markers)],
                  label=shortened(name))  # fmt: skip
    axes.set_xlim(table["predicted"].min() - 0.05, table["predicted"].max() + 0.05)
    _label(axes, "mean prediction", "mean rating")


def _scale(drawing: Drawing) -> str:
    """The label of the vertical axis, which names the split that chose the ensemble."""
    return str(drawing.figure.layout.yaxis.title.text)


def _label(axes: "Axes", x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(frameon=False, fontsize=5)


_DRAWN: dict[str, Callable[[Any, Drawing], None]] = {
    "best": _best,
    "importance": _importance,
    "targets": _targets,
    "size": _size,
    "calibration": _calibration,
}
