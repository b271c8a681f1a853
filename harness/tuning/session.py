"""One run of a search: opens a study and runs what is left of its budget."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from harness.choices import DEFAULT_SOUND
from harness.clips.layouts import feature_sets
from harness.console import invocation
from harness.encoders.registry import Wanted
from harness.encoders.sound.encoder import SoundEncoder
from harness.interrupts import attended, mark_reported
from harness.progress import Steps
from harness.space.file import read_space
from harness.space.pruners import decisions, make_pruner
from harness.space.samplers import BY_EQUAL_BOUNDS, check_sampler, make_sampler
from harness.space.search_space import SearchSpace
from harness.spaces import find_space
from harness.streams.clip_issues import report_gaps
from harness.streams.data_sheet import check_headers
from harness.streams.features import Machines
from harness.streams.sources import JOIN, demo_sources, real_sources
from harness.study.backend import (
    Backend,
    held_journal,
    open_backend,
    quiet_optuna,
    storage_name,
)
from harness.study.deaths import death_lines
from harness.study.folder import StudyFolder
from harness.study.trials import COMMANDS, complete, finished
from harness.trials.folds import check_scorable, hold_out
from harness.trials.trial import TrialResult
from harness.tuning import confirmation
from harness.tuning.agenda import Agenda, SearchAgenda
from harness.tuning.audit import audit, other_settings
from harness.tuning.board import Board
from harness.tuning.dashboard import Artifacts, Dashboard, attach, describe
from harness.tuning.driver import Driver
from harness.tuning.ledger import AWAITED, Ledger, Rules, done
from harness.tuning.log import logged
from harness.tuning.options import DataOptions, RunOptions, SearchOptions, study_name
from harness.tuning.preparation import (
    Prepared,
    bare_dataset,
    outputs_of,
    prepare,
    used_sources,
)
from harness.tuning.results import save_trial
from harness.tuning.sharing import fraction, measured_need

_log = logging.getLogger(__name__)
#: Members of the ensemble that a search suggests.
TOP = 5


@dataclass
class Session:
    """A study that is open for one search, under its folder's lock."""

    folder: StudyFolder
    backend: Backend
    study: optuna.Study
    prepared: Prepared
    driver: Driver
    plan: SearchOptions
    means: RunOptions
    out: Console
    log: Path
    #: What continues this search, without secrets.
    command: str
    #: Why the search did not reach its budget; empty if it did.
    problem: str = ""
    dashboard: Dashboard | None = None

    def search(self) -> None:
        """Runs what is left of the search's budget, and of the confirmations."""
        space = self.prepared.space
        agenda = SearchAgenda(space, self.plan.trials, self.plan.sampler == "grid")
        if (count := done(self.study, agenda)) >= agenda.total:
            self.out.print(
                f"The study is complete: {count} trials; a larger `trials` continues it."
            )
        else:
            self._run(agenda, "search")
        if self.plan.confirm and self._is_over(agenda) and complete(self.study):
            again = confirmation.agenda(self.study, self.plan.confirm, self.plan.seeds)
            if done(self.study, again) < again.total:
                self._run(again, "confirmation")
        if self.problem or complete(self.study) or self._running(agenda):
            return
        if finished(self.study):
            self.problem = (
                f"study {self.folder.name}: no trial is complete; "
                f"{'; '.join(death_lines(self.study)) or 'all were pruned'}"
            )

    def _is_over(self, agenda: Agenda) -> bool:
        """Whether no other search is at work on what the best are chosen from."""
        fates = self.driver.fates(self._running(agenda), self.study.user_attrs)
        if others := [str(number) for number, fate in fates.items() if fate != "dead"]:
            self.out.print(
                f"Not confirmed yet: another search is at work on trial {', '.join(others)}; "
                f"when it has ended: {self.command}",
                style="yellow", markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
        return not others

    def _running(self, agenda: Agenda) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in trials if agenda.counts(trial)]

    def _run(self, agenda: Agenda, what: str) -> None:
        # Ray takes seconds to import, which a complete study need not wait for.
        from harness.tuning.engine import Resources, run_trials

        means, plan = self.means, self.plan
        resources = Resources(means.concurrency, means.cpus_per_trial, self._gpus(), means.address)

        def kept() -> str:
            ended = done(self.study, agenda)
            return (
                f"{ended} of {agenda.total} trials of the {what} are kept. Continue: {self.command}"
            )

        begun = done(self.study, agenda)
        with Board(self.out, agenda.total, begun, self.study, pruned=agenda.pruned) as board:
            ledger = Ledger(self.study, self.driver, self._rules(agenda), board)
            try:
                run_trials(
                    ledger,
                    self.prepared.data,
                    resources,
                    deterministic=plan.deterministic,
                    last_words=kept,
                )
            except KeyboardInterrupt:
                mark_reported()
                self.out.print(
                    f"Interrupted; {kept()}", markup=False, highlight=False, soft_wrap=True
                )
                raise
        self.out.print(f"This {what}: {board.summary()}")
        missing = agenda.total - done(self.study, agenda)
        if missing > 0 and not self._running(agenda):
            self.problem = (
                f"study {self.folder.name}: {missing} of {agenda.total} trials of the {what} are "
                f"abandoned, because they failed each time; the last: {ledger.last_reason}; the "
                "same command retries those that the machine failed"
            )

    def _rules(self, agenda: Agenda) -> Rules:
        plan, space = self.plan, self.prepared.space
        # What is stopped early depends on what has ended by then, which is never twice the same.
        scheduler = "none" if plan.deterministic else plan.scheduler
        return Rules(
            space=space,
            agenda=agenda,
            seed=plan.seed,
            sampler=lambda trials: make_sampler(
                plan.sampler, plan.seed, trials, bool(space.only_if)
            ),
            pruner=make_pruner(scheduler, space.budget),
            decisions=decisions(scheduler, space.budget),
            targets=self.prepared.data.target_names,
            keep=self._keep,
        )

    def _keep(self, trial: optuna.Trial, result: TrialResult) -> None:
        save_trial(self.folder, trial.number, result, self.prepared.data)
        file = self.folder.prediction_file(trial.number)
        attach(trial, file, Artifacts(self.folder.artifacts_path))

    def _gpus(self) -> float:
        """Of a GPU, for each trial."""
        if self.means.gpus_per_trial is not None:
            return self.means.gpus_per_trial
        if not torch.cuda.is_available():
            self._tell_of_idle_gpus()
            return 0.0
        need = measured_need(self.prepared.space, self.prepared.data)
        # What is free: this process keeps some, and others may have theirs.
        total, _ = torch.cuda.mem_get_info()
        share, why = fraction(need, total)
        self.out.print(why, highlight=False, soft_wrap=True)
        return share

    def _tell_of_idle_gpus(self) -> None:
        if self.means.address is None:
            return
        from harness import cluster

        cluster.join(self.means.address)
        if gpus := cluster.resource("GPU"):
            self.out.print(
                f"{gpus:g} GPUs of the cluster are not used: what a trial needs of one is measured "
                "on this machine, which has none; give `gpus_per_trial`, such as 0.1",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip


@contextmanager
def opened(
    clips: DataOptions, plan: SearchOptions, means: RunOptions, out: Console, command: str
) -> Iterator[Session]:
    """Prepares clips and study; the study is locked, and logged to its folder, until the end.

    Args:
        command: what continues the search, without secrets.

    Raises:
        InputError: of anything that a person can mend, before anything is written where possible.
    """
    quiet_optuna()
    check_sampler(plan.sampler)
    space = _space(clips, plan)
    folder = StudyFolder(means.results, study_name(clips, means))
    shared = means.storage is not None and "://" in means.storage
    with ExitStack() as stack:
        stack.enter_context(folder.locked(shared))
        folder.check_storage(storage_name(means.storage))
        stack.enter_context(held_journal(means.storage))
        log = stack.enter_context(logged(folder.path / "log", (means.storage or "",)))
        _log.info("command: %s", command)
        prepared = _prepare(clips, plan, means, space, out)
        backend = open_backend(folder.path, means.storage)
        manifest = prepared.manifest(folder.name, plan.seed, backend.name)
        folder.settle(manifest, prepared.data, prepared.files)
        for stream, extraction in prepared.extractions.items():
            which = f" of {stream}" if len(prepared.data.streams) > 1 else ""
            out.print(f"Features{which}: {extraction}", highlight=False)
        for line in prepared.read:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        lines = report_gaps(prepared.gaps, prepared.empty, folder.path / "clips-with-gaps.csv")
        for line in (*prepared.notes, *lines):
            out.print(line, style="yellow", markup=False, soft_wrap=True)
        if prepared.data.synthetic:
            out.print("[yellow]SYNTHETIC demo clips: no score here is a result on Hume-Reaction.")
        with attended(AWAITED):
            study = folder.study(backend.storage)
            folder.agree(study)
            moved = prepared.space.agree(study)
        if moved and plan.sampler in BY_EQUAL_BOUNDS:
            out.print(
                f"Bounds changed: {', '.join(moved)}; {plan.sampler} samples these parameters "
                "independently; start a new `study` to avoid this",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip
        if line := other_settings(study, prepared.space):
            out.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
        driver = Driver(folder, backend, study)
        session = Session(folder, backend, study, prepared, driver, plan, means, out, log, command)
        with attended(AWAITED):
            stack.enter_context(driver)
            for line in audit(study, folder, prepared.data, driver):
                out.print(line, style="red", markup=False, soft_wrap=True)
            if command not in (known := study.user_attrs.get(COMMANDS, [])):
                study.set_user_attr(COMMANDS, [*known, command])
            describe(study, _note(session))
            backend.seal()
        if means.dashboard:
            session.dashboard = stack.enter_context(Dashboard(backend, folder.artifacts_path))
            out.print(f"Dashboard: {session.dashboard.address}", highlight=False)
        yield session
        backend.seal()


def combining(folder: StudyFolder, trials: int = TOP) -> str:
    """The command that makes an ensemble of a study with so many complete trials."""
    results = folder.path.parent
    elsewhere = "" if results == Path("results") else f" --results {shlex.quote(str(results))}"
    top = max(1, min(TOP, trials))
    return f"{invocation('ensemble')} --top {top} --study {shlex.quote(folder.name)}{elsewhere}"


def _space(clips: DataOptions, plan: SearchOptions) -> SearchSpace:
    default = find_space("paper" if clips.data else "demo")
    space = read_space(plan.space or default, plan.epochs)
    make_pruner(plan.scheduler, space.budget)
    return space


def _prepare(
    clips: DataOptions, plan: SearchOptions, means: RunOptions, space: SearchSpace, out: Console
) -> Prepared:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = means.stored
    sets, sound = _named(space, clips)
    with Steps(out) as steps:
        if clips.data:
            given = real_sources(
                clips.data,
                clips.weights,
                layout=clips.layout,
                features=clips.features or sets,
                crop=clips.crop,
                precision=clips.precision,
                outputs=outputs_of(space),
                strict=clips.strict,
                allow_shared_groups=clips.allow_shared_groups,
                weights_key=clips.weights_key,
                encoder=clips.encoder,
                encoder_output=clips.encoder_output,
                encoder_input=clips.encoder_input,
                stored=clips.stored,
                sound=sound,
                sound_step=clips.sound_step,
            )
        else:
            given = demo_sources(cache, outputs_of(space), steps, sound, clips.sound_step)
        table = given[0].clips
        # Before features are computed, which may take hours.
        held, notes = hold_out(
            bare_dataset(table),
            table.groups,
            table.folds,
            folds=clips.folds,
            fraction=clips.early_stop_fraction,
            seed=plan.seed,
        )
        check_scorable(held)
        for line in check_headers(table):
            out.print(line, style="yellow", markup=False, soft_wrap=True)
        given = list(used_sources(given, space).values())
        machines = Machines(device, means.address)
        tell = partial(out.print, highlight=False, markup=False, soft_wrap=True)
        prepared = prepare(given, cache, space, machines, steps, clips.strict, tell)
    if plan.sampler == "grid":
        prepared.space.grid()  # complains where it is infinite
    data = replace(prepared.data, held_out=held.held_out)
    check_scorable(data, space.samplings(), space.streams())
    return replace(prepared, data=data, notes=(*space.notes, *table.notes, *prepared.notes, *notes))


def _named(space: SearchSpace, clips: DataOptions) -> tuple[list[str], str | None]:
    """The feature sets of the data folder that the space names in `streams`, and the encoder of
    sound: as given, or the default one if the space names sound."""
    names = {name for streams in space.streams() for name in streams.split(JOIN)}
    found = feature_sets(clips.data, clips.layout) if clips.data else ()
    own = {one.name for one in Wanted(encoder=clips.encoder or ()).each()}
    by_name = DEFAULT_SOUND if SoundEncoder.name in names - set(found) - own else None
    return [name for name in found if name in names], clips.sound or by_name


def _note(session: Session) -> str:
    """What the dashboard says of the study."""
    prepared = session.prepared
    splits = ", ".join(f"{len(prepared.data.rows(s))} {s}" for s in prepared.data.split_names)
    synthetic = (
        "\n**Synthetic clips: no score here is a result on Hume-Reaction.**\n"
        if prepared.data.synthetic
        else ""
    )
    name = session.folder.name
    return f"""# {name}
{synthetic}
Mean PCC on val over {", ".join(prepared.data.target_names)}; clips: {splits}.
Search space: `{prepared.space.path.name}`, sampler `{session.plan.sampler}`, scheduler
`{session.plan.scheduler}`, seed {session.plan.seed}; `{prepared.data.early_stop_split}` stops the
heads.

Continue: `{session.command}`

Combine: `{combining(session.folder)}`
"""
