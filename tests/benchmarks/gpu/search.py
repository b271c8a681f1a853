"""The demo's search by its command: seconds in all, and of its steps.

`steps` are what comes before the trials, as the command itself times them; `trials_s` is from the
first trial's end to the last one's, `end_s` what follows. With --quick it searches a few tiny
clips, by a network that is not trained.
"""

import re
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.gpu.parts import ROOT, Figures, Note, Run
from tests.benchmarks.gpu.programs import Program, run_program

TRIALS, EPOCHS = 16, 20


def measure(run: Run, note: Note) -> None:
    """Runs the search in a folder of its own."""
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results"
        line = [sys.executable, "-m", "harness.search", "--results", str(results)]
        line += ["--study", "gpu", "--scheduler", "none"]
        line += _tiny(Path(place)) if run.quick else _demo()
        done = run_program(line, ROOT)
        note(parts(done))  # before more is imported, for which there may be no time
        note({"trials": _complete(results)})
    if done.code and not done.interrupted:
        raise RuntimeError(f"exit code {done.code}: {done.errors.strip()[-400:]}")


def _demo() -> list[str]:
    return ["--trials", str(TRIALS), "--epochs", str(EPOCHS)]


def _tiny(place: Path) -> list[str]:
    from harness.clips.demo import ensure_demo
    from harness.spaces import SPACES
    from tests.networks import save_tiny
    from tests.plans import TINY

    data = ensure_demo(place / "clips", TINY, processes=1).root
    weights = save_tiny(place / "net.safetensors")
    return ["--data", str(data), "--weights", str(weights), "--space", str(SPACES / "smoke.toml")]


def parts(done: Program) -> Figures:
    """Seconds in all and of each step, by what the command printed and when."""
    named = [re.fullmatch(r"(.+): \d+ in ([\d.]+) s", text) for _, text in done.lines]
    steps = {step[1]: float(step[2]) for step in named if step}
    ended = [at for at, text in done.lines if re.match(r"trial +\d", text)]
    figures: Figures = {"seconds": done.seconds, "steps": steps, "interrupted": done.interrupted}
    if shares := [text for _, text in done.lines if "share a GPU" in text]:
        figures["gpu"] = shares[0]
    if ended:
        figures |= {"first_trial_ended_s": ended[0], "trials_s": ended[-1] - ended[0]}
        figures["end_s"] = done.seconds - ended[-1]
    return figures


def _complete(results: Path) -> int:
    """Trials of which the study has predictions."""
    import harness
    from harness.errors import InputError

    try:
        return len(harness.load_study(results / "gpu").trials())
    except InputError:  # interrupted before a trial was complete
        return 0
