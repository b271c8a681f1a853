"""`python -m harness.report`: one html file with all that a study shows."""

from pathlib import Path
from typing import Annotated

import optuna
import typer

from harness.console import console, run
from harness.ensembles.library import newest_study
from harness.errors import InputError
from harness.reports.evidence import gather
from harness.reports.page import write_report

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    study: Annotated[
        str | None, typer.Option(help="Name of the study. Default: the newest.")
    ] = None,
    ensemble: Annotated[
        str | None, typer.Option(help="The ensemble to show. Default: the newest.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The study's clips, to show some. Default: only synthetic ones are found."
        ),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database URL of the study. Default: its journal file.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where studies are kept.")] = Path("results"),
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
) -> None:
    """Write results/<study>/report.html: leaderboard, figures, ensemble; it needs no network.

    Example: python -m harness.report --study demo
    """
    out = console(quiet)
    if study is not None and (not study or study.startswith(".") or Path(study).name != study):
        raise InputError(f"--study {study!r}: expected a plain folder name")
    folder = results / study if study else newest_study(results)
    opened = _opened(folder.name, storage) if storage else None
    path = write_report(gather(folder, ensemble=ensemble, study=opened), data)
    out.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)


def _opened(name: str, url: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return optuna.load_study(study_name=name, storage=url)
    except KeyError as error:
        raise InputError(
            f"--storage: holds no study {name!r}; give the URL that the search was given"
        ) from error
    except Exception as error:  # SQLAlchemy's and the drivers' own kinds
        raise InputError(
            f"--storage: cannot be opened ({type(error).__name__}); expected a URL such as sqlite:///studies.db"
        ) from error


if __name__ == "__main__":
    run(app)
