"""Laws of the scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.metrics import ccc, mean_pcc, pcc


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(3, 60)), draw(st.integers(1, 7))
    scale = 10.0 ** draw(st.integers(-6, 6))
    return rng.random(shape), rng.random(shape) * scale + draw(st.floats(-5, 5))


@given(pairs())
def test_scores_equal_scipy_and_are_bounded(pair: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = pair
    r = pcc(y, p)
    expected = [stats.pearsonr(y[:, d], p[:, d]).statistic for d in range(y.shape[1])]
    np.testing.assert_allclose(r, expected, atol=1e-6)
    assert (np.abs(ccc(y, p)) <= np.abs(r) + 1e-9).all()
    assert (np.abs(r) <= 1).all()


@given(pairs(), st.floats(0.1, 10), st.floats(-3, 3))
def test_pcc_is_invariant_to_scale_and_shift(
    pair: tuple[np.ndarray, np.ndarray], scale: float, shift: float
) -> None:
    y, p = pair
    np.testing.assert_allclose(pcc(y, scale * p + shift), pcc(y, p), atol=1e-6)


@given(pairs())
def test_a_perfect_prediction_scores_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    y, _ = pair
    assert mean_pcc(y, y) == pytest.approx(1)
    assert ccc(y, y) == pytest.approx(1)
    assert mean_pcc(y, -y) == pytest.approx(-1)


def test_a_constant_column_gives_nan_and_a_warning() -> None:
    y = np.random.default_rng(0).random((9, 3))
    p = y.copy()
    p[:, 1] = 0.7
    with pytest.warns(UserWarning, match="y_pred constant in target 1"):
        r = pcc(y, p)
    assert np.isnan(r).tolist() == [False, True, False]
    with pytest.warns(UserWarning, match="undefined"):
        assert np.isnan(mean_pcc(y, p)), "no target is skipped"


@pytest.mark.parametrize("value", [0.1, 0.5, 1e9])
def test_the_concordance_of_a_constant_with_itself_is_undefined(value: float) -> None:
    """Also of .1, whose mean over three clips differs from it by rounding."""
    same = np.full((3, 1), value)
    assert np.isnan(ccc(same, same)).all()
    assert ccc(same, same + 1) == pytest.approx(0)


def test_float32_values_that_differ_by_rounding_are_constant() -> None:
    y = np.random.default_rng(0).random((9, 1))
    p = np.full((9, 1), 0.7, np.float32)
    p[4] = np.nextafter(p[4], np.float32(1))
    with pytest.warns(UserWarning, match="y_pred constant in target 0"):
        assert np.isnan(pcc(y, p)).all()
    assert np.isfinite(pcc(y, p.astype(np.float64))).all()


def test_the_score_is_not_a_mean_over_batches() -> None:
    rng = np.random.default_rng(0)
    y = rng.random((8, 1)) + np.repeat([[0.0], [5.0]], 4, axis=0)
    p = rng.random((8, 1)) + np.repeat([[0.0], [5.0]], 4, axis=0)
    batches = np.mean([mean_pcc(y[:4], p[:4]), mean_pcc(y[4:], p[4:])])
    assert mean_pcc(y, p) > 0.9 > batches


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), "one shape"),
        (np.zeros(3), np.zeros(3), "one shape"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "at least 2 clips"),
        (np.zeros((2, 1)), np.array([[1.0], [np.nan]]), "clip 1, target 0"),
    ],
)
def test_bad_input_is_refused(y: np.ndarray, p: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pcc(y, p)
