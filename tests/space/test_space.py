"""Search spaces: what is wrong is said in one line with file and field."""

import warnings
from pathlib import Path

import optuna
import pytest

from harness.errors import InputError
from harness.models.config import TrialConfig
from harness.sampling import Sampling, strides
from harness.space.file import read_space
from harness.space.search_space import SearchSpace
from harness.spaces import SPACES, find_space
from harness.tuning.sharing import largest

BUDGET = "[budget]\ntrials = 3\nepochs = 2\n"

CONDITION = """
[parameters.dropout]
type = "float"
low = 0.1
high = 0.5
only_if = {{ {} }}
[parameters.layers]
type = "int"
low = 1
high = 3
"""

LAYERS = "[parameters.layers]\ntype = 'int'\nlow = 1\nhigh = 3"
STRIDE = "[parameters.stride]\ntype = 'int'\nlow = 10\nhigh = 30\nstep = 10"
BAD = [
    ("", "budget: Field required"),
    (
        BUDGET + "[parameters.los]\ntype = 'categorical'\nchoices = ['ccc']",
        "no such hyperparameter",
    ),
    (
        BUDGET + "[parameters.loss]\ntype = 'categorical'\nchoices = ['cc']",
        "must be one of ccc, pcc, mse, got 'cc'",
    ),
    (BUDGET + "[parameters.lr]\ntype = 'float'\nlow = 1.0\nhigh = 0.1", "low = 1.0 is above high"),
    (BUDGET + "[parameters.lr]\ntype = 'float'\nlow = 0.0\nhigh = 0.1\nlog = true", "above 0"),
    (BUDGET + "[parameters.lr]\ntype = 'flot'\nlow = 0.0\nhigh = 0.1", "parameters.lr"),
    (BUDGET + "[parameters.lr]\ntype = 'float'\nlow = 0.1\nhihg = 0.2", "parameters.lr.float.h"),
    (BUDGET + "[parameters.stride]\ntype = 'int'\nlow = 0\nhigh = 3", "stride must be at least 1"),
    (BUDGET + "[parameters.stride]\ntype = 'float'\nlow = 1.0\nhigh = 3.0", "does not fit"),
    (BUDGET + "[parameters.interval]\ntype = 'float'\nlow = 1.0\nhigh = 3.0", "give choices, or"),
    (BUDGET + "[parameters.interval]\ntype = 'categorical'\nchoices = [0.0, 1.0]", "no interval"),
    (BUDGET + "[fixed]\nstride = 10\ninterval = 0.5\n[parameters]", "keep one of the two"),
    (BUDGET + "[fixed]\ninterval = 0.5\n" + STRIDE, "stride and interval are both set"),
    (BUDGET + "[[start]]\ninterval = 0.5\n" + STRIDE, "stride and interval are both set"),
    (BUDGET + "[parameters.seed]\ntype = 'int'\nlow = 0\nhigh = 3", "`seed`"),
    (BUDGET + "[fixed]\nlayers = 'two'\n[parameters]", "layers must be of type int, got 'two'"),
    (BUDGET + "[fixed]\nepochs = 3\n[parameters]", "budget.epochs"),
    (BUDGET + "[[start]]\nlr = -0.1\n[parameters]", "start[0].lr: lr must be above 0"),
    (BUDGET + "[[start]]\nepochs = 9\n[parameters]", "start[0].epochs: give it as budget.epochs"),
    (
        BUDGET + "[parameters.lr]\ntype = 'float'\nlow = 0.1\nhigh = 0.2\nlog = true\nstep = 0.1",
        "log = true and a step",
    ),
    (BUDGET + CONDITION.format("layres = [2]"), "only_if.layres: no such hyperparameter"),
    (BUDGET + CONDITION.format("loss = ['ccc']"), "only_if.loss: loss is not searched"),
    (BUDGET + CONDITION.format("layers = [7]"), "only_if.layers: 7 is outside"),
    (
        BUDGET + CONDITION.format("dropout = [0.1]"),
        "only_if of dropout is circular",
    ),
    (
        BUDGET + "[[start]]\nlayers = 1\ndropout = 0.1\n" + CONDITION.format("layers = [2]"),
        "start[0].dropout: its only_if does not hold here",
    ),
    (BUDGET + "[grid.values]\nlr = [0.1]\n[parameters]", "grid.values.lr: lr is not searched"),
    (
        BUDGET + "[grid.values]\nlayers = [4]\n" + CONDITION.format("layers = [2]"),
        "grid.values.layers: 4 is outside",
    ),
    (
        BUDGET + "[[start]]\nlayers = 9\n[parameters.layers]\ntype = 'int'\nlow = 1\nhigh = 3",
        "start[0].layers: 9 is outside",
    ),
    (
        BUDGET + "[[start]]\nstride = 7\n[parameters.stride]\ntype = 'int'\nlow = 5\nhigh = 30\n"
        "step = 5",
        "start[0].stride: 7 is outside",
    ),
    (
        BUDGET + "[grid.values]\nlayers = [2.0]\n" + CONDITION.format("layers = [2]"),
        "grid.values.layers: 2.0 is outside",
    ),
    (
        BUDGET + "[grid.values]\nshuffle = [1]\n[parameters.shuffle]\ntype = 'categorical'\n"
        "choices = [true, false]",
        "grid.values.shuffle: shuffle must be of type bool, got 1",
    ),
    (
        BUDGET + "[parameters.epochs]\ntype = 'int'\nlow = 10\nhigh = 20",
        "parameters.epochs: give it as budget.epochs",
    ),
    (BUDGET + "[fixed]\npatience = 0\n[parameters]", "fixed.patience: patience must be at least 1"),
    ("budget = ", "not readable as TOML"),
    (BUDGET + "[fixed]\nbatch_size = 2\n[parameters]", "batch_size: a batch of 2 is too small for"),
    (
        BUDGET + "[parameters.batch_size]\ntype = 'int'\nlow = 1\nhigh = 64\nlog = true",
        "batch_size: a batch of 1 is too small for the loss ccc",
    ),
    (
        BUDGET + "[fixed]\nbatch_size = 2\n[parameters.loss]\ntype = 'categorical'\n"
        "choices = ['mse', 'pcc']",
        "batch_size: a batch of 2 is too small for the loss pcc",
    ),
    (
        BUDGET + "[[start]]\nbatch_size = 2\nlr = 0.1\n[parameters.lr]\ntype = 'float'\n"
        "low = 0.01\nhigh = 0.1",
        "start[0].batch_size: a batch of 2 is too small for the loss ccc",
    ),
]

