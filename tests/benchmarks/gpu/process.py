"""The process of one part: `python -m tests.benchmarks.gpu.process PART`."""

import argparse
import importlib
import json
import signal
import sys
import traceback

from tests.benchmarks.gpu.parts import PARTS, Figures, Note, Run, missing


def measure(name: str, device: str | None, quick: bool, note: Note) -> str:
    """Measures a part in this process; its status."""
    part = next(part for part in PARTS if part.name == name)
    if lacking := missing(part.needs):
        return f"skipped: needs {', '.join(lacking)}"
    # Not before: without torch there is nothing to measure, which is to be said, not raised.
    import torch

    there = torch.cuda.is_available() and device != "cpu"
    if device == "cuda" and not there:
        return "skipped: needs a CUDA device"
    if quick and not there:
        # Small work on a busy processor: threads would mostly wait for each other.
        torch.set_num_threads(1)
    module = importlib.import_module(f"tests.benchmarks.gpu.{name}")
    module.measure(Run("cuda" if there else "cpu", quick), note)
    return "done"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[part.name for part in PARTS])
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    # Temporary folders are removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: Figures = {}

    def note(figures: Figures) -> None:
        found.update(figures)
        print(json.dumps(found), flush=True)

    try:
        status = measure(options.part, options.device, options.quick, note)
    except Exception as error:
        # What was measured before stays; the traceback is for whoever runs the part alone.
        traceback.print_exc()
        status = f"failed: {type(error).__name__}: {error}"[:600]
    note({"status": status})
    return 0


if __name__ == "__main__":
    sys.exit(main())
