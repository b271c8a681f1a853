"""Prediction files, schema 1: one Parquet a trial, one row a clip, one column a target.

A file states what it was made from, and a reader refuses it, by name and with the reason, rather
than average rows that belong to other clips.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.dataset import Dataset
from harness.errors import InputError
from harness.metrics import mean_pcc
from harness.parquet import sealed_content, writing

SCHEMA_VERSION = "1"
#: The order of row groups; val first, since selection reads nothing else.
SPLIT_ORDER = ("val", "test", "train")
# The recorded score is float64 of float32 predictions: a larger difference is another file.
SCORE_TOLERANCE = 1e-6
_PREFIX = "harness."
#: Hume-Reaction has 25,067. A file that promises more is not read.
MOST_CLIPS = 1_000_000
# Of a cell on average: an id has at most 130 characters.
_MOST_BYTES = 4096


@dataclass(frozen=True)
class PredictionInfo:
    """What a prediction file says about itself.

    created: UTC, ISO 8601.
    slope, offset: (targets) each; a prediction is slope x raw output + offset (of several heads,
        as `Model.calibration` says). Empty in files of earlier versions, whose predictions are raw.
    optimism: split -> by how much the score on it is expected to be optimistic, because the split
        chose the epoch. Empty if it was not estimated.
    error: standard error of `val_pcc` over clips or persons; None if it is not known.
    """

    trial_id: str
    config: dict[str, Any]
    seed: int
    code_version: str
    data_fingerprint: str
    feature_fingerprint: str
    targets: tuple[str, ...]
    early_stop_split: str
    best_epoch: int
    val_pcc: float
    created: str
    slope: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    optimism: Mapping[str, float] = field(default_factory=dict)
    error: float | None = None

    @property
    def corrected(self) -> float | None:
        """`val_pcc` without its expected optimism; None if that was not estimated."""
        return self.val_pcc - self.optimism["val"] if "val" in self.optimism else None


def trial_name(number: int) -> str:
    """The id of a trial; padded, so that names sort as numbers do."""
    return f"{number:05d}"


def write_clips(path: Path, clips: Dataset) -> None:
    """Writes a study's clips, once."""
    columns: dict[str, Any] = {
        "clip_id": pa.array(clips.clip_ids, pa.string()),
        "split": pa.array(clips.splits, pa.string()),
    }
    if clips.groups is not None:
        columns["group"] = pa.array(clips.groups, pa.string())
    for column, name in enumerate(clips.target_names):
        columns[name] = pa.array(clips.ratings[:, column], pa.float32())
    notes = {"targets": list(clips.target_names), "synthetic": clips.synthetic}
    table = pa.table(columns).replace_schema_metadata(_metadata(notes))
    with writing(path, table.schema) as writer:
        writer.write_table(table)


def read_clips(path: Path) -> Dataset:
    """Reads a study's clips. InputError if the file is missing, damaged or of another schema."""
    table, notes = _opened(path)
    return Dataset(
        clip_ids=tuple(table["clip_id"].to_pylist()),
        splits=tuple(table["split"].to_pylist()),
        targets=_matrix(table, notes["targets"]),
        target_names=tuple(notes["targets"]),
        groups=tuple(table["group"].to_pylist()) if "group" in table.column_names else None,
        synthetic=bool(notes["synthetic"]),
    )


def write_predictions(
    path: Path,
    info: PredictionInfo,
    clips: Dataset,
    predictions: Mapping[str, NDArray[np.float32]],
) -> None:
    """Writes a trial's predictions atomically.

    Args:
        predictions: split -> (clips of the split in their order, targets).

    Raises:
        ValueError: another shape than the clips say, NaN or infinity; nothing is written.
    """
    splits = [split for split in SPLIT_ORDER if split in predictions]
    _check_complete(clips, predictions, splits)
    digests = {split: clips.ids_digest(split) for split in splits}
    schema = _schema(clips.target_names, _metadata(_notes(info) | {"clips": digests}))
    with writing(
        path,
        schema,
        compression_level=3,
        use_dictionary=["split"],
        use_byte_stream_split=list(clips.target_names),
    ) as writer:
        for split in splits:
            writer.write_table(_split_table(schema, clips, split, predictions[split]))


def read_predictions(
    path: Path, clips: Dataset, split: str
) -> tuple[PredictionInfo, NDArray[np.float32]]:
    """Reads one split's predictions, (clips of the split in their order, targets).

    Raises:
        InputError: the file is damaged, of another schema, of other targets or clips, holds NaN or
            infinity, or, of val, a constant column or another score than the recorded one.
    """
    table, notes = _opened(path, split)
    try:
        digest = notes["clips"].get(split)
        names = {each.name for each in fields(PredictionInfo)}
        known: dict[str, Any] = {k: v for k, v in notes.items() if k in names}
        for name in {"targets", "slope", "offset"} & set(known):
            known[name] = tuple(known[name])
        info = PredictionInfo(**known)
        if any(len(info.targets) != len(part) for part in (info.slope, info.offset) if part):
            raise ValueError("a calibration of other targets")
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: incomplete metadata ({error})") from error
    if info.targets != clips.target_names:
        raise InputError(
            f"{path}: targets are {', '.join(info.targets)}; "
            f"the study has {', '.join(clips.target_names)}"
        )
    if digest is None:
        raise InputError(f"{path}: holds no predictions for {split}")
    ids = clips.ids(split)
    if len(table) != len(ids):
        raise InputError(f"{path}: {len(table)} rows for {split}, the study has {len(ids)} clips")
    if digest != clips.ids_digest(split) or table["clip_id"].to_pylist() != ids:
        raise InputError(f"{path}: other clips, or another order, than the study's {split}")
    values = _matrix(table, info.targets)
    _check_values(path, values, info.targets, scored=split == "val")
    if split == "val":
        _check_score(path, clips, values, info.val_pcc)
    return info, values


