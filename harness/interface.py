"""Searching from Python: `harness.run_search`. The command `harness.search` uses the same code."""

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from harness.choices import (
    DEFAULT_PRECISION,
    DEFAULT_SAMPLER,
    DEFAULT_SCHEDULER,
    DEFAULT_SOUND_STEP,
    DEFAULT_STORED,
    Crop,
    Layout,
    Precision,
    Sampler,
    Scheduler,
    Sound,
    Stored,
)
from harness.console import console
from harness.errors import InputError
from harness.names import is_secret
from harness.tuning.options import Options
from harness.tuning.start import start

if TYPE_CHECKING:
    from rich.console import Console

    from harness.results import StudyResults
    from harness.tuning.session import Session

Name = str | PathLike[str]


def run_search(
    *,
    data: Name | None = None,
    weights: Name | None = None,
    weights_key: str | None = None,
    layout: Layout | None = None,
    features: str | Sequence[str] | None = None,
    crop: Crop | None = None,
    precision: Precision = DEFAULT_PRECISION,
    encoder: Name | Sequence[str] | None = None,
    encoder_output: str | Sequence[str] | None = None,
    encoder_input: str | Sequence[str] | None = None,
    stored: Stored = DEFAULT_STORED,
    sound: Sound | None = None,
    sound_step: float = DEFAULT_SOUND_STEP,
    strict: bool = False,
    folds: int | None = None,
    early_stop_fraction: float | None = None,
    allow_shared_groups: bool = False,
    space: Name | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    sampler: Sampler = DEFAULT_SAMPLER,
    scheduler: Scheduler = DEFAULT_SCHEDULER,
    confirm: int | None = None,
    seeds: int = 5,
    deterministic: bool = False,
    seed: int = 0,
    study: str | None = None,
    results: Name = "results",
    cache: Name | None = None,
    storage: str | None = None,
    concurrency: int | None = None,
    cpus_per_trial: float = 1.0,
    gpus_per_trial: float | None = None,
    address: str | None = None,
    quiet: bool = False,
) -> "StudyResults":
    """Searches a study, or continues it, and writes its report.

    The arguments are the options of `python -m harness.search`, which documents them. It may be
    called from a script or a notebook; progress is shown unless `quiet`. A script that is run on a
    cluster, or by `multiprocessing`, calls it under `if __name__ == "__main__":`.

    Returns:
        the study's complete trials, as `load_study` reads them.

    Raises:
        InputError: of anything that a person can mend, before anything is written where possible.
            Its `argument` names the argument that is meant.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    folder = search(Options.of(given), console(quiet, options=False), _call(given))
    from harness.results import load_study

    return load_study(folder)


def search(
    options: Options,
    out: "Console",
    command: str,
    afterwards: Callable[["Session"], None] = lambda session: None,
) -> Path:
    """Runs what is left of a search, writes the report and says what is next.

    Args:
        command: what continues it, for those who read the study.
        afterwards: called before the study is closed.

    Returns:
        the study's folder.
    """
    start(*options)
    # Heavy imports follow; help and wrong usage need none of them.
    from harness.tuning.session import opened

    with opened(*options, out, command) as session:
        session.search()
        # Imported when the trials are done: only the report needs them.
        from harness.ensembles.library import load_library
        from harness.ensembles.luck import luck_of_best
        from harness.predictions import trial_name
        from harness.reports.evidence import gather
        from harness.reports.page import write_report
        from harness.reports.search_figures import search_drawings
        from harness.tuning.closing import closing_lines, confirmed_table
        from harness.tuning.confirmation import confirmed, searched
        from harness.tuning.dashboard import show_figures
        from harness.unfolding import unfoldings

        evidence = gather(session.folder.path, study=session.study)
        report = write_report(evidence, partial(unfoldings, cache=options.means.stored))
        show_figures(session.study, {d.key: d.titled() for d in search_drawings(evidence)})
        session.backend.seal()
        if rows := confirmed(session.study):
            names = {row.number: [trial_name(n) for n in row.repeats] for row in rows}
            luck = luck_of_best(
                load_library(session.folder.path).matrix,
                [trial_name(number) for number in searched(session.study)],
                {trial_name(number): repeats for number, repeats in names.items()},
            )
            out.print(confirmed_table(rows, luck.kept, luck.first))
        for line in (*closing_lines(session), f"Report: {report}"):
            out.print(line, highlight=False, markup=False, soft_wrap=True)
        if session.problem:
            raise InputError(session.problem)
        afterwards(session)
        return session.folder.path


def _call(given: dict[str, object]) -> str:
    """The call that continues a search; `...` stands for a URL that may hold a password."""
    shown = {name: repr(str(value) if isinstance(value, PathLike) else value)
             for name, value in given.items()}  # fmt: skip
    if is_secret(str(given.get("storage", ""))):
        shown["storage"] = "..."
    return f"harness.run_search({', '.join(f'{k}={v}' for k, v in shown.items())})"
