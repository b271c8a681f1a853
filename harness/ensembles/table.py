"""Prints an ensemble and its scores as tables on the terminal."""

from collections.abc import Mapping

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.ensembles.caveats import SYNTHETIC, caveats
from harness.ensembles.comparison import Comparison
from harness.ensembles.construction import Construction
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.estimate import Estimate
from harness.ensembles.explanation import Member
from harness.ensembles.gain import Gain
from harness.ensembles.intervals import Interval
from harness.ensembles.library import FAMILY, Library
from harness.ensembles.planning import sentences

# Members that are printed; ensemble.json has all.
_MEMBERS = 20
# Members whose correlations fit into the width of a terminal.
_MATRIX = 10
_SIZES = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50)


def show(out: Console, library: Library, ensemble: Ensemble) -> None:
    """Prints the counts of the library, the members, the scores and their estimates."""
    names = ", ".join(str(study.folder) for study in library.studies)
    _say(out, f"Study {names}: {ensemble.eligible} eligible prediction files, "
              f"{ensemble.refused} refused, {ensemble.duplicates} duplicates")  # fmt: skip
    for refusal in library.refused:
        out.print(f"  refused: {refusal.reason}", style="red", markup=False, soft_wrap=True)
    for trial, other in library.duplicates:
        _say(out, f"  duplicate: trial {trial} has the predictions of trial {other}", "yellow")
    if ensemble.recipe.method == "auto" and ensemble.estimate and ensemble.estimate.methods:
        tried = ", ".join(f"{k} {v:.4f}" for k, v in ensemble.estimate.methods.items())
        _say(out, f"Method {ensemble.method} has the best nested score: {tried}")
    out.print(members_table(ensemble))
    _say(out, effective(ensemble))
    out.print(scores_table(ensemble))
    if ensemble.estimate is not None:
        out.print(targets_table(ensemble, ensemble.estimate, library.ceilings))
        if library.ceilings:
            _say(out, ceiling_meaning(ensemble.synthetic))
        if (gain := ensemble.estimate.gain) is not None:
            value, interval = gain_cells(gain)
            _say(out, f"Gain over the best single trial: mean PCC {value}, 95 % {interval} "
                      f"({gain.replicates} replicates of the selection)")  # fmt: skip
        if ensemble.estimate.mean_pcc_corrected is not None:
            _say(out, "Nested score, corrected for the choice of the epochs: mean PCC "
                      f"{ensemble.estimate.mean_pcc_corrected:.4f}")  # fmt: skip
        for line in planning_lines(ensemble):
            _say(out, line)
    for caveat in caveats(ensemble):
        _say(out, caveat, "yellow")
    _show_scores(out, library, ensemble)


def show_comparison(out: Console, comparison: Comparison) -> None:
    """Prints the paired differences of two ensembles."""
    a, b = escape(comparison.ours), escape(comparison.theirs)
    table = _table(f"PCC of A = {a} and B = {b}", "", "", "A", "B", "A - B", "95 % of A - B")
    for row in comparison.rows:
        scores = (f"{row.ours:.4f}", f"{row.theirs:.4f}", f"{row.difference:+.4f}")
        table.add_row(row.split, escape(row.target), *scores, formatted(row.interval, "+.4f"))
    out.print(table)
    clips = {row.split: row.clips for row in comparison.rows}
    counts = ", ".join(f"{count} rated clips of {split}" for split, count in clips.items())
    if "test" not in clips:
        _say(out, "Test is not compared: it has no ratings, or a PCC is undefined")
    unit = "persons" if comparison.grouped else "clips"
    _say(out, f"Paired on {counts}; {next(iter(clips))} is nested. Intervals resample {unit} and "
              "do not include the selection of trials")  # fmt: skip


def show_details(out: Console, built: Construction) -> None:
    """Prints the score by ensemble size and the correlations of the members of largest weight."""
    curve = built.curve
    if curve is not None:
        table = _table(f"Mean PCC of {curve.method} by ensemble size K", "K", "naive", "nested")
        for size in (size for size in _SIZES if size <= len(curve.naive)):
            naive, nested = curve.naive[size - 1], curve.nested[size - 1]
            table.add_row(str(size), f"{naive:.4f}", f"{nested:.4f}")
        out.print(table)
    shown = built.ensemble.members[:_MATRIX]
    heads = map(escape, shown)
    table = _table("Correlations of the members, mean over the targets", "", *heads)
    for member, row in zip(shown, built.correlations, strict=False):
        table.add_row(escape(member), *(f"{value:.2f}" for value in row[: len(shown)]))
    out.print(table)


