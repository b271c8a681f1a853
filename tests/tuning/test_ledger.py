"""The ledger of a study: one budget, whatever dies, fails or works beside it."""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.models.config import TrialConfig, defaults
from harness.reports.evidence import gather
from harness.reports.tables import leaderboard
from harness.space.pruners import FIRST
from harness.study.deaths import shared_settings
from harness.study.folder import StudyFolder
from harness.study.trials import (
    CONFIG,
    REASON,
    changed_settings,
    configuration,
    shown_settings,
)
from harness.tuning import driver
from harness.tuning.agenda import CONFIRMS
from harness.tuning.audit import audit, other_settings
from harness.tuning.closing import confirmed_table
from harness.tuning.confirmation import agenda, confirmed
from harness.tuning.ledger import MAX_FAILURES_IN_A_ROW, Ledger, done
from harness.tuning.repeats import CUT_OFF, MAX_CUT_OFFS, MAX_RETRIES
from tests import rivals
from tests.searches import INDEX, SPACE, finish, make_result, make_space, opened

FAIL, COMPLETE, PRUNED = TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED


def states(ledger: Ledger) -> Counter[TrialState]:
    return Counter(trial.state for trial in trials(ledger))


def trials(ledger: Ledger) -> list[FrozenTrial]:
    return ledger.study.get_trials(deepcopy=False)


def start_points(ledger: Ledger) -> list[FrozenTrial]:
    return [t for t in trials(ledger) if "start" in t.user_attrs.get("item", "")]


