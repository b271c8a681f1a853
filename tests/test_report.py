"""The report: whole without a network, drawn by a real browser without an error."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from harness.ensembles.construction import construct
from harness.ensembles.files import write_ensemble
from harness.ensembles.library import load_library
from harness.ensembles.selection import Recipe
from harness.errors import InputError
from harness.predictions import write_clips
from harness.reports.evidence import gather
from harness.reports.page import write_report
from tests.studies import make_index, make_study, write_manifest

CHROMIUM = shutil.which("chromium")


def log(folder: Path, *states: TrialState) -> None:
    """A study's log with a trial of each state, their values their numbers."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(storage=storage, study_name=folder.name, direction="maximize")
    choices = optuna.distributions.CategoricalDistribution(("ccc", "pcc"))
    depth = optuna.distributions.IntDistribution(1, 3)
    for number, state in enumerate(states):
        score = number / 10 if state == TrialState.COMPLETE else None
        if state == TrialState.PRUNED:
            score = 0.05
        study.add_trial(
            create_trial(
                state=state,
                value=score,
                params={"loss": ("ccc", "pcc")[number % 2], "layers": number % 3 + 1},
                distributions={"loss": choices, "layers": depth},
                intermediate_values={1: 0.01, 2: 0.05} if score is not None else {},
                user_attrs={"seconds": 1.5},
            )
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six complete trials, two pruned ones, an ensemble; test is unlabelled."""
    folder = tmp_path_factory.mktemp("results") / "s"
    make_study(folder, 6, make_index(40, 10, labelled_test=False))
    log(folder, *[TrialState.COMPLETE] * 6, *[TrialState.PRUNED] * 2)
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 3)).ensemble, library)
    return folder


def page(folder: Path) -> str:
    """The report's text without plotly's own script."""
    text = write_report(gather(folder)).read_text(encoding="utf-8")
    return re.sub(r"<script>.{100000,}?</script>", "", text, flags=re.DOTALL)


def test_all_parts_are_there(study: Path) -> None:
    text = page(study)
    for part in ("Leaderboard", "Best so far", "Learning curves", "nested", "Joy", "How alike"):
        assert part in text
    assert "SYNTHETIC" in text
    assert "MTL-DAN + LSTM, as published" not in text, "other targets have no published scores"


def test_nothing_is_fetched(study: Path) -> None:
    assert not re.search(r'(src|href)="(?!data:)', page(study))


def test_every_figure_has_words_and_numbers(study: Path) -> None:
    text = page(study)
    figures = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(figures) >= 9
    for figure in figures:
        assert re.search(r'role="img" aria-label="[^"]{20,}"', figure)
        assert "<td>" in figure


def test_names_of_targets_are_text(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    index = make_index(20, 5)
    index = type(index)(**{**vars(index), "target_names": ("<b>", "</script>", "&")})
    make_study(folder, 3, index)
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 2)).ensemble, library)
    text = page(folder)
    assert "<b>" not in text
    data = text.split('id="figures">')[1].split("</script>")[0]
    assert "</script>" in json.loads(data)["targets"]["data"][0]["x"]


def test_a_study_of_pruned_trials_alone(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    write_clips(folder / "clips.parquet", make_index())
    write_manifest(folder)
    log(folder, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL)
    text = page(folder)
    assert "2 pruned" in text
    assert "Learning curves" in text
    assert "No trial has ended with predictions yet" in text


def test_a_study_that_changed_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 4)
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 3)).ensemble, library)
    (folder / "predictions" / "00000.parquet").unlink()
    assert "the study has changed since ensemble mean-top3" in page(folder)


def test_no_such_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such study; run"):
        gather(tmp_path / "s")


def test_no_such_ensemble(study: Path) -> None:
    with pytest.raises(InputError, match="no ensemble 'x'; there are: mean-top3"):
        gather(study, ensemble="x")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium, which CI installs")
        pytest.skip("no Chromium on this machine: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (1200, True)])
def test_a_browser_draws_it(
    study: Path, browser: webdriver.Chrome, width: int, dark: bool, tmp_path: Path
) -> None:
    path = write_report(gather(study))
    media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["http://*", "https://*"]})
    browser.get(path.resolve().as_uri())
    WebDriverWait(browser, 60).until(
        lambda b: b.execute_script("return document.body.dataset.drawn")
    )
    drawn, wanted, overflow = browser.execute_script(
        "const plots = [...document.querySelectorAll('.plot')];"
        "const drawn = plots.filter((p) => p.querySelector('.trace, .heatmaplayer image'));"
        "return [drawn.length, plots.length,"
        " document.documentElement.scrollWidth - window.innerWidth]"
    )
    assert drawn == wanted >= 9
    assert overflow <= 0, "the page is wider than the window"
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    artefacts = Path(os.environ.get("TEST_ARTEFACTS", tmp_path))
    artefacts.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(artefacts / f"report-{width}{'-dark' * dark}.png"))
