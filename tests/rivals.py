"""Searches that work on one study at once, in processes of their own, and what may go wrong."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.study.backend import quiet_optuna
from harness.study.folder import StudyFolder
from harness.tuning import driver
from harness.tuning.agenda import ITEM
from tests.searches import finish, make_result, make_space, opened

#: What befalls one of the searches: nothing; it is killed; it is stopped for a while, and taken for
#: dead.
FAULTS = ("nothing", "kill", "stop")
_TRIALS = 8
# Of a round of 8 trials, which takes about a second: the latest fault; what is taken for a hang.
_LATEST_FAULT, _LONGEST = 0.6, 60.0
_SIGNS = (0.1, 1.0)  # seconds between them, and until a silent search is taken for dead
_processes = multiprocessing.get_context("fork")  # they have imported everything


def share(
    folder: Path, url: str, name: str, rng: random.Random, *, searches: int = 2, fault: str
) -> list[str]:
    """Searches share a new study until its budget is done; what is wrong then."""
    space = make_space(folder)

    def work(gate: Connection, home: Path, wait: float) -> None:
        with opened(home, space=space, storage=url, name=name) as ledger:
            _pass(gate)
            while asked := ledger.ask():
                number, config = asked
                time.sleep(wait)
                try:
                    ledger.complete(number, make_result(config))
                except UpdateFinishedTrialError:
                    ledger.lost(number)

    _in_process(partial(_made, folder / "0", url, name))
    homes = [folder / str(n) for n in range(searches)]
    works = [partial(work, home=home, wait=rng.uniform(0, 0.02)) for home in homes]
    started = _start_at_once(works)
    if fault != "nothing":
        time.sleep(rng.uniform(0.1, _LATEST_FAULT))
        _befall(started[0], fault)
    ends = [_ended(process) for process in started]
    bad = [f"a search ended with {code}" for code in ends[fault == "kill" :] if code]
    # What a killed one has left is done by the next one of its folder.
    _, trials = _in_process(partial(_finished, folder / "0", url, name))
    return bad + _wrong(trials, homes, name)


def end(folder: Path, url: str, name: str, rng: random.Random) -> list[str]:
    """One search completes a trial while another one closes it as dead; what is wrong then."""
    space = make_space(folder)
    believed = _processes.Queue()

    def complete(gate: Connection) -> None:
        with opened(folder / "0", space=space, storage=url, name=name) as ledger:
            number, config = ledger.ask() or (0, {})
            _pass(gate)
            time.sleep(rng.uniform(0, 0.01))
            try:
                ledger.complete(number, make_result(config))
                believed.put(TrialState.COMPLETE)
            except UpdateFinishedTrialError:
                ledger.lost(number)
                believed.put(TrialState.FAIL)

    def close(gate: Connection) -> None:
        driver.GRACE = -1  # every other search is dead
        with opened(folder / "1", space=space, storage=url, name=name) as ledger:
            _pass(gate)
            time.sleep(rng.uniform(0.005, 0.03))  # the other writes its files first
            ledger.close_dead()

    _in_process(partial(_made, folder / "0", url, name))
    started = _start_at_once([complete, close])
    belief = believed.get(timeout=_LONGEST)
    bad = [f"a search ended with {code}" for code in map(_ended, started) if code]
    (found, *_), trials = _in_process(partial(_finished, folder / "0", url, name))
    if found != belief:
        bad.append(f"a trial is {found.name}, its search believes {belief.name}")
    return bad + _wrong(trials, [folder / "0"], name)


def _made(home: Path, url: str, name: str) -> None:
    with opened(home, space=make_space(home.parent), storage=url, name=name):
        pass  # the tables are there


def _finished(home: Path, url: str, name: str) -> tuple[list[TrialState], list[FrozenTrial]]:
    """The states of all trials, and the trials when the next search of a folder has ended."""
    with opened(home, space=make_space(home.parent), storage=url, name=name) as ledger:
        states = [trial.state for trial in ledger.study.get_trials(deepcopy=False)]
        finish(ledger)
        return states, ledger.study.get_trials(deepcopy=False)


def _in_process(work: Callable[[], Any]) -> Any:
    """What `work` returns in another process: who forks must not have open connections."""
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=_quietly, args=(lambda gate: gate.send(work()), theirs))
    process.start()
    found = ours.recv() if ours.poll(_LONGEST) else None
    assert _ended(process) == 0
    return found


def _wrong(trials: list[FrozenTrial], homes: list[Path], name: str) -> list[str]:
    states = Counter(trial.state for trial in trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    bad = []
    if len(complete) != _TRIALS:
        bad.append(f"{len(complete)} trials of {_TRIALS} are complete")
    if left := states[TrialState.RUNNING] + states[TrialState.WAITING]:
        bad.append(f"{left} trials are left open")
    items = Counter(trial.user_attrs[ITEM] for trial in complete)
    if twice := [item for item, count in items.items() if count > 1]:
        bad.append(f"done twice: {twice}")
    if sum(item.startswith("start") for item in items) != 1:
        bad.append("the start point is not done once")
    folders = {StudyFolder(home, name).identity(): StudyFolder(home, name) for home in homes}
    files = {t.number: folders[t.user_attrs[driver.HOME]].prediction_file(t.number)
             for t in complete}  # fmt: skip
    return bad + [
        f"trial {number} has no file" for number, file in files.items() if not file.exists()
    ]


def _start_at_once(works: list[Callable[[Connection], None]]) -> list[BaseProcess]:
    """Each in a process, which goes on from `_pass` when all are there."""
    gates = [_processes.Pipe() for _ in works]
    started = [
        _processes.Process(target=_quietly, args=(work, theirs))
        for work, (_, theirs) in zip(works, gates, strict=True)
    ]
    for process in started:
        process.start()
    for ours, _ in gates:
        ours.poll(_LONGEST)
    for ours, _ in gates:
        ours.send("go")
    return started


def _pass(gate: Connection) -> None:
    gate.send("here")
    gate.recv()


def _quietly(work: Callable[[Connection], None], gate: Connection) -> None:
    quiet_optuna()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    driver.HEARTBEAT, driver.GRACE = _SIGNS  # type: ignore[assignment]
    work(gate)


def _befall(process: BaseProcess, fault: str) -> None:
    if not process.is_alive():
        return
    assert process.pid
    os.kill(process.pid, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    if fault == "stop":
        time.sleep(1.5 * _SIGNS[1])
        os.kill(process.pid, signal.SIGCONT)


def _ended(process: BaseProcess) -> int | None:
    """The exit code; of one that hangs that of a kill."""
    process.join(_LONGEST)
    process.kill()
    process.join()
    return process.exitcode
