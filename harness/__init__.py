"""Search and ensembles for Emotional Reaction Intensity estimation.

The names below are for notebooks and scripts; each is imported when it is first asked for, so that
reading results needs no torch.

    import harness

    study = harness.run_search(trials=24)  # or harness.load_study("results/demo")
    study.trials()                        # a row a trial
    ensemble = study.ensemble(top=5)      # an Ensemble
    study.predictions(ensemble, "val")    # a row a clip, a column a target

    predict = harness.load_ensemble("results/demo/ensembles/mean-top5")
    predict("CLIPS", "FILE")              # new clips: a row a clip
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.encoders.mtl_dan.network import MTLDAN
    from harness.ensembles.ensemble import Ensemble
    from harness.ensembles.library import PredictionMatrix
    from harness.errors import InputError
    from harness.interface import run_search
    from harness.metrics import mean_pcc
    from harness.models.config import TrialConfig
    from harness.models.model import Model
    from harness.models.model_file import read_model
    from harness.predictor import Predictor
    from harness.predictor import load as load_ensemble
    from harness.results import StudyResults, load_study

__version__ = "0.1.0"
__all__ = [
    "MTLDAN",
    "Ensemble",
    "InputError",
    "Model",
    "PredictionMatrix",
    "Predictor",
    "StudyResults",
    "TrialConfig",
    "load_ensemble",
    "load_study",
    "mean_pcc",
    "read_model",
    "run_search",
]

# Where each name is defined, and its name there.
_HOMES = {
    "MTLDAN": ("harness.encoders.mtl_dan.network", "MTLDAN"),
    "Ensemble": ("harness.ensembles.ensemble", "Ensemble"),
    "InputError": ("harness.errors", "InputError"),
    "Model": ("harness.models.model", "Model"),
    "PredictionMatrix": ("harness.ensembles.library", "PredictionMatrix"),
    "Predictor": ("harness.predictor", "Predictor"),
    "StudyResults": ("harness.results", "StudyResults"),
    "TrialConfig": ("harness.models.config", "TrialConfig"),
    "load_ensemble": ("harness.predictor", "load"),
    "load_study": ("harness.results", "load_study"),
    "mean_pcc": ("harness.metrics", "mean_pcc"),
    "read_model": ("harness.models.model_file", "read_model"),
    "run_search": ("harness.interface", "run_search"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
