"""`python -m harness`, and the console script `harness`: lists the commands, or runs one."""

import difflib
import importlib
import sys

import harness
from harness.console import invocation, run, usage_error

#: Each command with what it does.
COMMANDS = {
    "search": "Search regression heads with Ray Tune and Optuna; without data on synthetic clips.",
    "ensemble": "Combine the best trials of one study or several into an ensemble.",
    "extract": "Extract features of clips ahead of a search.",
    "pretrain": "Train a multi-task face network on annotated faces.",
    "predict": "Predict the intensities of new clips with a stored ensemble.",
    "report": "Write the report of a study as one HTML file.",
}


def main() -> None:
    """Runs the command that the first argument names; lists all commands without one."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print(_listing())
    elif name == "--version":
        print(f"reaction-harness {harness.__version__}")
    elif name in COMMANDS:
        # As if the command's module were the main program.
        sys.argv = [sys.argv[0], *rest]
        run(importlib.import_module(f"harness.{name}").app, name)
    else:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        choices = ", ".join(COMMANDS)
        usage_error(f"no command {name!r}{hint}; choose one of {choices}", f"{_program()} --help")


def _listing() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, line in COMMANDS.items()]
    example = invocation("search")
    return "\n".join(
        [
            f"Usage: {_program()} COMMAND [OPTIONS]",
            "",
            "Commands:",
            *lines,
            "",
            f"Options of a command: {example} --help. Version: {_program()} --version.",
        ]
    )


def _program() -> str:
    """`harness` or `python -m harness`."""
    return invocation("").rstrip(" .")


if __name__ == "__main__":
    main()
