"""Search and ensembles for Emotional Reaction Intensity estimation.

The names below are for notebooks and scripts; each is imported when it is first asked for, so that
reading results needs no torch.

    import harness

    study = harness.load_study("results/demo")
    study.trials()                        # a row a trial
    ensemble = study.ensemble(top=5)      # an Ensemble
    study.predictions(ensemble, "val")    # a row a clip, a column a target
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.encoders.mtl_dan.network import MTLDAN
    from harness.ensembles.ensemble import Ensemble
    from harness.ensembles.library import PredictionMatrix
    from harness.ensembles.notebook import StudyResults, load_study
    from harness.metrics import mean_pcc

__version__ = "0.1.0"
__all__ = ["MTLDAN", "Ensemble", "PredictionMatrix", "StudyResults", "load_study", "mean_pcc"]

_HOMES = {
    "MTLDAN": "harness.encoders.mtl_dan.network",
    "Ensemble": "harness.ensembles.ensemble",
    "PredictionMatrix": "harness.ensembles.library",
    "StudyResults": "harness.ensembles.notebook",
    "load_study": "harness.ensembles.notebook",
    "mean_pcc": "harness.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
