"""Ensembles in memory, and what they predict."""

import pandas as pd

from harness.ensembles.ensemble import Ensemble
from harness.ensembles.selection import Recipe
from harness.models.model import Model
from harness.predictor import Predictor

#: The outputs of a head are rounded (6e-8) by the clips beside. After a short training they hardly
#: vary, and the calibration has a slope of some hundreds.
ROUNDING = 2e-4


def check_same(found: pd.DataFrame, stored: pd.DataFrame) -> None:
    """The stored predictions (clips, targets) are among those that were found, by id."""
    pd.testing.assert_frame_equal(found.loc[stored.index], stored, rtol=0, atol=ROUNDING)


def ensemble_of(*models: Model) -> Predictor:
    """The mean of some models."""
    targets, share = models[0].targets, 1 / len(models)
    ensemble = Ensemble(
        name="mean", method="mean", recipe=Recipe(), studies=("s",),
        members=tuple(model.name for model in models), weights=(share,) * len(models),
        target_weights=None, standardisation=None, targets=targets, synthetic=False, clips=1,
        naive=0.0, pcc=(0.0,) * len(targets), best_single=models[0].name, best_single_naive=0.0,
        estimate=None, early_stopped=True, optimism=None, hold_out=None, test=None, test_clips=0,
        member_reports=(), effective_members=1.0, independent_members=1.0, eligible=len(models),
        refused=0, duplicates=0, filled=0, versions={},
    )  # fmt: skip
    return Predictor(ensemble, models)