SMALL_BATCHES = {
    "squared error": "[fixed]\nloss = 'mse'\nbatch_size = 1\n[parameters.lr]\n",
    "all targets together": "[fixed]\nreduction = 'flat'\nbatch_size = 1\n[parameters.lr]\n",
    "a condition": "[parameters.loss]\ntype = 'categorical'\nchoices = ['ccc', 'mse']\n"
    "[parameters.batch_size]\ntype = 'categorical'\nchoices = [1, 8]\nonly_if = {loss = ['mse']}\n"
    "[parameters.lr]\n",
}


@pytest.mark.parametrize("case", SMALL_BATCHES)
def test_small_batches_are_for_losses_that_are_no_correlation(tmp_path: Path, case: str) -> None:
    path = tmp_path / "space.toml"
    lr = "type = 'float'\nlow = 0.01\nhigh = 0.1\n"
    path.write_text(f"{BUDGET}{SMALL_BATCHES[case]}{lr}")
    assert read_space(path).path == path


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_spaces_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_space(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_space_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such search space; choose one of demo, "):
        find_space(str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match=r"none\.toml: no such search space"):
        read_space(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_space_of_the_project_is_sound(path: Path) -> None:
    space = read_space(path)
    assert path.read_text().startswith("# python -m harness.search"), "begins with its command"
    for point in space.start:
        TrialConfig.from_dict(space.fixed | point)


def test_a_start_point_may_set_what_is_not_searched(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        BUDGET + "[fixed]\nstride = 10\noptimiser = 'adamw'\n[parameters.layers]\ntype = 'int'\n"
        "low = 1\nhigh = 3\n[[start]]\nlayers = 2\noptimiser = 'adam'\nstride = 4\nhidden = 999"
    )
    space = read_space(path)
    own = {"optimiser": "adam", "stride": 4, "hidden": 999}
    assert space.parts(space.start[0]) == ({"layers": 2}, own)
    assert space.samplings() == strides(4, 10), "its frames are extracted, too"
    (config,) = largest(space)
    assert config.own.hidden == 999, "its memory counts, too"
    assert space.without("stride", 1).start == ({"layers": 2, "optimiser": "adam", "hidden": 999},)


def test_the_papers_setting_is_a_start_point() -> None:
    """As in the authors' public code: section 4 of their paper, and `train.py`."""
    space = read_space(SPACES / "paper.toml")
    config = TrialConfig.from_dict(space.fixed | space.start[1])
    assert config == TrialConfig.of(
        loss="ccc", reduction="flat", stride=30, sequence="fixed-12", layers=2, hidden=128,
        head_width=128, optimiser="adam", lr=0.01, weight_decay=0.001, schedule="plateau-loss",
        clip_norm=0.0, batch_size=128, last_batch="drop", shuffle=False, epochs=50, patience=50,
        normalise=False, ema=0.0, initial="uniform",
    )  # fmt: skip


def test_strides_are_the_union_of_what_a_trial_may_ask(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(BUDGET + "[parameters.stride]\ntype = 'int'\nlow = 10\nhigh = 30\nstep = 10")
    assert read_space(path).samplings() == strides(10, 20, 30)
    path.write_text(BUDGET + "[fixed]\nstride = 7\n[parameters]")
    assert read_space(path).samplings() == strides(7)


def test_intervals_are_samplings_in_place_of_strides(tmp_path: Path) -> None:
    searched = "[parameters.interval]\ntype = 'categorical'\nchoices = [1, 0.5]\n"
    space = written(tmp_path, searched)
    assert space.samplings() == (Sampling(interval=0.5), Sampling(interval=1.0))
    conditional = written(tmp_path, f"{searched}only_if = {{ layers = [2] }}\n" + LAYERS)
    assert conditional.samplings() == (Sampling(interval=0.5), Sampling(interval=1.0), *strides(30))
    study = optuna.create_study(study_name="s")
    study.ask().set_user_attr("config", {"stride": 30, "interval": 0.5})
    assert space.agree(study) == []
    with pytest.raises(
        InputError, match=r"was trained at interval 0.5 s, this space has stride 30"
    ):
        written(tmp_path, "[parameters]").agree(study)


def written(folder: Path, text: str) -> SearchSpace:
    path = folder / "space.toml"
    path.write_text(BUDGET + text)
    return read_space(path)


def test_a_hyperparameter_is_searched_only_if_its_condition_holds(tmp_path: Path) -> None:
    space = written(tmp_path, CONDITION.format("layers = [2, 3]"))
    assert list(space.distributions) == ["layers", "dropout"], "after what it depends on"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [space.suggest(study.ask()) for _ in range(30)]
    assert {p["layers"] for p in points} == {1, 2, 3}
    assert all(("dropout" in p) is (p["layers"] > 1) for p in points)


def test_fixing_what_others_depend_on_settles_their_conditions(tmp_path: Path) -> None:
    space = written(tmp_path, CONDITION.format("layers = [2, 3]"))
    assert list(space.without("layers", 1).distributions) == []
    assert list(space.without("layers", 2).distributions) == ["dropout"]
    assert not space.without("layers", 2).only_if


def test_a_grid_has_every_point_once(tmp_path: Path) -> None:
    grid = "[grid]\nrepeats = 2\nvalues = { dropout = [0.1, 0.2] }\n"
    space = written(tmp_path, grid + CONDITION.format("layers = [2, 3]"))
    assert space.repeats == 2
    assert space.grid() == [
        {"layers": 1},
        {"layers": 2, "dropout": 0.1},
        {"layers": 2, "dropout": 0.2},
        {"layers": 3, "dropout": 0.1},
        {"layers": 3, "dropout": 0.2},
    ]


def test_a_grid_needs_values_of_what_has_no_steps(tmp_path: Path) -> None:
    space = written(tmp_path, CONDITION.format("layers = [2, 3]"))
    with pytest.raises(InputError, match=r"give them as grid\.values\.dropout"):
        space.grid()


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ("type = 'categorical'\nchoices = ['ccc']", "choices ccc, pcc, here are choices ccc"),
        ("type = 'categorical'\nchoices = ['ccc', 'pcc']", None),
    ],
)
def test_a_study_goes_on_with_the_choices_that_it_was_begun_with(
    tmp_path: Path, parameter: str, told: str | None
) -> None:
    study = optuna.create_study(study_name="s")
    study.ask({"loss": optuna.distributions.CategoricalDistribution(["ccc", "pcc"])})
    space = written(tmp_path, f"[parameters.loss]\n{parameter}")
    if told is None:
        space.agree(study)
        return
    with pytest.raises(InputError, match=rf"parameters.loss: trial 0 of study s .*{told}"):
        space.agree(study)


def test_a_study_may_go_on_within_other_bounds_of_the_same_kind(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s")
    study.ask({"lr": optuna.distributions.FloatDistribution(0.001, 0.1, log=True)})
    wanted = "[parameters.lr]\ntype = 'float'\nlow = 0.01\nhigh = 0.05\n"
    written(tmp_path, wanted + "log = true").agree(study)
    with pytest.raises(InputError, match="numbers by logarithms, here are numbers; choose another"):
        written(tmp_path, wanted).agree(study)


def test_a_study_goes_on_at_the_strides_that_it_was_begun_with(tmp_path: Path) -> None:
    """What repeats a trial needs its frames."""
    study = optuna.create_study(study_name="s")
    study.ask().set_user_attr("config", {"stride": 2})
    with pytest.raises(
        InputError, match="trial 0 of study s was trained at stride 2, this space has stride 6"
    ):
        written(tmp_path, "[fixed]\nstride = 6\n[parameters]").agree(study)


def test_other_bounds_are_named(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s")
    study.ask({"lr": optuna.distributions.FloatDistribution(0.001, 0.1)})
    wanted = "[parameters.lr]\ntype = 'float'\nhigh = 0.1\nlow = "
    assert written(tmp_path, wanted + "0.001").agree(study) == []
    assert written(tmp_path, wanted + "0.002").agree(study) == ["lr"]


def test_start_points_are_rounded_to_their_step(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    text = """
[budget]
trials = 1
epochs = 1
[parameters.dropout]
type = "float"
low = 0.0
high = 0.3333334
step = 0.1666667
[grid.values]
dropout = [0.1666666]
[[start]]
dropout = 0.3333333
"""
    path.write_text(text)
    space = read_space(path)
    assert space.start == ({"dropout": 2 * 0.1666667},)
    assert space.grid() == [{"dropout": 0.1666667}]
    study = optuna.create_study()
    study.enqueue_trial(space.start[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna's, for values outside
        assert space.suggest(study.ask()) == space.start[0]
    path.write_text(text.replace("0.3333333", "0.33"))
    with pytest.raises(InputError, match=r"start\[0\].dropout: 0.33 is outside"):
        read_space(path)


@pytest.mark.parametrize(
    ("kind", "high", "step", "last", "noted"),
    [
        ("float", "0.5", "0.1666667", 0.5000001, ""),  # nearly on a step
        ("float", "0.9", "0.3", 0.9, ""),
        ("float", "0.5", "0.2", 0.4, "high = 0.5 is not on a step; the highest value is 0.4"),
        ("int", "6", "4", 5, "high = 6 is not on a step; the highest value is 5"),
    ],
)
def test_bounds_are_a_number_of_steps_apart(
    tmp_path: Path, kind: str, high: str, step: str, last: float, noted: str
) -> None:
    name, low = ("dropout", "0.0") if kind == "float" else ("layers", "1")
    path = tmp_path / "space.toml"
    path.write_text(
        f"[budget]\ntrials = 1\nepochs = 1\n[parameters.{name}]\ntype = '{kind}'\n"
        f"low = {low}\nhigh = {high}\nstep = {step}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna's
        space = read_space(path)
    assert space.distributions[name].high == last  # type: ignore[attr-defined]
    assert [note.removeprefix(f"{path}, parameters.{name}: ") for note in space.notes] == (
        [noted] if noted else []
    )


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text((SPACES / "smoke.toml").read_text(), encoding="utf-8-sig")
    assert read_space(path).budget.trials == 3
