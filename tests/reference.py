"""The committed reference run, made anew from a study of the demo.

    python -m harness.search && python -m harness.ensemble --top 5
    python -m tests.reference results/demo

Writes `results/reference/`: `leaderboard.csv`, `ensemble.csv`, `targets.csv`, and pictures of the
report, which need Debian's chromium and chromium-driver. Nothing is written by hand there.
"""

import argparse
import io
from pathlib import Path

import pandas as pd
from PIL import Image

from harness.atomic import write_bytes, write_text
from harness.predictions import read_clips
from harness.reports import tables
from harness.reports.evidence import Evidence, gather
from harness.reports.page import write_report
from harness.unfolding import unfoldings
from tests.browser import Browser, started

REFERENCE = Path(__file__).parent.parent / "results" / "reference"
DRAWN = "return document.body.dataset.drawn"
# Colours that a picture may have: flat figures need no more, and a repository stays small.
COLOURS = 48


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", type=Path, help="folder of the study, such as results/demo")
    parser.add_argument("--out", type=Path, default=REFERENCE, help="default: results/reference")
    arguments = parser.parse_args()
    if not read_clips(arguments.study / "clips.parquet").synthetic:
        parser.error(f"{arguments.study}: of real clips, whose licence may forbid to show them")
    evidence = gather(arguments.study)
    if evidence.built is None:
        parser.error(f"{arguments.study}: no ensemble; run python -m harness.ensemble --top 5")
    for path in write_reference(evidence, arguments.out):
        print(f"{path}: {path.stat().st_size / 1024:.0f} kB")


def write_reference(evidence: Evidence, out: Path) -> list[Path]:
    """The tables, and what a browser sees of the report."""
    out.mkdir(parents=True, exist_ok=True)
    frames = {
        "leaderboard": tables.leaderboard(evidence),
        "ensemble": tables.ensembles(evidence),
        "targets": _targets(evidence),
    }
    written = []
    for name, frame in frames.items():
        path = out / f"{name}.csv"
        # A csv may be read without the page around it.
        write_text(path, frame.assign(data="SYNTHETIC demo clips").to_csv(index=False))
        written.append(path)
    page = write_report(evidence, unfoldings).resolve().as_uri()
    for browser in started(out):
        browser.open(page, width=1080, drawn=DRAWN)
        written += [_small(browser, "report", None), _small(browser, "report-whole", 0)]
        browser.open(page, width=390, dark=True, drawn=DRAWN)
        written.append(_small(browser, "report-phone-dark", None))
    return written


def _targets(evidence: Evidence) -> pd.DataFrame:
    """What the ensemble scores on each emotion."""
    assert evidence.built is not None  # main has looked
    ours = evidence.built.ensemble
    table = pd.DataFrame({"target": ours.targets, "naive": ours.pcc})
    if ours.estimate:
        table["nested"] = [each.nested for each in ours.estimate.targets]
        table["best single, nested"] = [each.single for each in ours.estimate.targets]
    return table.round(4)


def _small(browser: Browser, name: str, height: int | None) -> Path:
    """A picture of the page, height 0: of all of it, with few colours."""
    if height == 0:
        height = int(str(browser.ask("return document.documentElement.scrollHeight")))
    path = browser.picture(name, height)
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    content = io.BytesIO()
    few.save(content, "PNG", optimize=True)
    write_bytes(path, content.getvalue())
    return path


if __name__ == "__main__":
    main()
