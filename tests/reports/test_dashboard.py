"""Optuna's dashboard, in a real browser, on the studies that a search leaves."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from harness.spaces import SPACES
from tests.browser import Browser, or_skipped, started
from tests.conftest import Searched
from tests.ports import free_port
from tests.trees import plain_tree

pytestmark = pytest.mark.slow
# How many traces each figure of the page has, by its id.
FIGURES = (
    "return Object.fromEntries([...document.querySelectorAll('.js-plotly-plot')].map("
    "(plot) => [plot.id, plot.querySelectorAll('.trace').length]))"
)
TEXT = "return document.body.innerText"


@pytest.fixture(scope="module", params=["journal", "database"])
def served(request: pytest.FixtureRequest, searched: Searched) -> Iterator[tuple[str, str]]:
    """A study's name, and where the dashboard shows it."""
    study: str = request.param
    port = free_port()
    line = ["optuna-dashboard", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*line, searched.storage(study)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not _listens(port):
            assert process.poll() is None, "the dashboard ended"
            assert time.monotonic() < deadline, "the dashboard does not listen"
            time.sleep(0.1)
        # Databases count their studies from 1.
        number = 1 if study == "database" else 0
        yield study, f"http://127.0.0.1:{port}/dashboard/studies/{number}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def finished_trials(searched: Searched, study: str) -> int:
    """As the prediction files say: those that were not stopped early."""
    return len(list((searched.results / study / "predictions").glob("[0-9]*.parquet")))


def test_it_draws_history_curves_and_importances(
    served: tuple[str, str], searched: Searched, browser: Browser
) -> None:
    study, url = served
    drawn = f"return (() => {{{FIGURES}}})()['graph-intermediate-values'] >= 8"
    browser.open(url, drawn=drawn)
    figures = browser.ask(FIGURES)
    assert figures["plot-history"] > 0
    assert figures["graph-intermediate-values"] == 8, "a curve for each trial"
    browser.wait("return document.querySelectorAll("
                 "'#graph-hyperparameter-importances .bars .point').length === 3")  # fmt: skip
    browser.picture(f"dashboard-{study}", 2200)
    assert browser.complaints() == []


def test_it_lists_the_trials(served: tuple[str, str], searched: Searched, browser: Browser) -> None:
    study, url = served
    browser.open(f"{url}/trials", drawn=f"{TEXT}.includes('Trial 7')")
    text = browser.driver.find_element(By.TAG_NAME, "main").text
    shown = dict(re.findall(r"^Trial (\d+)\n(Complete|Pruned|Running|Fail)$", text, re.MULTILINE))
    assert list(shown) == [str(number) for number in range(8)]
    assert set(shown.values()) <= {"Complete", "Pruned"}
    assert list(shown.values()).count("Complete") == finished_trials(searched, study)
    browser.picture(f"dashboard-{study}-trials")
    assert browser.complaints() == []


def test_a_search_shows_its_study_until_it_is_interrupted(tmp_path: Path, browser: Browser) -> None:
    data = plain_tree(tmp_path, "features")
    line = [
        sys.executable,
        "-m",
        "harness.search",
        "--data",
        data,
        "--space",
        SPACES / "smoke.toml",
    ]
    line += ["--scheduler", "none", "--results", tmp_path, "--study", "s", "--dashboard"]
    process = subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    while "(Ctrl-C ends it)" not in said:
        line_of_it = process.stdout.readline()
        assert line_of_it, said
        said += line_of_it
    found = re.search(r"Dashboard: http://127\.0\.0\.1:(\d+)/", said)
    assert found is not None, "on loopback, and printed"
    address = f"http://127.0.0.1:{found[1]}/dashboard/studies/0"
    try:
        browser.open(f"{address}/note", drawn=f"{TEXT}.includes('Continue:')")
        assert "python -m harness.search --data" in browser.ask(TEXT)
        browser.picture("dashboard-note")
        browser.open(f"{address}/trials?numbers=0", drawn=f"{TEXT}.includes('00000.parquet')")
        assert "best_epoch" in browser.ask(TEXT)
        browser.picture("dashboard-trial")
        assert browser.complaints() == []
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == 0
    assert not _listens(int(found[1]))


def test_a_browser_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        next(or_skipped(lambda: started(tmp_path)))
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        next(or_skipped(lambda: started(tmp_path)))