def test_the_budget_is_what_is_finished(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        assert len(finish(ledger)) == 8
        assert states(ledger) == {COMPLETE: 8}
        assert ledger.ask() is None
    with opened(tmp_path) as again:
        assert again.ask() is None


def test_start_points_come_first_and_once(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        first, *_ = finish(ledger, at_most=2)
    assert (first["loss"], first["layers"]) == ("pcc", 3)
    with opened(tmp_path) as again:
        finish(again)
        assert len(start_points(again)) == 1


def test_a_start_point_that_is_new_in_the_file_is_tried(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        finish(ledger, at_most=3)
    other = make_space(tmp_path, SPACE + "[[start]]\nlayers = 1\n")
    with opened(tmp_path, space=other) as again:
        finish(again)
        assert [t.params["layers"] for t in start_points(again)] == [3, 1]


def test_a_start_point_keeps_what_it_sets_for_itself_also_when_retried(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE.replace("layers = 3\n", "layers = 3\noptimiser = 'adam'\n"))
    with opened(tmp_path, space=space) as ledger:
        number, config = ledger.ask() or (0, {})
        assert (config["loss"], config["layers"], config["optimiser"]) == ("pcc", 3, "adam")
        assert set(trials(ledger)[number].params) == {"loss", "layers"}, "the sampler's alone"
        ledger.fail(number, "out of memory")
        number, config = ledger.ask() or (0, {})
        assert config["optimiser"] == "adam"
        ledger.complete(number, make_result(config))
        _, config = ledger.ask() or (0, {})
        assert config["optimiser"] == "adamw", "the others have the default"
        shown = shown_settings(trials(ledger)[number], changed_settings(trials(ledger)))
        assert shown["optimiser"] == "adam", "tables show it"


def test_trials_in_work_are_counted_as_budget(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        asked = [ledger.ask() for _ in range(9)]
    assert asked[-1] is None
    assert None not in asked[:-1]


def test_what_a_killed_search_left_is_tried_again_with_its_seed(tmp_path: Path) -> None:
    with opened(tmp_path) as killed:
        number, config = killed.ask() or (0, {})
        killed.ask()  # neither of them ends
    with opened(tmp_path) as again:
        configs = finish(again)
        assert len(configs) == 8
        assert config in configs
        assert states(again) == {COMPLETE: 8, FAIL: 2}
        assert trials(again)[number].user_attrs["reason"] == CUT_OFF


def test_being_cut_off_again_and_again_is_no_fault_of_a_trial(tmp_path: Path) -> None:
    seeds = set()
    for _ in range(MAX_RETRIES + 2):
        with opened(tmp_path) as interrupted:
            _, config = interrupted.ask() or (0, {})
            seeds.add(config["seed"])
            interrupted.close_open()
    with opened(tmp_path) as again:
        configs = finish(again)
    assert len(configs) == 8
    assert seeds == {configs[0]["seed"]}


def test_a_trial_at_which_every_search_is_cut_off_is_given_up(tmp_path: Path) -> None:
    """It may be what cuts them off, by taking all memory of a machine."""
    seeds = []
    for _ in range(MAX_CUT_OFFS + 2):
        with opened(tmp_path) as interrupted:
            _, config = interrupted.ask() or (0, {})
            seeds.append(config["seed"])
            interrupted.close_open()
    assert len(set(seeds[: MAX_CUT_OFFS + 1])) == 1
    assert seeds[-1] != seeds[0]


def test_a_trial_of_a_silent_search_is_closed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with opened(tmp_path, storage=url) as ledger:
        # As a search elsewhere leaves it that is killed before it draws.
        ledger.study.enqueue_trial({}, user_attrs={driver.DRIVER: "another", driver.HOME: "there"})
        ledger.study.ask()
        ledger.close_dead()
        assert states(ledger) == {TrialState.RUNNING: 1}, "it may live"
        monkeypatch.setattr(driver, "GRACE", -1)
        ledger.close_dead()
        assert states(ledger) == {FAIL: 1}


def test_a_search_counts_the_trials_of_all_searches(tmp_path: Path) -> None:
    url, space = f"sqlite:///{tmp_path}/study.db", make_space(tmp_path)
    counts: list[tuple[int, int]] = []
    with opened(tmp_path / "a", storage=url, space=space) as first:
        finish(first, at_most=3)
        first.ask()
        with opened(tmp_path / "b", storage=url, space=space) as second:
            second.watcher.counted = lambda *both: counts.append(both)  # type: ignore[method-assign]
            second.ask()
            second.ask()
    assert counts == [(3, 1), (3, 2)]


def test_a_search_waits_until_it_knows_of_the_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with opened(tmp_path / "a", storage=url, space=make_space(tmp_path)) as first:
        asked = [first.ask() for _ in range(8)]
        with opened(tmp_path / "b", storage=url, space=make_space(tmp_path)) as second:
            assert second.ask() is None
            assert not second.over, "the first may be dead"
            first.study.set_user_attr(driver.SIGN + first.driver.token, 1)
            second.close_dead()  # looks again
            second._rests_until = 0
            assert second.ask() is None
            assert second.over
        number, config = asked[-1] or (0, {})
        first.complete(number, make_result(config))


def test_a_notebooks_own_trial_is_left_alone_and_does_not_count(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        own = ledger.study.ask()
        assert len(finish(ledger)) == 8
        assert states(ledger) == {COMPLETE: 8, TrialState.RUNNING: 1}
        ledger.close_open()
        assert trials(ledger)[own.number].state == TrialState.RUNNING


def test_what_a_notebook_ended_itself_is_left_alone_and_does_not_count(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "s")
    with opened(tmp_path) as ledger:
        for score, state in ((0.99, COMPLETE), (None, FAIL)):
            own = ledger.study.ask()
            ledger.rules.space.suggest(own)
            ledger.study.tell(own, score, state)
        assert not audit(ledger.study, folder, INDEX, ledger.driver)
        assert len(finish(ledger)) == 8
        assert not any("retry_of" in trial.user_attrs for trial in trials(ledger))
        assert done(ledger.study, ledger.rules.agenda) == 8
        assert 0 not in agenda(ledger.study, 8, 1)._chosen, "its configuration is not known"


def test_what_a_person_queued_comes_next_and_counts(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.study.enqueue_trial({"loss": "ccc", "layers": 2})
        _, config = ledger.ask() or (0, {})
        assert (config["loss"], config["layers"]) == ("ccc", 2)
    with opened(tmp_path) as again:  # the search was cut off, the point is not forgotten
        configs = finish(again)
        assert config in configs
        assert len(configs) == 8
        assert states(again) == {COMPLETE: 8, FAIL: 1}


@pytest.mark.parametrize("point", [{"layers": 9}, {"loss": "mse"}, {"depth": 1}, {"layers": "2"}])
def test_a_queued_point_that_is_none_of_the_space_fails_by_name(
    tmp_path: Path, point: dict[str, object]
) -> None:
    with opened(tmp_path) as ledger:
        for _ in range(6):  # more than make a search hopeless
            ledger.study.enqueue_trial(point)
        assert len(finish(ledger)) == 8
        assert not ledger.hopeless
        refused = [t for t in trials(ledger) if t.state == FAIL]
        assert len(refused) == 6
        assert all(next(iter(point)) in t.user_attrs["reason"] for t in refused)
        assert not any(t.params for t in refused), "reports and samplers would stumble over it"


def test_a_draw_that_fails_leaves_no_trial_behind(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        space, ledger.rules = ledger.rules, replace(ledger.rules, space=None)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            ledger.ask()
        ledger.rules = space
        assert len(finish(ledger)) == 8
        assert states(ledger) == {COMPLETE: 8, FAIL: 1}


def test_a_point_that_always_fails_is_given_up(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        tried = Counter[int]()
        while asked := ledger.ask():
            number, config = asked
            if (config["loss"], config["layers"]) == ("pcc", 3):
                tried[config["seed"]] += 1
                ledger.fail(number, "out of memory")
            else:
                ledger.complete(number, make_result(config))
        assert set(tried.values()) == {1 + MAX_RETRIES}
        assert states(ledger)[COMPLETE] == 8


def test_a_failure_that_would_come_again_is_not_tried_again(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        number, config = ledger.ask() or (0, {})
        ledger.fail(number, "the output is constant", lasting=True)
        assert config["seed"] not in [later["seed"] for later in finish(ledger)]


def test_a_hopeless_search_is_known_as_such(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        while not ledger.hopeless:
            number, _ = ledger.ask() or (0, {})
            ledger.fail(number, "no such device")
        assert len(trials(ledger)) <= 5 * (1 + MAX_RETRIES)


def test_failures_of_the_machine_do_not_count_against_a_point(tmp_path: Path) -> None:
    space = make_space(tmp_path, GRID)
    for _ in range(MAX_RETRIES + 1):  # more failures of each point than any may have by itself
        with opened(tmp_path, space=space, sampler="grid") as ledger:
            while (asked := ledger.ask()) and not ledger.hopeless:
                ledger.fail_by_machine(asked[0], "node 7 was lost")
            assert "in a row were lost to the machine" in ledger.hopeless
            assert ledger.hopeless.endswith("node 7 was lost")
    with opened(tmp_path, space=space, sampler="grid") as again:
        assert len(finish(again)) == 12
        assert states(again)[COMPLETE] == 12


def test_one_search_retries_a_point_that_loses_its_worker_only_a_few_times(tmp_path: Path) -> None:
    """It may be what kills the worker; the next search tries it again."""

    def first_point_dies(ledger: Ledger) -> int:
        lost = 0
        while asked := ledger.ask():
            number, config = asked
            if (config["loss"], config["layers"]) == ("pcc", 3):
                ledger.fail_by_machine(number, "the worker was killed")
                lost += 1
            else:
                ledger.complete(number, make_result(config))
        return lost

    for _ in range(3):
        with opened(tmp_path, sampler="grid") as ledger:
            assert first_point_dies(ledger) == 1 + MAX_RETRIES
            assert not ledger.hopeless
    with opened(tmp_path, sampler="grid") as well:
        assert [(c["loss"], c["layers"]) for c in finish(well)] == [("pcc", 3)]


def test_settings_that_changed_between_searches_are_shown(tmp_path: Path) -> None:
    for number, hidden in enumerate((4, 128)):
        text = SPACE.replace("trials = 8", f"trials = {2 + number}")
        space = make_space(tmp_path, text + f"[fixed]\nhidden = {hidden}\nstride = 5\n")
        with opened(tmp_path, space=space) as ledger:
            finish(ledger)
            found = trials(ledger)
    changed = changed_settings(found)
    assert changed == {"hidden"}
    assert [shown_settings(trial, changed)["hidden"] for trial in found] == [4, 4, 128]
    table = leaderboard(gather(tmp_path / "s"))
    assert "hidden" in table
    assert "stride" not in table
    assert other_settings(ledger.study, space).startswith(
        "Other settings than 2 of 3 finished trials: hidden 128 (4 before); "
    )


def test_what_start_points_set_themselves_is_no_other_setting(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE + "[[start]]\nlayers = 1\nhidden = 32\n")
    with opened(tmp_path, space=space) as ledger:
        finish(ledger)
        assert 32 in {trial.user_attrs[CONFIG]["hidden"] for trial in trials(ledger)}
    assert not other_settings(ledger.study, space)
    with opened(tmp_path, agenda(ledger.study, 8, 1), space=space) as again:
        finish(again)
    assert not other_settings(again.study, space), "a confirmation repeats its trial"


def test_a_trial_that_lost_its_predictions_is_trained_again(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "s")
    with opened(tmp_path) as ledger:
        finish(ledger)
        seed = trials(ledger)[3].user_attrs["seed"]
        folder.prediction_file(3).unlink()
        (line,) = audit(ledger.study, folder, INDEX, ledger.driver)
        assert "trial 3 no longer counts" in line
        (config,) = finish(ledger)
        assert config["seed"] == seed
        assert not audit(ledger.study, folder, INDEX, ledger.driver)


def test_halving_stops_the_worse_half(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE.replace("trials = 8", "trials = 20"))
    with opened(tmp_path, space=space, scheduler="asha") as ledger:
        for _ in range(FIRST):  # before there is something to compare with none is stopped
            number, config = ledger.ask() or (0, {})
            assert not ledger.report(number, [(1, 0.3)])
            ledger.complete(number, make_result(config))
        stopped = []
        for score in (0.5, 0.1, 0.2, 0.6):
            number, _ = ledger.ask() or (0, {})
            stopped.append(ledger.report(number, [(1, score)]))
            if stopped[-1]:
                ledger.prune(number, 1.0)
        assert stopped == [False, True, True, False]
    with opened(tmp_path, space=space, scheduler="asha") as again:
        number, _ = again.ask() or (0, {})
        assert again.report(number, [(1, 0.25)]), "it knows the trials of the search before"


def test_dead_trials_are_pruned_with_a_reason_and_what_they_share_is_said(tmp_path: Path) -> None:
    """They are no failures: the sampler learns from them, and they are not retried."""
    space = make_space(tmp_path, SPACE.replace("trials = 8", "trials = 40"))
    why = "predicts a constant since epoch 1"
    with opened(tmp_path, space=space) as ledger:
        said: list[str] = []
        ledger.watcher.notice = said.append  # type: ignore[method-assign]
        while len(said) < 2 and (asked := ledger.ask()):
            number, config = asked
            if config["layers"] == 3:
                ledger.report(number, [(1, math.nan), (2, math.nan)])
                ledger.prune(number, 0.5, why)
            else:
                ledger.complete(number, make_result(config))
        dead = [trial for trial in trials(ledger) if trial.state == TrialState.PRUNED]
        assert [trial.user_attrs[REASON] for trial in dead] == [why] * 8
        assert dead[0].intermediate_values == {1: -1.0, 2: -1.0}
        assert not ledger.hopeless
    assert f"4 of {dead[3].number + 1} finished trials ended early" in said[0]
    assert "because each predicts a constant: 0, " in said[0], "the start point has 3 layers"
    assert "They share layers=3 (0 of " in said[0]


def test_a_search_whose_trials_all_die_stops(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        while not ledger.hopeless and (asked := ledger.ask()):
            ledger.prune(asked[0], 0.5, "predicts a constant since epoch 1")
        assert len(trials(ledger)) == MAX_FAILURES_IN_A_ROW
        assert "the last: predicts a constant since epoch 1" in ledger.hopeless


SHARED: list[tuple[list[dict[str, object]], list[dict[str, object]], list[str]]] = [
    ([{"layers": 4, "lr": 0.1}], [{"layers": 4, "lr": 0.1}], []),  # one shares all with itself
    ([{"layers": 4}, {"layers": 4}], [{"layers": 4}, {"layers": 1}], ["layers=4 (1 of 2 others)"]),
    ([{"layers": 4}, {"layers": 3}], [{"layers": 2}], ["layers of at least 3 (0 of 1 others)"]),
    ([{"lr": 0.1}, {"lr": 0.2}], [{"lr": 0.15}, {"lr": 0.05}], []),  # 1 of 2 others has it, too
    ([{"loss": "ccc"}, {"loss": "pcc"}], [{"loss": "mse"}], []),
    (
        [{"a": 1, "b": 2}, {"a": 1, "b": 2}],
        [{"a": 1, "b": 0}, {"b": 0}],
        ["b=2 (0 of 2 others)", "a=1 (1 of 2 others)"],
    ),
]


@pytest.mark.parametrize(("dead", "alive", "expected"), SHARED)
def test_what_dead_trials_share(
    dead: list[dict[str, object]], alive: list[dict[str, object]], expected: list[str]
) -> None:
    def made(settings: dict[str, object]) -> FrozenTrial:
        return create_trial(value=0.0, user_attrs={CONFIG: settings})

    assert shared_settings(list(map(made, dead)), list(map(made, alive))) == expected


GRID = SPACE + "[grid]\nrepeats = 2\n"


def test_a_grid_is_covered_once_for_each_repeat_even_when_killed(tmp_path: Path) -> None:
    space = make_space(tmp_path, GRID)
    with opened(tmp_path, space=space, sampler="grid") as killed:
        finish(killed, at_most=3)
        killed.ask()
    with opened(tmp_path, space=space, sampler="grid") as again:
        finish(again)
        ended = [t for t in trials(again) if t.state == COMPLETE]
    points = Counter((t.params["loss"], t.params["layers"]) for t in ended)
    assert points == {(loss, layers): 2 for loss in ("ccc", "pcc") for layers in (1, 2, 3)}
    assert len({t.user_attrs["seed"] for t in ended}) == 12


def test_a_grid_is_covered_whatever_was_drawn_before(tmp_path: Path) -> None:
    with opened(tmp_path) as drawn:
        finish(drawn)
    space = make_space(tmp_path, GRID)
    with opened(tmp_path, space=space, sampler="grid") as grid:
        assert len(finish(grid)) == 12
    with opened(tmp_path) as drawn:
        assert drawn.ask() is None, "what the grid tried is in the budget of what is drawn"


def test_what_repeats_a_trial_has_its_configuration(tmp_path: Path) -> None:
    """Whatever the space has become since."""
    with opened(tmp_path) as ledger:
        finish(ledger)
        best = agenda(ledger.study, 1, 1)
        (found,) = [t for t in trials(ledger) if t.number in best._chosen]
    other = SPACE.replace("epochs = 4", "epochs = 9")
    other += "[fixed]\nhidden = 16\n[parameters.dropout]\ntype = 'float'\nlow = 0.1\nhigh = 0.5\n"
    with opened(tmp_path, best, space=make_space(tmp_path, other)) as again:
        (config,) = finish(again)
        (repeated,) = [t for t in trials(again) if CONFIRMS in t.user_attrs]
    assert repeated.params == found.params
    assert config == found.user_attrs["config"] | {"seed": config["seed"]}
    assert config["epochs"] == 4


def test_the_stored_configuration_needs_no_default(tmp_path: Path) -> None:
    """So that a version with other defaults repeats the same trial."""
    with opened(tmp_path) as ledger:
        _, config = ledger.ask() or (0, {})
        (trial,) = trials(ledger)
    assert config == TrialConfig.of(**config).to_dict()
    assert configuration(trial) | {"seed": config["seed"]} == config


def test_trials_of_earlier_versions_have_the_defaults_of_that_time() -> None:
    earlier = create_trial(value=0.5, user_attrs={CONFIG: {"layers": 2}})
    now = create_trial(value=0.5, user_attrs={CONFIG: defaults() | {"layers": 2}})
    then = {"ema": 0.0, "patience": 15, "initial": "uniform"}
    assert configuration(earlier) == {"layers": 2} | then
    assert configuration(create_trial(value=0.5)) == {}, "a notebook's own trial"
    assert changed_settings([earlier, now]) == set(then)


def test_a_study_of_an_earlier_version_is_told_of_other_defaults(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        finish(ledger, at_most=1)
        kept = {n: v for n, v in trials(ledger)[0].user_attrs.items() if n != "config"}
        earlier = create_trial(value=0.5, user_attrs=kept | {"config": {"epochs": 4}})
        ledger.study.add_trial(earlier)
    line = other_settings(ledger.study, make_space(tmp_path))
    assert (
        "than 1 of 2 finished trials: ema 0.99 (0 before); initial glorot (uniform before); "
        in line
    )
    assert "patience 8 (15 before)" in line


def test_a_confirmation_that_a_killed_search_queued_is_done_by_the_next(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        finish(ledger)
        again = agenda(ledger.study, 1, 1)
        item = next(again.items())
        ledger.study.enqueue_trial(item.params, user_attrs={"item": item.key, **item.notes})
    longer = make_space(tmp_path, SPACE.replace("trials = 8", "trials = 10"))
    with opened(tmp_path, space=longer) as search:
        assert len(finish(search)) == 2
        assert states(search) == {COMPLETE: 10, FAIL: 1}, "it is no point of the search"
    with opened(tmp_path, again) as confirmation:
        (config,) = finish(confirmation)
        assert {name: config[name] for name in item.params} == item.params


def test_confirmation_trains_the_best_under_new_seeds_outside_the_budget(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        seeds = {config["seed"] for config in finish(ledger)}
        study = ledger.study
    with opened(tmp_path, agenda(study, 2, 3)) as again:
        configs = finish(again)
        assert len(configs) == 6
        assert len({config["seed"] for config in configs} | seeds) == 8 + 6
        assert len(finish(again)) == 0, "a second call trains nothing"
    rows = confirmed(study)
    assert [len(row.scores) for row in rows] == [3, 3]
    for row in rows:
        assert row.stopping == pytest.approx(0.001, abs=1e-6)
        assert row.clip_error == pytest.approx(0.1)
        assert row.seed_error == pytest.approx(np.std(row.scores, ddof=1) / 3**0.5)
        assert row.corrected(0.01) == pytest.approx(row.mean - 0.011, abs=1e-6)
    table = confirmed_table(rows, 0.01, 0.02)
    assert [str(column.header) for column in table.columns][1:5] == [
        "mean", "corrected", "error over seeds", "error over clips",
    ]  # fmt: skip
    chosen = {row.number for row in rows}
    best = sorted((t for t in study.trials[:8]), key=lambda t: -(t.value or 0))
    assert best[0].number in chosen
    with opened(tmp_path) as later:
        assert later.ask() is None, "the search's own budget is full, and nothing more"
        counted = [t for t in trials(later) if CONFIRMS not in t.user_attrs]
        assert done(study, later.rules.agenda) == len(counted) == 8


def test_configurations_that_differ_in_what_is_not_searched_are_confirmed_each(
    tmp_path: Path,
) -> None:
    """As the first two start points of `paper.toml`."""
    text = SPACE.replace("trials = 8", "trials = 2")
    text += "[[start]]\nloss = 'pcc'\nlayers = 3\noptimiser = 'adam'\n"
    with opened(tmp_path, space=make_space(tmp_path, text)) as ledger:
        finish(ledger)
        study = ledger.study
    with opened(tmp_path, agenda(study, 2, 1)) as again:
        assert len(finish(again)) == 2
    shown = {row.number: row.params.get("optimiser") for row in confirmed(study)}
    assert shown == {0: "adamw", 1: "adam"}


@pytest.mark.parametrize("fault", rivals.FAULTS)
def test_several_searches_of_one_database_keep_one_budget(tmp_path: Path, fault: str) -> None:
    """`python -m tests.benchmarks.together` does many rounds of it."""
    url = f"sqlite:///{tmp_path}/study.db"
    assert not rivals.share(tmp_path, url, "s", random.Random(0), searches=3, fault=fault)


def test_two_searches_that_end_one_trial_at_once_count_it_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    for n in range(2):
        assert not rivals.end(tmp_path, url, f"s{n}", random.Random(n))


def test_a_living_search_is_not_taken_for_dead(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with opened(tmp_path, storage=url) as first:
        number, _ = first.ask() or (0, {})
        with opened(tmp_path, storage=url) as second:
            second.ask()
            assert trials(second)[number].state == TrialState.RUNNING
    with opened(tmp_path, storage=url) as third:
        third.close_dead()
        assert trials(third)[number].state == FAIL


ENDS: dict[str, Callable[[Ledger, int], None]] = {
    "complete": lambda ledger, number: ledger.complete(number, make_result({"seed": 1})),
    "prune": lambda ledger, number: ledger.prune(number, 1.0),
    "fail": lambda ledger, number: ledger.fail(number, "late"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_trial_that_another_search_closed_stays_closed(tmp_path: Path, end: str) -> None:
    with opened(tmp_path) as ledger:
        number, _ = ledger.ask() or (0, {})
        ledger.study.tell(number, state=FAIL)
        with pytest.raises(UpdateFinishedTrialError):
            ENDS[end](ledger, number)
        ledger.lost(number)
        assert not ledger.open
        assert not list(tmp_path.glob("s/predictions/*"))
