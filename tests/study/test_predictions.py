"""Prediction files: exact round trips, and everything that does not fit is refused by name."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import harness.predictions
from harness.dataset import Dataset
from harness.errors import InputError
from harness.parquet import sealed_content
from harness.predictions import (
    read_clips,
    read_predictions,
    write_clips,
    write_predictions,
)
from tests.studies import make_index, make_info, make_predictions


@pytest.fixture
def index() -> Dataset:
    return make_index()


@pytest.fixture
def file(tmp_path: Path, index: Dataset) -> Path:
    predictions = make_predictions(index, 3)
    path = tmp_path / "00003.parquet"
    write_predictions(path, make_info(index, 3, predictions["val"]), index, predictions)
    return path


def refused(file: Path, index: Dataset, message: str, split: str = "val") -> None:
    with pytest.raises(InputError, match=message) as error:
        read_predictions(file, index, split)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_round_trip_is_exact(file: Path, index: Dataset, split: str) -> None:
    expected = make_predictions(index, 3)
    info, values = read_predictions(file, index, split)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected[split])
    assert info == make_info(index, 3, expected["val"])


def test_clips_round_trip_is_exact(tmp_path: Path, index: Dataset) -> None:
    index.ratings[2] = np.nan
    for variant in (index, dataclasses.replace(index, groups=index.clip_ids, synthetic=False)):
        write_clips(tmp_path / "clips.parquet", variant)
        back = read_clips(tmp_path / "clips.parquet")
        np.testing.assert_array_equal(back.targets, variant.targets)
        for name in ("clip_ids", "splits", "target_names", "groups", "synthetic"):
            assert getattr(back, name) == getattr(variant, name)


def test_what_is_read_lies_in_memory_of_arrow(file: Path) -> None:
    """Its threads cannot free memory of Python while the interpreter ends."""
    before = pa.total_allocated_bytes()
    content = sealed_content(file)
    assert pa.total_allocated_bytes() - before >= content.size == file.stat().st_size
    assert content.to_pybytes() == file.read_bytes()


def test_pages_carry_what_the_schema_promises(file: Path) -> None:
    metadata = pq.ParquetFile(file).metadata
    assert metadata.num_row_groups == 2, "one a split, so that a split is one read"
    assert "BYTE_STREAM_SPLIT" in metadata.row_group(0).column(2).encodings
    assert "DICTIONARY" not in "".join(metadata.row_group(0).column(2).encodings)
    assert metadata.row_group(0).column(2).compression == "ZSTD"


def test_another_schema_is_refused(
    file: Path, index: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.predictions, "SCHEMA_VERSION", "2")
    refused(file, index, "schema 1, this harness reads 2")


def test_other_targets_are_refused(file: Path, index: Dataset) -> None:
    renamed = dataclasses.replace(index, target_names=("Joy", "Awe", "Fear-of-Tests"))
    refused(file, renamed, "targets are Joy, Fear-of-Tests, Awe")


def test_other_clips_are_refused(file: Path, index: Dataset) -> None:
    foreign = ("[99999]", *index.clip_ids[1:])
    other = dataclasses.replace(index, clip_ids=foreign)
    refused(file, other, "other clips", split=index.splits[0])


def test_another_order_is_refused(file: Path, index: Dataset) -> None:
    turned = dataclasses.replace(
        index,
        clip_ids=index.clip_ids[::-1],
        splits=index.splits[::-1],
        targets=index.ratings[::-1],
    )
    refused(file, turned, "another order")


def test_another_number_of_clips_is_refused(file: Path) -> None:
    refused(file, make_index(val=13), "12 rows for val, the study has 13")


def test_a_constant_column_is_refused(tmp_path: Path, index: Dataset) -> None:
    predictions = make_predictions(index, 0)
    info = make_info(index, 0, predictions["val"])
    predictions["val"][:, 1] = 0.5
    write_predictions(tmp_path / "c.parquet", info, index, predictions)
    refused(tmp_path / "c.parquet", index, "Fear-of-Tests is constant")


def test_a_constant_column_of_test_is_no_fault(tmp_path: Path, index: Dataset) -> None:
    """Clips without a file are all predicted by the mean rating of train."""
    predictions = make_predictions(index, 0)
    predictions["test"][:] = 0.5
    write_predictions(
        tmp_path / "c.parquet", make_info(index, 0, predictions["val"]), index, predictions
    )
    _, values = read_predictions(tmp_path / "c.parquet", index, "test")
    np.testing.assert_array_equal(values, predictions["test"])


@pytest.mark.parametrize("folder", ["s3:x", "exp:1", os.fsdecode(b"res\xff")])
def test_a_folder_is_no_address(
    tmp_path: Path, index: Dataset, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(folder) / "p.parquet"
    predictions = make_predictions(index, 0)
    write_predictions(file, make_info(index, 0, predictions["val"]), index, predictions)
    read_predictions(file, index, "val")


def test_another_score_than_recorded_is_refused(tmp_path: Path, index: Dataset) -> None:
    predictions = make_predictions(index, 0)
    info = make_info(index, 0, predictions["val"])
    swapped = predictions["val"][::-1].copy()
    write_predictions(tmp_path / "s.parquet", info, index, predictions | {"val": swapped})
    refused(tmp_path / "s.parquet", index, "recorded is")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_never_written(tmp_path: Path, index: Dataset, bad: float) -> None:
    predictions = make_predictions(index, 0)
    info = make_info(index, 0, predictions["val"])
    predictions["test"][0, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        write_predictions(tmp_path / "n.parquet", info, index, predictions)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_missing_split_is_refused(tmp_path: Path, index: Dataset) -> None:
    predictions = make_predictions(index, 0)
    info = make_info(index, 0, predictions["val"])
    write_predictions(tmp_path / "v.parquet", info, index, {"val": predictions["val"]})
    refused(tmp_path / "v.parquet", index, "no predictions for test", split="test")


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_truncated_file_is_refused(file: Path, index: Dataset, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    refused(file, index, "damaged")


def flipped(content: bytes, position: int) -> bytes:
    """The content with one bit changed."""
    damaged = bytearray(content)
    damaged[position // 8] ^= 1 << (position % 8)
    return bytes(damaged)


def test_any_flipped_bit_is_refused(file: Path, index: Dataset) -> None:
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole) * 8, 100, replace=False).tolist():
        file.write_bytes(flipped(whole, position))
        # Whichever split the bit belongs to, or none: a file that changed is not believed.
        for split in ("val", "test"):
            refused(file, index, "damaged", split)


def test_any_flipped_bit_of_the_clips_is_refused(tmp_path: Path, index: Dataset) -> None:
    path = tmp_path / "clips.parquet"
    write_clips(path, index)
    whole = path.read_bytes()
    for position in np.random.default_rng(1).choice(len(whole) * 8, 100, replace=False).tolist():
        path.write_bytes(flipped(whole, position))
        with pytest.raises(InputError, match=r"clips\.parquet: damaged"):
            read_clips(path)


def test_a_file_of_another_writer_is_refused(file: Path, index: Dataset) -> None:
    pq.write_table(pq.read_table(file), file)
    refused(file, index, "no harness wrote it")
