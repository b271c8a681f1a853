"""What a finished trial leaves in its study's folder: a checkpoint and predictions."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

import harness
from harness.dataset import Dataset
from harness.models.model_file import write_model
from harness.predictions import PredictionInfo, trial_name, write_predictions
from harness.study.folder import StudyFolder
from harness.trials.trial import TrialResult


def save_trial(folder: StudyFolder, number: int, result: TrialResult, clips: Dataset) -> None:
    """Writes a trial's model and then its predictions; both are complete on return."""
    manifest = folder.manifest()
    model = replace(result.model, name=trial_name(number))
    write_model(folder.model_file(number), model)
    slope, offset = model.calibration
    info = PredictionInfo(
        trial_id=trial_name(number),
        config=model.config.to_dict(),
        seed=model.config.seed,
        code_version=harness.__version__,
        data_fingerprint=manifest["data"],
        feature_fingerprint=manifest["features"],
        targets=clips.target_names,
        early_stop_split=manifest["early_stop_split"],
        best_epoch=result.best.number,
        val_pcc=result.score,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        slope=tuple(slope.tolist()),
        offset=tuple(offset.tolist()),
        optimism=result.optimism,
        error=result.error if np.isfinite(result.error) else None,
    )
    write_predictions(folder.prediction_file(number), info, clips, result.predictions)
