"""Configurations that earlier versions wrote."""

from pathlib import Path

import harness
from harness.earlier import completed
from harness.models.config import defaults
from tests.studies import make_study


def test_what_a_configuration_names_stays() -> None:
    assert completed(defaults()) == defaults()
    assert completed({}) == {}, "it says nothing"


def test_what_it_lacks_is_what_it_had_then() -> None:
    then = {"ema": 0.0, "patience": 15, "initial": "uniform"}
    assert completed({"layers": 2}) == {"layers": 2} | then
    assert "initial" not in completed({"family": "another"}), "the LSTM's own"


def test_a_table_of_trials_says_so(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 3)  # its configurations name no initial weights
    assert set(harness.load_study(tmp_path / "s").trials()["initial"]) == {"uniform"}
