"""Signals that end a run: what runs is finished or kept, and the exit status names the signal."""

import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from harness.interrupts import ENDING
from tests.commands import HANGS, Done
from tests.faults.meter import family, is_alive
from tests.faults.whole import check_study
from tests.searches import slow_space, trials_of
from tests.trees import plain_tree

NAMES = [signal.Signals(number).name for number in ENDING]
# A command of one step, which prints "ready" when a signal may come.
PROGRAM = """
import os, signal, sys, time
import typer
from harness.console import run
from harness.interrupts import uninterrupted
app = typer.Typer()
@app.command()
def main() -> None:
    with uninterrupted(), uninterrupted():
        print("ready", flush=True)
        time.sleep(0.5)
        print("whole", flush=True)
    time.sleep({seconds})
    print("end")
sys.argv = ["harness.search"]
run(app)
"""


def signalled(name: str, seconds: float = 60, *before: str) -> Done:
    """Runs `PROGRAM` and sends it a signal within `uninterrupted`.

    The tests themselves may run with signals ignored, such as by nohup.
    """
    default = f"--default-signal={name.removeprefix('SIG')}"
    line = ["env", default, *before, sys.executable, "-c", PROGRAM.format(seconds=seconds)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.Signals[name])
    out, err = process.communicate(timeout=HANGS)
    return Done(process.returncode, out, err)


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_ends_a_command_after_what_must_be_whole(name: str) -> None:
    done = signalled(name)
    assert done.code == 128 + signal.Signals[name]
    assert done.stdout == "whole\n"
    line = f"interrupted by {name}; what was finished is kept: run the same command again\n"
    assert done.stderr == line


def test_nohup_leaves_sighup_ignored() -> None:
    done = signalled("SIGHUP", 0.1, "nohup")
    assert (done.code, done.stdout) == (0, "whole\nend\n")


def test_a_forked_worker_is_ended_by_its_own_signal() -> None:
    program = """
import os, signal, time
from harness import interrupts
interrupts.listen()
ready, begun = os.pipe()
child = os.fork()
if not child:
    os.write(begun, b"1")
    time.sleep(60)
os.read(ready, 1)
os.kill(child, signal.SIGTERM)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) + 100)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == 100 - signal.SIGTERM, done.stderr
    assert done.stderr == b""


TIDY = """
import time
from harness import interrupts
interrupts.listen()
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("begun", flush=True)
    time.sleep(0.5)
    print("tidy", flush=True)
"""


def test_a_second_signal_does_not_interrupt_the_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", TIDY], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for said, number in (("ready", signal.SIGUSR1), ("begun", signal.SIGINT)):
        assert process.stdout.readline() == f"{said}\n"
        process.send_signal(number)
    assert process.stdout.read() == "tidy\n"
    process.wait(HANGS)


STUCK = """
import ctypes, signal, subprocess, time
from harness import interrupts
interrupts._LONGEST_END = 0.5
interrupts.listen()
child = subprocess.Popen(["sleep", "1000"])
print(child.pid, flush=True)
# The main thread hears no signal, as in a library's call that does not return.
signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.ENDING)
with interrupts.attended("a database", after=0.1):
    ctypes.CDLL(None).sleep(1000)
"""


def test_a_call_that_does_not_return_is_reported_and_ended_by_a_signal() -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    assert process.stderr
    child = int(process.stdout.readline())
    assert process.stderr.readline().startswith("waiting for a database (")
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANGS) == 128 + signal.SIGTERM
    last = process.stderr.read().splitlines()[-1]
    assert last.startswith("interrupted by SIGTERM: it did not end within 0.5 s; run the same")
    assert not is_alive(child)


def to_process(pid: int, number: int) -> None:
    os.kill(pid, number)


def to_group(pid: int, number: int) -> None:
    """As SLURM and a closed terminal do: Ray's processes get the signal, too."""
    os.killpg(pid, number)