def members_table(ensemble: Ensemble) -> Table:
    """One row per member, the largest weight first."""
    rows = [member_row(member) for member in ensemble.member_reports[:_MEMBERS]]
    table = _table(f"Members, with scores on {ensemble.recipe.choose_on}", *rows[0])
    table.caption = f"leave-one-out: change without the member; family: {', '.join(FAMILY)}"
    for row in rows:
        # Brackets in names are not markup.
        table.add_row(*map(escape, row.values()))
    more = len(ensemble.members) - _MEMBERS
    if more > 0:
        table.add_row(f"{more} more in ensemble.json")
    return table


def member_row(member: Member) -> dict[str, str]:
    """The row of a member by column."""
    return {
        "trial": member.trial,
        "weight": f"{member.weight:.3f}",
        "influence": f"{member.influence:.3f}",
        "mean PCC": f"{member.pcc:.4f}",
        "leave-one-out": "" if member.left_out is None else f"{member.left_out:+.4f}",
        "correlation": "" if member.correlation is None else f"{member.correlation:.2f}",
        "family": member.family,
    }


def planning_lines(ensemble: Ensemble) -> list[str]:
    """The accuracy of the scores and what a comparison needs; empty if it is not known."""
    found = ensemble.estimate
    if found is None or found.planning is None:
        return []
    split = ensemble.recipe.choose_on
    return sentences(found.planning, split, found.groups, found.grouped)


def effective(ensemble: Ensemble) -> str:
    """The effective number of members as a line."""
    return (
        f"Effective number of members: {ensemble.effective_members:.1f} of "
        f"{len(ensemble.members)} by influence (weight times standard deviation), "
        f"{ensemble.independent_members:.1f} by influence and correlation"
    )


def formatted(interval: Interval | None, spec: str = ".4f") -> str:
    """The text of an interval, such as `0.51 to 0.63`; a dash if there is none."""
    return "-" if interval is None else f"{interval:{spec}}"


def corrected_cell(found: Estimate | None) -> str:
    """The text of the corrected score; empty if it is not known."""
    corrected = found.mean_pcc_corrected if found else None
    return "" if corrected is None else f"{corrected:.4f}"


def ceiling_cell(ceilings: Mapping[str, float], target: str) -> str:
    """The text of the highest possible PCC of a target; a dash if it is not known."""
    return f"{ceilings[target]:.4f}" if target in ceilings else "-"


def gain_cells(gain: Gain | None) -> tuple[str, str]:
    """The texts of a gain and of its interval; dashes if it is undefined."""
    return ("-", "-") if gain is None else (f"{gain.value:+.4f}", f"{gain.interval:+.4f}")


def scores_table(ensemble: Ensemble) -> Table:
    """Naive and nested scores of the ensemble and of the best single trial."""
    title = f"Mean PCC on the {ensemble.clips} rated clips of {ensemble.recipe.choose_on}"
    table = _table(title, "", "ensemble", "best single trial")
    scores = map("{:.4f}".format, (ensemble.naive, ensemble.best_single_naive))
    table.add_row("naive (optimistic)", *scores)
    found = ensemble.estimate
    if found is not None:
        scores = map("{:.4f}".format, (found.nested, found.single))
        table.add_row("nested", *scores)
        table.add_row("  corrected", corrected_cell(found), "")
        intervals = map(formatted, (found.interval, found.single_interval))
        table.add_row("  95 % interval", *intervals)
    return table


