"""`python -m harness.ensemble`: combines the best trials and estimates the score."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness import options as o
from harness.choices import DEFAULT_CHOOSE_ON, DEFAULT_METHOD
from harness.console import console, run
from harness.names import check_folder_name

if TYPE_CHECKING:
    from harness.clips.table import ClipTable
    from harness.ensembles.ensemble import Ensemble
    from harness.reports.unfolding import Unfolding

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    top: o.Top = None,
    method: o.Method = DEFAULT_METHOD,
    per_family: o.PerFamily = None,
    per_target: o.PerTarget = False,
    choose_on: o.ChooseOn = DEFAULT_CHOOSE_ON,
    seed: o.EnsembleSeed = 0,
    groups: o.Groups = None,
    study: o.CombinedStudies = None,
    name: o.EnsembleName = None,
    results: o.Results = o.RESULTS,
    against: o.Against = None,
    explain: o.Explain = False,
    report: o.WithReport = True,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Combine the best trials of one study or several into an ensemble.

    Example: python -m harness.ensemble --top 5 --study demo
    """
    out = console(quiet or as_json)
    names = {"study": study or (), "name": [name] if name is not None else (),
             "against": against.split("/", 1) if against is not None else ()}  # fmt: skip
    for argument, values in names.items():
        for value in values:
            check_folder_name(argument, value)
    # Heavy imports are here, because help and wrong usage do not need them.
    from harness.ensembles.comparison import compare, other_ensemble
    from harness.ensembles.construction import construct
    from harness.ensembles.files import write_ensemble
    from harness.ensembles.library import load_library, newest_study
    from harness.ensembles.selection import Recipe
    from harness.ensembles.table import show, show_comparison, show_details
    from harness.progress import Steps

    recipe = Recipe(method, top, per_family, per_target, seed, groups, choose_on)
    folders = [results / each for each in study] if study else [newest_study(results)]
    library = load_library(*folders, split=choose_on)
    with Steps(out) as steps:
        built = construct(library, recipe, name, steps)
    # Compared before anything is written, so that an error writes nothing.
    compared = compare(built, other_ensemble(results, against, recipe)) if against else None
    paths = write_ensemble(built.ensemble, library)
    paths += compared.write(paths[0].parent) if compared else []
    written = [str(path) for path in paths]
    if report:
        # Imported only here, because plotly is slow to import.
        from harness.reports.evidence import gather
        from harness.reports.page import write_report

        evidence = gather(library.home, ensemble=built.ensemble.name, built=built)
        written.append(str(write_report(evidence, _unfold)))
    if as_json:
        content = built.to_dict(explain) | {"written": written}
        print(json.dumps(content | ({"comparison": asdict(compared)} if compared else {})))
        return
    show(out, library, built.ensemble)
    if explain:
        show_details(out, built)
    if compared:
        show_comparison(out, compared)
    for path in written:
        out.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)


def _unfold(
    home: Path, ensemble: "Ensemble", clips: "ClipTable", rows: Sequence[int]
) -> "list[Unfolding | None]":
    # Imported only if clips are shown, because it imports torch.
    from harness.reports.unfolding import unfoldings

    return unfoldings(home, ensemble, clips, rows)


if __name__ == "__main__":
    run(app)