def blocked(pid: int) -> set[int]:
    """The signals that a process does not hear."""
    (line,) = re.findall(r"^SigBlk:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return {number for number in range(1, 65) if int(line, 16) >> (number - 1) & 1}


def interrupted(folder: Path, number: int, send: Callable[[int, int], None], trials: int) -> Done:
    """Starts a search, and sends a signal when it has finished two trials."""
    command = [sys.executable, "-m", "harness.search", *map(str, line(folder, trials))]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    predictions = folder / "s" / "predictions"
    deadline = time.monotonic() + HANGS
    while len(list(predictions.glob("[0-9]*"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no trial is finished"
        time.sleep(0.05)
    processes = family(process.pid)
    ray = {pid for pid in processes if "/ray/core/" in Path(f"/proc/{pid}/cmdline").read_text()}
    assert len(ray) > 1, "its raylet and its GCS run"
    assert all(blocked(pid).issuperset(ENDING) for pid in ray)
    send(process.pid, number)
    out, err = process.communicate(timeout=HANGS)
    deadline = time.monotonic() + 10
    while left := [pid for pid in processes if is_alive(pid)]:
        assert time.monotonic() < deadline, [Path(f"/proc/{p}/cmdline").read_text() for p in left]
        time.sleep(0.1)
    return Done(process.returncode, out, err)


def line(folder: Path, trials: int) -> list[object]:
    data = folder / "data"
    if not data.exists():
        data.mkdir()
        plain_tree(data, "features")
        slow_space(folder)
    found = ["--data", data, "--space", folder / "slow.toml", "--trials", trials]
    return [*found, "--scheduler", "none", "--results", folder, "--study", "s"]


# Each signal once; `python -m tests.faults` sends each in both ways.
TO_GROUP = (signal.SIGTERM, signal.SIGUSR1)
WAYS = [(number, to_group if number in TO_GROUP else to_process) for number in ENDING]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "send"), WAYS, ids=[f"{signal.Signals(n).name}-{s.__name__}" for n, s in WAYS]
)
def test_a_signal_ends_a_search_without_a_loss(
    tmp_path: Path, number: int, send: Callable[[int, int], None]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        done = interrupted(tmp_path, number, send, 500)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    assert done.code == 128 + number, done
    assert "of 500 trials of the search are kept. Continue: python -m harness.search" in done.stdout
    # A busy machine may have to wait for its cores before.
    assert all(said.startswith("waiting for ") for said in done.stderr.splitlines()), done.stderr
    assert TrialState.RUNNING not in {trial.state for trial in trials_of(tmp_path, "s")}
    assert not list(Path.cwd().glob("core*"))


@pytest.mark.slow
def test_the_slurm_script_of_the_documents_survives_preemption(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    scripts = re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    (script,) = (s for s in scripts if "requeue" in s and "srun" not in s)
    begin = script.index("--data")
    options = shlex.join(map(str, line(tmp_path, 500)))
    job = script[:begin] + options + script[script.index(" &\n") :]
    (tmp_path / "job.sh").write_text(job)
    requeue = tmp_path / "bin" / "scontrol"
    requeue.parent.mkdir()
    requeue.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/requeued\n")
    requeue.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{requeue.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "77",
    }  # fmt: skip
    predictions = tmp_path / "s" / "predictions"
    for number in (signal.SIGUSR1, signal.SIGTERM):
        before = len(list(predictions.glob("[0-9]*")))
        process = subprocess.Popen(["bash", tmp_path / "job.sh"], env=environment)
        deadline = time.monotonic() + HANGS
        while len(list(predictions.glob("[0-9]*"))) < before + 2:
            assert process.poll() is None
            assert time.monotonic() < deadline, "no trial is finished"
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(HANGS) == 0
    assert (tmp_path / "requeued").read_text() == "requeue 77\n" * 2
    budget = len(list(predictions.glob("[0-9]*"))) + 2
    (tmp_path / "job.sh").write_text(job.replace("--trials 500", f"--trials {budget}"))
    assert subprocess.run(["bash", tmp_path / "job.sh"], env=environment, check=True)
    assert (tmp_path / "requeued").read_text() == "requeue 77\n" * 2, "the study is complete"
    check_study(tmp_path, "s", budget)
