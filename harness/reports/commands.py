"""The commands that continue a study, combine its trials and predict new clips."""

import ast
import re
import shlex
from pathlib import Path

from harness.reports.evidence import Evidence

#: Stands for a folder of new clips, and for the weight file, where they are not known.
CLIPS, WEIGHTS = "CLIPS", "FILE"
_TOP = 5
# Sources of streams that need no file of a network.
_WITHOUT_NETWORK = ("files", "sound")
_OF_ENCODERS = ("encoder", "encoder_output", "encoder_input")
_SEARCH = "harness.run_search("
# A shell's word after the option.
_STUDY = re.compile(r"""(?<=\s)(--study(?:=|\s+))(?:[^\s'"\\]|'[^']*'|"[^"]*"|\\.)+""")


def continuing(evidence: Evidence) -> list[str]:
    """The searches of the study, as they were started; of a renamed or copied one with its name."""
    commands = list(evidence.commands)
    if evidence.manifest.get("name", evidence.folder.name) != evidence.folder.name:
        renamed = (_renamed(command, evidence.folder.name) for command in commands)
        commands = list(dict.fromkeys(renamed))
    # Studies of older versions have no record of their commands.
    return commands or [f"python -m harness.search {_options(evidence)} --data DIR"]


def _renamed(command: str, study: str) -> str:
    """A command or a call from Python with another study."""
    if not command.startswith(_SEARCH):
        value = shlex.quote(study)
        changed, count = _STUDY.subn(lambda found: found[1] + value, command)
        return changed if count else f"{command} --study {value}"
    call = ast.parse(command, mode="eval").body
    assert isinstance(call, ast.Call)  # run_search writes this text
    given = {str(keyword.arg): ast.unparse(keyword.value) for keyword in call.keywords}
    given["study"] = repr(study)
    return f"{_SEARCH}{', '.join(f'{name}={value}' for name, value in given.items())})"


def combining(evidence: Evidence) -> str:
    """Builds an ensemble of the best trials."""
    top = min(_TOP, len(evidence.library.matrix)) if evidence.library else _TOP
    return f"python -m harness.ensemble --top {top} {_options(evidence)}"


def reporting(evidence: Evidence) -> str:
    """Writes the report again."""
    return f"python -m harness.report {_options(evidence)}"


def predicting(evidence: Evidence, program: str = "python -m harness.predict") -> str | None:
    """Predicts clips with the shown ensemble; None if there is none.

    The clips are those of the study. Where a path is not known, CLIPS or FILE stands for it.
    """
    if evidence.shown is None:
        return None
    results = evidence.folder.parent
    line = ["--ensemble", str(evidence.folder / "ensembles" / evidence.shown.name)]
    line += ["--data", _given(evidence, "data", "demo-*") or CLIPS]
    known = _arguments(evidence.commands[-1]) if evidence.commands else {}
    streams = (evidence.manifest.get("streams") or {}).values()
    framed = [each for each in streams if each["source"] not in _WITHOUT_NETWORK]
    if len(known.get("encoder", [])) < len(framed):
        line += ["--weights", _given(evidence, "weights", "faces-*/*.safetensors") or WEIGHTS]
    for option in ("layout", "features", "weights_key", *_OF_ENCODERS):
        for value in known.get(option, []):
            line += [f"--{option.replace('_', '-')}", value]
    line += ["--out", f"{evidence.folder.name}-new.csv", "--results", str(results)]
    return f"{program} {shlex.join(line)}"


def _options(evidence: Evidence) -> str:
    """The options of a command that name the study."""
    folder = evidence.folder
    return shlex.join(["--study", folder.name, "--results", str(folder.parent)])


def _given(evidence: Evidence, name: str, demo: str = "") -> str | None:
    """The value of an argument of the last search; of a study of the demo, the only file of its
    cache with a name like `demo`."""
    if evidence.synthetic and demo:
        found = sorted((evidence.folder.parent / ".cache").glob(demo))
        return str(found[0]) if len(found) == 1 else None
    if not evidence.commands:
        return None
    return next(iter(_arguments(evidence.commands[-1]).get(name, [])), None)


def _arguments(command: str) -> dict[str, list[str]]:
    """The values of the arguments of a search, by name: of a command line or of a call from
    Python."""
    if command.startswith(_SEARCH):
        call = ast.parse(command, mode="eval").body
        assert isinstance(call, ast.Call)  # run_search writes this text
        values = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        return {
            name: list(map(str, value if isinstance(value, list | tuple) else [value]))
            for name, value in values.items()
        }
    words = shlex.split(command)
    found: dict[str, list[str]] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            option, _, value = word[2:].partition("=")
            found.setdefault(option.replace("-", "_"), []).append(value or following)
    return found


def location(path: Path) -> str:
    """The address at which a browser opens a file."""
    return path.absolute().as_uri()
