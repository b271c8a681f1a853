"""`python -m tests.benchmarks.gpu`: measures a machine's GPU, part by part."""

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import tests.benchmarks.gpu as package
from harness.atomic import write_text
from tests.benchmarks.gpu.parts import GRACE, PARTS, Figures, Part, command, run_part

#: Seconds that all parts have together. Not with --quick, which may run beside other work: each
#: part's own limit is enough there.
LIMIT = 480.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether all of it runs")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is one")
    parser.add_argument("--only", action="append", choices=names, help="this part; may be repeated")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON, written as each part ends")
    options = parser.parse_args()
    if options.out and not options.out.resolve().parent.is_dir():
        parser.error(f"--out {options.out}: no such folder")
    # Whoever ends this ends the part that runs, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: Figures = {"quick": options.quick, "seconds": 0.0, "parts": {}}
    begun = time.monotonic()
    for part in PARTS:
        if options.only and part.name not in options.only:
            continue
        left = math.inf if options.quick else LIMIT - GRACE - (time.monotonic() - begun)
        ended = _run(part, left, options.device, options.quick)
        found["parts"][part.name] = ended
        found["seconds"] = round(time.monotonic() - begun, 1)
        print(f"{part.name}: {ended['status']} ({ended['seconds']} s)", file=sys.stderr, flush=True)
        if options.out:
            write_text(options.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found) if options.json else table(found))
    return 0


def _run(part: Part, left: float, device: str | None, quick: bool) -> Figures:
    """A part within its own time and what is left of all."""
    allowed = min(part.quick if quick else part.seconds, left)
    if allowed < 1:
        return {"status": "skipped: no time was left", "seconds": 0.0, "figures": {}}
    return run_part(command(part.name, device, quick), allowed, device)


def table(found: Figures) -> str:
    """The figures to be read."""
    lines = []
    for name, part in found["parts"].items():
        lines.append(f"\n{name}: {part['status']}")
        lines += _rows(part["figures"], "  ")
    return "\n".join([*lines, f"\n{found['seconds']} s in all"])


def _rows(value: Any, indent: str) -> list[str]:
    """A nested value line by line; a list of records as columns under their names."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        columns = list(dict.fromkeys(key for item in value for key in item))
        cells = [columns, *([_shown(item.get(key, "")) for key in columns] for item in value)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        return [indent + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
                for row in cells]  # fmt: skip
    if not isinstance(value, dict):
        return [f"{indent}{_shown(value)}"]
    lines = []
    for key, item in value.items():
        if isinstance(item, dict | list) and item:
            lines += [f"{indent}{key}:", *_rows(item, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {_shown(item)}")
    return lines


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
