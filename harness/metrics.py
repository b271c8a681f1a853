"""Correlation scores, as all parts of the harness use them.

All sums are float64. A score is computed for each target over all clips of a split, not as a mean
over batches and not over the flattened matrix.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# A smaller variance of standardised values is rounding.
_NO_VARIANCE = 1e-12
# A relative range up to this is rounding, of float64 and of types with fewer bits.
_ROUNDING, _ROUNDING_OF_FLOAT32 = 1e-12, 1e-6


def pcc(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation coefficient per target.

    Args:
        y_true: ratings, shape (clips, targets).
        y_pred: predictions, shape (clips, targets). Two pandas frames are aligned by index and
            columns; the order of arrays is taken as it is.

    Returns:
        shape (targets,), each in [-1, 1]; NaN where a column is constant. The correlation is then
        undefined, and a `UserWarning` lists the columns.

    Raises:
        ValueError: the shapes differ or are not 2-D, two frames have different clips or targets,
            there are fewer than two clips, or a value is not finite.
    """
    a, b = _checked(y_true, y_pred)
    # Scaling to the unit range first avoids underflow and overflow.
    (a, constant_a), (b, constant_b) = (
        _unit_range(values, _rounding(given)) for values, given in ((a, y_true), (b, y_pred))
    )
    undefined = constant_a | constant_b
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip((a * b).sum(axis=0) / norm, -1.0, 1.0)
    if undefined.any():
        _warn_undefined(constant_a, constant_b)
    return np.where(undefined, np.nan, r)


def mean_pcc(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Mean of `pcc` over the targets: the score of the Emotional Reaction Intensity task in the
    MuSe-2022 and ABAW 5 challenges. Shapes and errors are those of `pcc`.

    The result is NaN if the correlation of any target is undefined.
    """
    return float(pcc(y_true, y_pred).mean())


def ccc(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Concordance correlation coefficient per target (Lin, 1989), with the divisor n throughout.

    2 cov(a, b) / (var a + var b + (mean a - mean b)^2); NaN only where both columns are the
    same constant. Shapes and errors are those of `pcc`.
    """
    a, b = _checked(y_true, y_pred)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance = ((a - mean_a) * (b - mean_b)).mean(axis=0)
    spread = a.var(axis=0) + b.var(axis=0) + (mean_a - mean_b) ** 2
    # Not by the variance: the mean of a constant may differ from it by rounding.
    undefined = (np.ptp(a, axis=0) == 0) & (a == b).all(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(undefined, np.nan, 2 * covariance / spread)


def standardised(values: Floats, rows: NDArray[np.bool_] | slice = slice(None)) -> Floats:
    """Standardises values (..., clips) by the mean and standard deviation of some clips."""
    some = values[..., rows]
    deviation = some.std(axis=-1, keepdims=True)
    centred = values - some.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0))


def group_sums(truth: Floats, predictions: Floats, groups: NDArray[np.intp]) -> Floats:
    """Sums over the clips of each group, from which the PCC on any resample of groups follows.

    Args:
        truth: (targets, clips).
        predictions: (models, targets, clips).
        groups: (clips,) group numbers from 0.

    Returns:
        (groups, 1 + targets x (2 + 3 models)) sums of 1, y, y^2 and of each model's p, p^2, py, of
        standardised values.
    """
    # Standardised values keep the sums of squares accurate.
    y, p = standardised(truth), standardised(predictions)
    parts = [np.ones((1, len(groups))), y, y * y]
    for model in p:
        parts += [model, model * model, model * y]
    size = int(groups.max()) + 1
    return np.stack([np.bincount(groups, row, minlength=size) for row in np.concatenate(parts)], 1)


def pcc_of_sums(sums: Floats, targets: int) -> Floats:
    """(resamples, models, targets) PCC from sums such as those of `group_sums`; NaN where it is
    undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (sums[:, 1:] / sums[:, :1]).reshape(len(sums), -1, targets)
        y, yy = means[:, None, 0], means[:, None, 1]
        p, pp, py = means[:, 2::3], means[:, 3::3], means[:, 4::3]
        variance = (yy - y * y) * (pp - p * p)
        return np.where(variance > _NO_VARIANCE, (py - p * y) / np.sqrt(variance), np.nan)


def jackknife_error(values: Floats) -> float:
    """The standard error of a statistic by the delete-one-group jackknife (Efron & Tibshirani,
    1993, section 11.2); NaN if a value is NaN.

    Args:
        values: (groups,) the statistic without each of the groups.
    """
    groups = len(values)
    return float(np.sqrt((groups - 1) / groups * ((values - values.mean()) ** 2).sum()))


def _checked(
    y_true: ArrayLike, y_pred: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if _is_frame(y_true) and _is_frame(y_pred):
        y_pred = _aligned(y_true, y_pred)
    a, b = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"expected two arrays of one shape (clips, targets), got {a.shape} and {b.shape}"
        )
    if a.shape[0] < 2:
        raise ValueError(f"a correlation needs at least 2 clips, got {a.shape[0]}")
    for name, values in (("y_true", a), ("y_pred", b)):
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"{name} is {values[row, column]} at clip {row}, target {column}")
    return a, b


def _is_frame(values: object) -> bool:
    # By its attributes: models use these scores and must not import pandas.
    return hasattr(values, "index") and hasattr(values, "columns") and hasattr(values, "loc")


def _aligned(y_true: Any, y_pred: Any) -> Any:
    """The predictions in the order of the ratings, both pandas frames."""
    for axis, ours, theirs in (
        ("clip", y_true.index, y_pred.index),
        ("target", y_true.columns, y_pred.columns),
    ):
        for name, labels in (("y_true", ours), ("y_pred", theirs)):
            if not labels.is_unique:
                twice = labels[labels.duplicated()][0]
                raise ValueError(f"{name} has {axis} {twice!r} twice; expected each once")
        for name, other, missing in (
            ("y_true", "y_pred", theirs.difference(ours, sort=False)),
            ("y_pred", "y_true", ours.difference(theirs, sort=False)),
        ):
            if len(missing):
                ids = ". Ids are text: read a csv with dtype=str for their column"
                raise ValueError(
                    f"{name} has no {axis} {missing[0]!r}, which {other} has ({len(missing)} such "
                    f"{axis}s); select the same {axis}s in both frames{ids * (axis == 'clip')}"
                )
    return y_pred.loc[y_true.index, y_true.columns]


def _rounding(given: ArrayLike) -> float:
    is_short = np.asarray(given).dtype in (np.float32, np.float16)
    return _ROUNDING_OF_FLOAT32 if is_short else _ROUNDING


def _unit_range(
    x: NDArray[np.float64], rounding: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    low, high = x.min(axis=0), x.max(axis=0)
    # A range of rounding size has no correlation.
    constant = (high - low) <= rounding * np.maximum(np.abs(low), np.abs(high))
    return (x - low) / np.where(constant, 1.0, high - low), constant


def _warn_undefined(constant_true: NDArray[np.bool_], constant_pred: NDArray[np.bool_]) -> None:
    parts = [
        f"{name} constant in target {', '.join(map(str, np.flatnonzero(constant)))}"
        for name, constant in (("y_true", constant_true), ("y_pred", constant_pred))
        if constant.any()
    ]
    warnings.warn(f"undefined correlation: {'; '.join(parts)}", UserWarning, stacklevel=3)
