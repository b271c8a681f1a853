"""What a finished trial leaves in its study's folder: a checkpoint and predictions."""

from datetime import UTC, datetime

import harness
from harness.models.checkpoint import Head, write_head
from harness.predictions import ClipIndex, PredictionInfo, trial_name, write_predictions
from harness.study.folder import StudyFolder
from harness.trials.trial import TrialResult


def save_trial(folder: StudyFolder, number: int, result: TrialResult, index: ClipIndex) -> None:
    """Writes a trial's head and then its predictions; both are complete on return."""
    manifest = folder.manifest()
    config = result.config.to_dict()
    write_head(
        folder.head_file(number),
        Head(
            trial=trial_name(number),
            config=result.config,
            targets=index.target_names,
            features=manifest["features"],
            early_stop_split=manifest["early_stop_split"],
            fill=result.fill,
            weights=result.weights,
        ),
    )
    info = PredictionInfo(
        trial_id=trial_name(number),
        config=config,
        seed=result.config.seed,
        code_version=harness.__version__,
        data_fingerprint=manifest["data"],
        feature_fingerprint=manifest["features"],
        targets=index.target_names,
        early_stop_split=manifest["early_stop_split"],
        best_epoch=result.best.number,
        val_pcc=result.score,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_predictions(folder.prediction_file(number), info, index, result.predictions)
