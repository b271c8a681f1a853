"""The tests that need a GPU: what passed, failed and was skipped, and why."""

import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from tests.benchmarks.gpu.parts import ROOT, Figures, Note, Run
from tests.benchmarks.gpu.programs import run_program

# Of a failure, so many of its last lines.
LAST = 4


def measure(run: Run, note: Note) -> None:
    """Runs `pytest -m gpu` over the files that have such tests."""
    files = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text()
    )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # An interrupted pytest writes its report of what it has done.
        done = run_program(
            [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider",
             "--continue-on-collection-errors", "--junitxml", str(report), *files],
            ROOT,
        )  # fmt: skip
        if not report.is_file():
            raise RuntimeError(f"pytest left no report: {done.errors or done.lines[-LAST:]}")
        note({**outcomes(report), "interrupted": done.interrupted, "files": files})


def outcomes(report: Path) -> Figures:
    """Counts of a JUnit report; the reasons of what was skipped, and the ends of what failed."""
    passed, skipped, failures, errors = 0, Counter[str](), {}, {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        ends = {end.tag: end for end in case if end.tag in ("skipped", "failure", "error")}
        if "failure" in ends:
            failures[name] = _last_lines(ends["failure"])
        elif "error" in ends:  # a file that cannot be imported here, or a fixture
            errors[name] = _last_lines(ends["error"])
        elif "skipped" in ends:
            skipped[ends["skipped"].get("message") or "no reason"] += 1
        else:
            passed += 1
    return {
        "passed": passed,
        "failed": len(failures),
        "skipped": sum(skipped.values()),
        "not_run": len(errors),
        "failures": failures,
        "skipped_for": dict(skipped),
        "not_run_for": errors,
    }


def _last_lines(end: ElementTree.Element) -> str:
    text = end.text or end.get("message") or ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-LAST:])[-600:]
