"""What is seen of a running search."""

import io

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from harness.tuning.board import Board, sparkline


def make_board(width: int = 100) -> tuple[Board, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    return Board(console, 5, 0, optuna.create_study(direction="maximize")), out


def test_running_trials_stand_in_the_table() -> None:
    board, out = make_board()
    board.started(17, {"loss": "ccc", "lr": 0.00123, "stride": 30})
    board.epochs(17, [(1, 0.1), (2, 0.3)])
    board.epochs(17, [(3, 0.25)])
    board.console.print(board._render())
    header, row = out.getvalue().splitlines()[-2:]
    assert header.split() == ["trial", "epoch", "mean", "PCC", "curve", "settings"]
    assert row.split() == ["17", "3", "0.2500", "▁█▆", "loss=ccc", "stride=30", "lr=0.0012"]


def test_finished_trials_are_one_line_each_even_in_narrow_pipes() -> None:
    board, out = make_board(width=40)
    for number, (state, score) in enumerate((("COMPLETE", 0.5), ("PRUNED", 0.1), ("FAIL", None))):
        board.started(number, {"loss": "pcc"})
        board.ended(number, state, score, "out of memory" if state == "FAIL" else "")
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "mean PCC 0.5000" in lines[0]
    assert lines[2].endswith("out of memory")
    assert board.summary() == "1 complete, 1 pruned, 1 failed"
    assert (board.done, board.best) == (2, 0.5)


def test_the_time_left_follows_from_what_trials_cost() -> None:
    """Also from those of earlier searches, so that a study that continues knows it at once."""
    study = optuna.create_study(direction="maximize")
    for seconds in (60.0, 120.0, 180.0):
        study.add_trial(create_trial(value=0.5, user_attrs={"seconds": seconds, "driver": "d"}))
    board = Board(Console(file=io.StringIO()), 13, 3, study)
    assert board._left() == "about 20.0 min left"
    for number in (3, 4):
        board.started(number, {})
    assert board._left() == "about 10.0 min left", "two at the same time"
    board.rows[3].begun -= 60
    assert board._left() == "about 9.5 min left"
    board.rows[4].begun -= 120
    board.ended(4, "PRUNED", 0.1, "")
    assert board._left() == "about 8.5 min left"
    assert make_board()[0]._left() == "time left unknown yet"


def test_the_time_left_counts_the_trials_of_other_searches() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(value=0.5, user_attrs={"seconds": 60.0, "driver": "d"}))
    board = Board(Console(file=io.StringIO()), 21, 1, study)
    board.started(1, {})
    board.counted(11, 2)  # another search ended ten and runs one
    assert board.done == 11
    assert board._left() == "about 5.0 min left"


def test_repeats_that_are_not_pruned_cost_what_complete_trials_do() -> None:
    study = optuna.create_study(direction="maximize")
    for state, seconds in ((TrialState.COMPLETE, 60.0), (TrialState.PRUNED, 6.0)):
        tags = {"seconds": seconds, "driver": "d"}
        value = 0.5 if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=value, user_attrs=tags))
    board = Board(Console(file=io.StringIO()), 10, 0, study, pruned=False)
    assert board._left() == "about 10.0 min left"


def test_sparklines_show_gaps_for_undefined_scores() -> None:
    assert sparkline([0.0, float("nan"), 1.0]) == "▁ █"
    assert sparkline([float("nan")]) == ""
    assert sparkline([0.5, 0.5]) == "▁▁"


def test_a_terminal_without_utf8_gets_ascii() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    console = Console(file=out, width=100, force_terminal=True)
    board = Board(console, 5, 0, optuna.create_study(direction="maximize"))
    board.started(17, {"loss": "ccc"})
    board.epochs(17, [(1, 0.1), (2, 0.3), (3, 0.2)])
    board.rows[17].state = "RUNNING"
    with pytest.raises(UnicodeEncodeError):
        out.write("▁")
    table = board._render().renderables[1]
    console.print(table)
    out.flush()
    assert b"_@+" in out.buffer.getvalue()
