"""`python -m harness.ensemble`: combines the best trials and estimates the score."""

import json
from dataclasses import asdict
from functools import partial

import typer

from harness import options as o
from harness.choices import DEFAULT_CHOOSE_ON, DEFAULT_METHOD
from harness.console import console, invocation, run, tell
from harness.names import check_folder_name

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
    cache: o.Cache = None,
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
    clipped: list[str] = []
    paths = write_ensemble(built.ensemble, library, clipped.append)
    paths += compared.write(paths[0].parent) if compared else []
    written = [str(path) for path in paths]
    if not as_json:
        show(out, library, built.ensemble)
        if explain:
            show_details(out, built)
        if compared:
            show_comparison(out, compared)
        tell(out, *clipped, *(f"Written: {path}" for path in written))
    # Last, so that scores and files are known even if the report fails.
    try:
        if report or not as_json:
            # Imported only here, because optuna and plotly are slow to import.
            from harness.reports.commands import predicting
            from harness.reports.evidence import gather

            evidence = gather(library.home, ensemble=built.ensemble.name, built=built)
            if report:
                from harness.reports.page import write_report
                from harness.unfolding import unfoldings

                written.append(str(write_report(evidence, partial(unfoldings, cache=cache))))
                tell(out, f"Written: {written[-1]}")
            tell(out, f"Next: {predicting(evidence, invocation('predict'))}")
    finally:
        if as_json:
            content = built.to_dict(explain) | {"written": written, "notes": clipped}
            print(json.dumps(content | ({"comparison": asdict(compared)} if compared else {})))


if __name__ == "__main__":
    run(app)