def targets_table(ensemble: Ensemble, found: Estimate, ceilings: Mapping[str, float]) -> Table:
    """One row per target: naive and nested PCC, that of the best single trial, and the gain.

    Args:
        ceilings: the highest possible PCC of each target; empty if not known.
    """
    headings = ["", "naive", "nested", "single", "gain", "95 % of the gain"]
    headings += ["ceiling"] if ceilings else []
    split = ensemble.recipe.choose_on
    table = _table(f"PCC of each target on {split}, nested except naive", *headings)
    for naive, target in zip(ensemble.pcc, found.targets, strict=True):
        scores = map("{:.4f}".format, (naive, target.nested, target.single))
        row = [escape(target.target), *scores, *gain_cells(target.gain)]
        row += [ceiling_cell(ceilings, target.target)] if ceilings else []
        table.add_row(*row)
    return table


def ceiling_meaning(synthetic: bool) -> str:
    """What a ceiling is, as a line."""
    if synthetic:
        return (
            "Ceiling: the PCC of the oracle, which knows everything that a synthetic clip shows; "
            "only chance exceeds it"
        )
    return (
        "Ceiling: the PCC of a perfect prediction with these ratings, the square root of their "
        "reliability (ratings.csv). Other raters would give other ratings; only chance exceeds it"
    )


def _show_scores(out: Console, library: Library, ensemble: Ensemble) -> None:
    split = ensemble.recipe.choose_on
    _say(out, f"Ensemble: mean PCC {ensemble.naive:.4f} on {ensemble.clips} clips of {split}; best "
              f"single trial {ensemble.best_single_naive:.4f}; both are optimistic")  # fmt: skip
    found = ensemble.estimate
    if found is not None:
        persons = f" of {found.groups} persons" if found.grouped else ""
        interval = "" if found.interval is None else f", 95 % {found.interval:.4f}"
        times = f"{found.divisions} times " if found.divisions > 1 else ""
        _say(out, f"Expected on new clips: mean PCC {found.nested:.4f}{interval} (nested, "
                  f"{ensemble.clips} clips{persons}, {times}in {found.folds} folds)")  # fmt: skip
    if (oracle := library.oracle(split)) is not None:
        # Not the naive score, which is optimistic.
        reached = f"; the nested score is {found.nested / oracle:.2f} of it" if found else ""
        _say(out, f"Oracle: mean PCC {oracle:.4f} on {split}{reached}")
    if (held := ensemble.hold_out) is not None:
        interval = "" if held.interval is None else f", 95 % {held.interval:.4f}"
        _say(out, f"Val: mean PCC {held.score:.4f} on {held.clips} clips{interval}; it chose "
                  "nothing and is scored once")  # fmt: skip
    elif split != "val":
        _say(out, f"Val: {_unscored(library, 'val')}")
    if not len(library.index.rows("test")):
        _say(out, "Test: the data has no test split")
    elif ensemble.test is None:
        _say(out, f"Test: {_unscored(library, 'test')}")
    else:
        oracle = library.oracle("test")
        best = "" if oracle is None else f"; oracle {oracle:.4f}"
        _say(out, f"Test: mean PCC {ensemble.test:.4f} on {ensemble.test_clips} clips, scored "
                  f"once{best}")  # fmt: skip
    if ensemble.filled:
        _say(out, f"{ensemble.filled} of {len(library.index.rows('test'))} test clips have no "
                  "features: predicted as the mean rating of train", "yellow")  # fmt: skip
    if ensemble.synthetic:
        _say(out, SYNTHETIC, "yellow")


def _unscored(library: Library, split: str) -> str:
    """Why a split has no score."""
    index = library.index
    rated = index.rated(index.rows(split))
    if len(rated) < 2:
        count = f"{len(rated)} of its {len(index.rows(split))} clips have ratings"
        return f"predicted but not scored: {count}, and a correlation needs two"
    spread = np.ptp(index.ratings[rated], axis=0)
    if constant := [name for name, s in zip(index.target_names, spread, strict=True) if not s]:
        return f"predicted but not scored: all ratings of {', '.join(constant)} are equal"
    return "predicted but not scored: the predictions of a target are constant"


def _table(title: str, *headings: str) -> Table:
    """A table without lines between columns, so that eight columns fit into 80 characters."""
    return Table(
        *headings,
        title=title,
        title_justify="left",
        caption_justify="left",
        min_width=len(title),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )


def _say(out: Console, text: str, style: str | None = None) -> None:
    out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
