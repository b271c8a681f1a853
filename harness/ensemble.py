"""`python -m harness.ensemble`: averages the best trials of a study and says what that gains."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.console import console, run
from harness.ensembles.ensemble import average_top, write_ensemble
from harness.ensembles.library import load_library, newest_study
from harness.ensembles.table import members_table, targets_table
from harness.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    top: Annotated[int, typer.Option(help="How many of the best trials are averaged.")] = 5,
    study: Annotated[str | None, typer.Option(help="Default: the newest study.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the ensemble. Default: mean-top5.")] = None,
    results: Annotated[Path, typer.Option(help="Where studies are kept.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
) -> None:
    """Average the best trials of a study into an ensemble.

    Example: python -m harness.ensemble --top 5 --study demo
    """
    out = console(quiet or as_json)
    name = name or f"mean-top{top}"
    for option, value in (("--study", study), ("--name", name)):
        if value is not None and (not value or value.startswith(".") or Path(value).name != value):
            raise InputError(f"{option} {value!r}: expected a plain folder name")
    folder = results / study if study else newest_study(results)
    library = load_library(folder)
    ensemble = average_top(library, top, folder, name)
    written = write_ensemble(folder, ensemble, library)
    if as_json:
        print(json.dumps(asdict(ensemble) | {"written": [str(path) for path in written]}))
        return
    out.print(f"Study {folder}: {len(library.matrix)} eligible prediction files, "
              f"{len(library.refused)} refused, {len(library.duplicates)} duplicates",
              soft_wrap=True, highlight=False)  # fmt: skip
    for refusal in library.refused:
        out.print(f"  refused: {refusal.reason}", style="red", markup=False, soft_wrap=True)
    for trial, other in library.duplicates:
        out.print(f"  trial {trial} repeats the predictions of trial {other}", style="yellow")
    out.print(members_table(ensemble, library))
    out.print(targets_table(ensemble, library))
    oracle = _oracle(folder)
    out.print(f"Ensemble: mean PCC {ensemble.naive:.4f} on val; best single trial "
              f"{ensemble.best_single_naive:.4f}", highlight=False)  # fmt: skip
    if "val" in oracle:
        share = ensemble.naive / oracle["val"]
        out.print(f"Oracle: mean PCC {oracle['val']:.4f} on val; the ensemble reaches {share:.2f} "
                  "of it", highlight=False)  # fmt: skip
    if ensemble.test is None:
        out.print("Test: unlabelled, predicted only")
    else:
        beside = f"; oracle {oracle['test']:.4f}" if "test" in oracle else ""
        out.print(f"Test: mean PCC {ensemble.test:.4f}, scored once{beside}", highlight=False)
    if ensemble.synthetic:
        out.print("[yellow]SYNTHETIC demo clips: no score here is a result on Hume-Reaction.")
    for path in written:
        out.print(f"Written: {path}", highlight=False, soft_wrap=True)


def _oracle(folder: Path) -> dict[str, float]:
    """Of synthetic clips: the best possible mean PCC per split; empty for real ones."""
    try:
        oracle: dict[str, float] = json.loads((folder / "study.json").read_text())["oracle"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / 'study.json'}: no readable study: {error}") from error
    return oracle


if __name__ == "__main__":
    run(app)
