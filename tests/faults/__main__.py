"""`python -m tests.faults`: tries every fault and prints what was lost."""

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from tests.faults.fault import KINDS, Outcome, tried
from tests.faults.suite import FAULTS


def show(outcomes: list[Outcome]) -> None:
    table = Table("kind", "fault", "tried", "survived", "lost", "s", title_justify="left")
    for found in outcomes:
        lost = found.reason or "nothing"
        if found.lost:
            lost = found.lost[0].strip().splitlines()[-1]
        table.add_row(
            found.fault.kind, found.fault.name, str(found.tried), str(found.survived), lost,
            f"{found.seconds:.0f}",
        )  # fmt: skip
    Console(width=150 if not sys.stdout.isatty() else None).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="Of the faults. Default: all.")
    parser.add_argument("--only", help="A part of the names of those to try.")
    parser.add_argument("--few", action="store_true", help="As seldom as pytest tries them.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    outcomes = []
    for fault in FAULTS:
        times = fault.few if options.few else fault.times
        if times and options.kind in (None, fault.kind) and (options.only or "") in fault.name:
            print(f"{fault.kind}: {fault.name} ...", file=sys.stderr, flush=True)
            outcomes.append(tried(fault, times))
            for lost in outcomes[-1].lost:
                print(lost, file=sys.stderr)
    tries, survived = sum(o.tried for o in outcomes), sum(o.survived for o in outcomes)
    if options.json:
        rows = [
            {
                "kind": o.fault.kind,
                "fault": o.fault.name,
                "tried": o.tried,
                "survived": o.survived,
                "seconds": round(o.seconds, 1),
            }
            for o in outcomes
        ]
        print(json.dumps({"tried": tries, "survived": survived, "faults": rows}))
    else:
        show(outcomes)
        print(f"tried {tries}, survived {survived}")
    return int(survived < tries or not tries)


if __name__ == "__main__":
    sys.exit(main())