def _notes(info: PredictionInfo) -> dict[str, Any]:
    config = json.dumps(info.config, sort_keys=True)
    return asdict(info) | {"config_sha256": hashlib.sha256(config.encode()).hexdigest()}


def _metadata(notes: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The metadata of the schema, each value as JSON."""
    values = {"schema_version": SCHEMA_VERSION, **notes}
    return {
        (_PREFIX + name).encode(): json.dumps(value, sort_keys=True).encode()
        for name, value in values.items()
    }


def _opened(path: Path, split: str | None = None) -> tuple[pa.Table, dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with pq.ParquetFile(sealed_content(path), page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            texts = {k.decode(): v for k, v in metadata.items()}
            notes = {
                k.removeprefix(_PREFIX): json.loads(v)
                for k, v in texts.items()
                if k.startswith(_PREFIX)
            }
            if notes.get("schema_version") != SCHEMA_VERSION:
                raise InputError(
                    f"{path}: schema {notes.get('schema_version')}, this harness reads "
                    f"{SCHEMA_VERSION}"
                )
            _check_size(path, file.metadata)
            return _row_group(file, notes, split), notes
    except InputError:
        raise
    # A damaged file can trip pyarrow anywhere, so that the kinds of its errors are many.
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, MemoryError) as error:
        raise InputError(f"{path}: damaged: {error}") from error


def _check_size(path: Path, metadata: pq.FileMetaData) -> None:
    """Before memory is taken: a row repeated without end compresses to nothing."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if metadata.num_rows > MOST_CLIPS or any(
        group.total_byte_size > _MOST_BYTES * (group.num_rows + 1) * group.num_columns
        for group in groups
    ):
        raise InputError(
            f"{path}: {metadata.num_rows} rows of {sum(g.total_byte_size for g in groups)} bytes; "
            f"the harness writes at most {MOST_CLIPS}, of ids and numbers"
        )


def _row_group(file: pq.ParquetFile, notes: dict[str, Any], split: str | None) -> pa.Table:
    if split is None:
        return file.read()
    splits = [name for name in SPLIT_ORDER if name in notes["clips"]]
    if split not in splits:
        return file.schema_arrow.empty_table()
    table = file.read_row_group(splits.index(split), use_threads=False)
    if set(table["split"].unique().to_pylist()) - {split}:
        raise ValueError(f"rows of another split among those of {split}")
    return table


def _schema(targets: tuple[str, ...], metadata: dict[bytes, bytes]) -> pa.Schema:
    columns = [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("split", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in targets),
    ]
    return pa.schema(columns, metadata)


def _split_table(
    schema: pa.Schema, clips: Dataset, split: str, values: NDArray[np.float32]
) -> pa.Table:
    ids = clips.ids(split)
    label = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(ids), np.int32)), pa.array([split], pa.string())
    )
    columns = [pa.array(values[:, c], pa.float32()) for c in range(values.shape[1])]
    return pa.Table.from_arrays([pa.array(ids, pa.string()), label, *columns], schema=schema)


def _matrix(table: pa.Table, targets: list[str] | tuple[str, ...]) -> NDArray[np.float32]:
    try:
        columns = [table[name].to_numpy().astype(np.float32, copy=False) for name in targets]
    except KeyError as error:
        raise InputError(f"no column {error}") from error
    # Column by column in memory: what is summed is summed down a column.
    return np.stack(columns).T


def _check_complete(
    clips: Dataset, predictions: Mapping[str, NDArray[np.float32]], splits: list[str]
) -> None:
    unknown = set(predictions) - set(splits)
    if unknown:
        raise ValueError(f"unknown splits {sorted(unknown)}; expected some of {SPLIT_ORDER}")
    for split in splits:
        expected = (len(clips.rows(split)), len(clips.target_names))
        if predictions[split].shape != expected:
            raise ValueError(f"{split}: expected {expected}, got {predictions[split].shape}")
        if not np.isfinite(predictions[split]).all():
            raise ValueError(f"{split}: predictions hold NaN or infinity")


def _check_values(
    path: Path, values: NDArray[np.float32], targets: tuple[str, ...], scored: bool
) -> None:
    """scored: what is constant has no score. Of test it may be: clips without a file, say, are all
    predicted by the mean rating of train."""
    for column, name in enumerate(targets):
        if not np.isfinite(values[:, column]).all():
            raise InputError(f"{path}: {name} holds NaN or infinity")
        if scored and len(values) > 1 and np.ptp(values[:, column]) == 0:
            raise InputError(f"{path}: {name} is constant, its correlation is undefined")


def _check_score(path: Path, clips: Dataset, values: NDArray[np.float32], recorded: float) -> None:
    truth = clips.ratings[clips.rows("val")]
    labelled = ~np.isnan(truth).any(axis=1)
    if not labelled.all():
        truth, values = truth[labelled], values[labelled]
    found = mean_pcc(np.asfortranarray(truth), values)
    if not abs(found - recorded) <= SCORE_TOLERANCE:
        raise InputError(f"{path}: mean PCC on val is {found:.6f}, recorded is {recorded:.6f}")
