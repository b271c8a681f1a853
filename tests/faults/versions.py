"""Files of a study that another version of the harness wrote."""

import random
from pathlib import Path
from unittest.mock import patch

from harness import predictions
from harness.models import model_file
from harness.models.model_file import read_model, write_model
from harness.predictions import read_clips, read_predictions, write_clips, write_predictions
from harness.sealed import ENSEMBLE, read_sealed, write_sealed
from tests.faults import models
from tests.faults.commands import command
from tests.faults.corruption import ensemble
from tests.faults.fault import fault, turn
from tests.faults.surroundings import check_said
from tests.faults.whole import contents


def _older_predictions(results: Path) -> str:
    file = sorted((results / "s" / "predictions").glob("*.parquet"))[0]
    index = read_clips(results / "s" / "clips.parquet")
    found = {split: read_predictions(file, index, split) for split in ("val", "test")}
    with patch.object(predictions, "SCHEMA_VERSION", 0):
        values = {split: values for split, (_, values) in found.items()}
        write_predictions(file, found["val"][0], index, values)
    return file.name


def _older_clips(results: Path) -> str:
    file = results / "s" / "clips.parquet"
    index = read_clips(file)
    with patch.object(predictions, "SCHEMA_VERSION", 0):
        write_clips(file, index)
    return file.name


def _older_model(results: Path) -> str:
    built = results / "s" / "ensembles" / "mean-top2"
    member = read_sealed(built / "ensemble.json", ENSEMBLE)["members"][0]
    file = results / "s" / "heads" / f"{member}.safetensors"
    model = read_model(file)
    with patch.object(model_file, "_SCHEMA", "model 0"):
        write_model(file, model)
    return file.name


def _older_ensemble(results: Path) -> str:
    file = results / "s" / "ensembles" / "mean-top2" / "ensemble.json"
    write_sealed(file, "ensemble 0", read_sealed(file, ENSEMBLE))
    return file.name


#: What another version wrote, and the command that reads it.
OLDER = {
    "predictions": (_older_predictions, "ensemble"),
    "clips": (_older_clips, "ensemble"),
    "model": (_older_model, "predict"),
    "ensemble": (_older_ensemble, "predict"),
}


@fault("surroundings", "files of a trial or an ensemble written by another version", len(OLDER))
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    assert ensemble(results).code == 0
    built = results / "s" / "ensembles" / "mean-top2"
    make, reader = OLDER[turn(OLDER, "older files")]
    name = make(results)
    before = contents(results / "s")
    if reader == "ensemble":
        done = ensemble(results)
    else:
        line = ["--ensemble", built, "--data", models.given_features(), "--out", folder / "o.csv"]
        done = command(folder, "predict", *line)
    if make is _older_predictions:
        # The other trials are combined; this one is named.
        assert done.code == 0, done
        assert f"{name}: schema 0, this harness reads 1" in done.said, done
    else:
        check_said(done, name, "schema")
    after = contents(results / "s")
    kept = {path for path in before if not path.startswith("ensembles/")}
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
