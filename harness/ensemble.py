"""`python -m harness.ensemble`: combines the best trials and says what that is worth."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.console import console, run
from harness.ensembles.construction import Construction, construct
from harness.ensembles.files import write_ensemble
from harness.ensembles.library import Library, load_library, newest_study
from harness.ensembles.selection import Recipe
from harness.ensembles.table import show, show_details
from harness.names import check_folder_name

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_TOP = "Members of mean and zscore (default 5), picks of greedy and bagged (default 50)."
_METHOD = "mean, zscore, greedy, bagged, ridge, or auto: the best of them by its nested score."
_FAMILY = (
    "At most so many trials of each family, its best, may be members. A family is one combination "
    "of loss, reduction, stride, sequence and layers, and of features where studies differ in "
    "them. Default: any number."
)
_GROUPS = (
    "Hold out and draw the clips of a person together. Default: where the data has a group column."
)
_NAME = "Of the ensemble. Default: what it is, such as mean-top5."
_STUDY = "May be given several times, for studies of the same clips. Default: the newest study."


@app.command()
def main(
    top: Annotated[int | None, typer.Option(help=_TOP)] = None,
    method: Annotated[str, typer.Option(help=_METHOD)] = "mean",
    per_family: Annotated[int | None, typer.Option(help=_FAMILY)] = None,
    per_target: Annotated[
        bool, typer.Option("--per-target", help="Weights of each target's own; seldom better.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, bootstrap and bags.")] = 0,
    groups: Annotated[bool | None, typer.Option("--groups/--no-groups", help=_GROUPS)] = None,
    study: Annotated[list[str] | None, typer.Option(help=_STUDY)] = None,
    name: Annotated[str | None, typer.Option(help=_NAME)] = None,
    results: Annotated[Path, typer.Option(help="Where studies are kept.")] = Path("results"),
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the score over K and the correlations, too.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the study's report.html, too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
) -> None:
    """Combine the best trials of one study or several into an ensemble.

    Example: python -m harness.ensemble --top 5 --study demo
    """
    out = console(quiet or as_json)
    for option, values in (("--study", study or ()), ("--name", () if name is None else (name,))):
        for value in values:
            check_folder_name(option, value)
    recipe = Recipe(method, top, per_family, per_target, seed, groups)
    folders = [results / each for each in study] if study else [newest_study(results)]
    library = load_library(*folders)
    built = construct(library, recipe, name)
    written = [str(path) for path in write_ensemble(built.ensemble, library)]
    if report:
        # plotly takes a moment to import.
        from harness.reports.evidence import gather
        from harness.reports.page import write_report

        evidence = gather(library.home, ensemble=built.ensemble.name, library=library, built=built)
        written.append(str(write_report(evidence)))
    if as_json:
        print(json.dumps(_values(built, library, explain) | {"written": written}))
        return
    show(out, library, built.ensemble)
    if explain:
        show_details(out, built)
    for path in written:
        out.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)


def _values(built: Construction, library: Library, explain: bool) -> dict[str, Any]:
    """The ensemble with the reasons for what was left out, and what explains it if wanted."""
    values = asdict(built.ensemble) | {
        "refusals": [refusal.reason for refusal in library.refused],
        "repeats": dict(library.duplicates),
    }
    if explain:
        values["curve"] = asdict(built.curve) if built.curve else None
        values["correlations"] = built.correlations.tolist()
    return values


if __name__ == "__main__":
    run(app)
