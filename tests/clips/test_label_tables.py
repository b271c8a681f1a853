"""Tables of clips as spreadsheets and scripts write them: labels, splits and persons."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.csv_file import read_csv
from harness.clips.layouts import read_clips, read_new_clips
from harness.clips.table import EMOTIONS
from harness.errors import InputError
from tests.trees import authors_tree, muse_tree, plain_tree

TABLE = "clip_id,split,joy,awe\n007,train,0.5,0.25\n008,val,1,0\n"


def plain(root: Path, text: str, encoding: str = "utf-8", ids: tuple[str, ...] = ()) -> Path:
    """A folder of the layout `plain` with features for its clips."""
    (root / "clips.csv").write_text(text, encoding=encoding)
    (root / "features").mkdir()
    for clip in ids or ("007", "008"):
        np.save(root / "features" / f"{clip}.npy", np.ones((2, 3)))
    return root


FORMS = {
    "as documented": (TABLE, "utf-8"),
    "UTF-8 with BOM": (TABLE, "utf-8-sig"),
    "UTF-16": (TABLE, "utf-16"),
    "Unicode text of Excel": (TABLE.replace(",", "\t"), "utf-16"),
    "semicolons": (TABLE.replace(",", ";"), "utf-8"),
    "decimal commas": (TABLE.replace(",", ";").replace(".", ","), "utf-8"),
    "sep=": ("sep=;\n" + TABLE.replace(",", ";").replace(".", ","), "utf-8"),
    "tabs": (TABLE.replace(",", "\t"), "utf-8"),
    "quoted decimal commas": (TABLE.replace("0.5,0.25", '"0,5","0,25"'), "utf-8"),
    "Windows lines": (TABLE.replace("\n", "\r\n"), "utf-8"),
    "old Macintosh lines with BOM": (TABLE.replace("\n", "\r"), "utf-8-sig"),
    "blanks": (TABLE.replace(",", " , "), "utf-8"),
    "empty rows at the end": (TABLE + ",,,\n,,,\n", "utf-8"),
    "empty columns": (TABLE.replace("\n", ",,\n"), "utf-8"),
    "case of headers": (TABLE.replace("clip_id,split", "Clip_ID,SPLIT"), "utf-8"),
    "another order": ("joy,split,awe,clip_id\n0.5,train,0.25,007\n1,val,0,008\n", "utf-8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_tables(tmp_path: Path, form: str) -> None:
    clips = read_clips(plain(tmp_path, *FORMS[form]))
    assert clips.clip_ids == ("007", "008")
    assert clips.splits == ("train", "val")
    assert clips.target_names == ("joy", "awe")
    assert clips.targets.tolist() == [[0.5, 0.25], [1, 0]]
    assert clips.notes == ()


INDICES = {
    "of pandas": ("", 0, 1),
    "from 1": ("", 1, 1),
    "saved twice": ("Unnamed: 0", 0, 1),
    "of a selection": ("", 3, 7),
}


@pytest.mark.parametrize("index", INDICES)
def test_an_unnamed_index_is_left_out_and_noted(tmp_path: Path, index: str) -> None:
    name, first, step = INDICES[index]
    lines = TABLE.splitlines()
    rows = [f"{first + step * row},{line}" for row, line in enumerate(lines[1:])]
    clips = read_clips(plain(tmp_path, "\n".join([f"{name},{lines[0]}", *rows])))
    assert clips.target_names == ("joy", "awe")
    assert clips.notes == (f"{tmp_path / 'clips.csv'}: the unnamed index column is not used",)


REFUSED = {
    "a column without a name": (
        "clip_id,split,joy,\n007,train,0,1\n008,val,1,0\n",
        "column 4 has no name",
    ),
    "a name in two cases": (TABLE.replace("awe", "Joy"), "column joy occurs twice"),
    "too few cells": (TABLE + "009,test\n", "line 4: 2 cells; expected 4, as in"),
    "decimal commas between commas": (
        "clip_id,split,joy\n007,train,0,5\n008,val,0,1\n",
        "more cells than its header .decimal commas",
    ),
    "both decimal marks": (TABLE.replace("0.5,", '"0,5",'), "decimal commas .0,5. and decimal"),
    "thousands": (
        "clip_id;split;joy\n007;train;1,000\n008;val;2,000\n",
        "1,000 may be a thousand with a separator",
    ),
    "blanks between cells": (TABLE.replace(",", " "), "looks like cells separated by blanks"),
    "a reserved name": (TABLE.replace("awe", "Filled"), "a target is called Filled; rename it"),
    "percent": (TABLE.replace("0.5,0.25", "50,25"), "'50' is no rating in .0, 1.*; scale the"),
    "percent signs": (TABLE.replace("0.5,", "50%,"), "joy: '50%' is no rating"),
    "a Likert scale": (TABLE.replace("0.5,0.25", "4,2"), "'4' is no rating in .0, 1."),
    "a column of text": (
        "clip_id,split,joy,notes\n007,train,0.5,loud\n008,val,1,dark\n",
        "notes: 'loud' is no rating .*remove a column that is no target",
    ),
    "an age": ("clip_id,split,joy,age\n007,train,0.5,31\n008,val,1,28\n", "age: '31' is no rating"),
    "a person's split": (TABLE.replace("train", "holdout"), "'holdout' is none of train, val"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_doubtful_tables_are_refused(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as error:
        read_clips(plain(tmp_path, text))
    assert str(tmp_path / "clips.csv") in str(error.value)


# Ids that are not quite the names of the files 007 and 008.
SPELLINGS = {
    "a spreadsheet's numbers": (("7", "8"), "7 and features/007.npy"),
    "one of two": (("007", "8"), "8 and features/008.npy"),
    "a suffix": (("007.mp4", "008.MP4"), "007.mp4 and features/007.npy"),
    "a suffix of features": (("007.npy", "008.npy"), "007.npy and features/007.npy"),
    "more zeros": (("00007", "00008"), "00007 and features/007.npy"),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_ids_in_another_spelling_than_their_files_are_refused(tmp_path: Path, case: str) -> None:
    """Otherwise their clips would be predicted by a mean."""
    (one, two), message = SPELLINGS[case]
    text = TABLE.replace("007", one).replace("008", two)
    with pytest.raises(InputError, match=f"differ from the name of a file only in .*{message}"):
        read_clips(plain(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sep=;\nclip_id;split;joy\n\n007;train;0.5\n   \n\n008;val;2\n", 7),
        ('clip_id,split,joy\n\n\n007,train,0.5\n"00\n8",val,0.5\n', 5),
        ("clip_id,split,joy\r\n\r\n007,train,0.5\r\n,,\r\n\r\n008,val,2\r\n", 4),
    ],
)
def test_messages_name_the_line_of_the_file(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(InputError, match=f"clips.csv, line {line}, "):
        read_clips(plain(tmp_path, text))


@pytest.mark.parametrize(
    ("file", "row", "column", "cell", "message"),
    [
        ("labels.csv", 3, "Fear", "high", r"labels.csv, line 5, Fear: 'high' is no rating"),
        ("partition.csv", 2, "Proposal", "both", r"partition.csv, line 4, Proposal: 'both' is"),
        ("partition.csv", 1, "Id", "../x", r"partition.csv, line 3, Id"),
    ],
)
def test_messages_on_muse_name_the_file_and_its_line(
    tmp_path: Path, file: str, row: int, column: str, cell: str, message: str
) -> None:
    home = muse_tree(tmp_path) / "c2_muse_reaction"
    table = pd.read_csv(home / "labels.csv", dtype=str)
    table.iloc[::-1].to_csv(home / "labels.csv", index=False)
    table = pd.read_csv(home / file, dtype=str)
    table.loc[row, column] = cell
    table.to_csv(home / file, index=False)
    with pytest.raises(InputError, match=message):
        read_clips(tmp_path, features="FAUs")


def test_ids_in_another_case_than_their_files_are_refused(tmp_path: Path) -> None:
    text = TABLE.replace("007", "C7").replace("008", "C8")
    with pytest.raises(InputError, match=r"C7 and features/c7\.npy, C8 and features/c8\.npy"):
        read_clips(plain(tmp_path, text, ids=("c7", "c8")))


@pytest.mark.parametrize("suffix", [".pkl", ".npz", ".pt", ".txt", ".h5"])
def test_files_of_a_form_that_is_not_read_are_named(tmp_path: Path, suffix: str) -> None:
    for file in (plain(tmp_path, TABLE) / "features").iterdir():
        file.rename(file.with_suffix(suffix))
    for read in (read_clips, read_new_clips):
        message = rf"has a file; .* 2 files are not read: 007\{suffix}, .* \(read: \.npy \.csv "
        with pytest.raises(InputError, match=message):
            read(tmp_path)


@pytest.mark.parametrize("name", ["File_ID", "file_id", "filled", "FILLED", "frame", " Frame "])
def test_names_of_other_tables_are_no_targets(tmp_path: Path, name: str) -> None:
    """Predictions have these columns beside those of the targets."""
    folder = plain(tmp_path, TABLE.replace("awe", name))
    with pytest.raises(InputError, match=r"a target is called .*; rename it") as error:
        read_clips(folder)
    for reserved in ("clip_id", "file_id", "filled", "frame", "group", "split"):
        assert reserved in str(error.value), "the message lists them"


FILES = {
    "Windows-1252": ("clip_id,split,fröhlich\n".encode("cp1252"), "encoding other than UTF-8"),
    "a workbook": (b"PK\x03\x04" + bytes(50), "an Excel workbook or a zip file"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "an Excel workbook"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "a gzip file"),
    "Parquet": (b"PAR1" + bytes(50), "a Parquet file"),
    "UTF-16 without a mark": (TABLE.encode("utf-16-le"), "UTF-16 without a byte order mark"),
    "zeros": (bytes(1000), "a file that is not text"),
    "a zero": (TABLE.encode().replace(b"joy", b"j\0y"), "a file that is not text"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_csv_are_named(tmp_path: Path, kind: str) -> None:
    content, what = FILES[kind]
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"looks like .*{what}.*; save as UTF-8 csv with commas"):
        read_csv(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("spelling", "split"),
    [
        *itertools.product(["train", "Training", "TRAIN "], ["train"]),
        *itertools.product(["val", "dev", "Devel", "Validation", "development", "valid"], ["val"]),
        *itertools.product(["test", "Testing", "TEST"], ["test"]),
    ],
)
def test_spellings_of_splits(tmp_path: Path, spelling: str, split: str) -> None:
    text = f"clip_id,split,joy\na,{spelling},0.5\nb,train,1\nc,val,1\n"
    assert read_clips(plain(tmp_path, text, ids=("a", "b", "c"))).splits[0] == split


@pytest.mark.parametrize(
    "missing", ["", " ", "NA", "n/a", "NaN", "null", "None", "-", "--", "#N/A"]
)
def test_spellings_of_unrated_clips_and_unknown_persons(tmp_path: Path, missing: str) -> None:
    text = f"clip_id,split,group,joy,awe\na,train,{missing},{missing},{missing}\n"
    text += f"b,train,{missing},1,0\nc,val,x,0,1\n"
    clips = read_clips(plain(tmp_path, text, ids=("a", "b", "c")))
    assert np.isnan(clips.targets).tolist() == [[True, True], [False, False], [False, False]]
    assert clips.groups is not None
    assert len(set(clips.groups)) == 3, "two clips without a person are two groups"


def test_emotions_are_read_by_name(tmp_path: Path) -> None:
    root = authors_tree(tmp_path, "features")
    file = root / "Data" / "data_info.csv"
    before = read_clips(root)
    table = pd.read_csv(file, dtype=str)
    table[table.columns[::-1]].rename(columns=str.upper).to_csv(file)
    after = read_clips(root)
    assert np.array_equal(before.targets, after.targets)
    assert (after.clip_ids, after.target_names) == (before.clip_ids, EMOTIONS)


@pytest.mark.parametrize("home", ["c2_muse_reaction", "c2_muse_reaction_2022", "C2_MuSe_Reaction"])
def test_names_of_the_folder_of_muse(tmp_path: Path, home: str) -> None:
    (muse_tree(tmp_path) / "c2_muse_reaction").rename(tmp_path / home)
    assert len(read_clips(tmp_path, features="FAUs")) == 11
    assert len(read_clips(tmp_path / home, features="FAUs")) == 11


def test_two_folders_of_muse_need_a_choice(tmp_path: Path) -> None:
    muse_tree(tmp_path)
    (tmp_path / "c2_muse_reaction_2022").mkdir()
    with pytest.raises(InputError, match="holds c2_muse_reaction, c2_muse_reaction_2022; give one"):
        read_clips(tmp_path)


def test_tables_of_muse_are_read_by_name(tmp_path: Path) -> None:
    home = muse_tree(tmp_path) / "c2_muse_reaction"
    (home / "feats" / ".ipynb_checkpoints").mkdir()
    before = read_clips(tmp_path, features="FAUs")
    for name in ("labels.csv", "partition.csv"):
        table = pd.read_csv(home / name, dtype=str)
        table[table.columns[::-1]].rename(columns=str.lower).to_csv(home / name)
    after = read_clips(tmp_path, features="FAUs")
    assert np.array_equal(before.targets, after.targets, equal_nan=True)
    assert (after.clip_ids, after.splits, after.target_names) == (
        before.clip_ids, before.splits, EMOTIONS,
    )  # fmt: skip
    assert [note.split(": ")[1] for note in after.notes] == [
        "the unnamed index column is not used"
    ] * 2


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("partition.csv", "Proposal", "group", "expected one column named proposal, partition or"),
        ("partition.csv", "Id,", "number,", "expected one column named file_id, id or clip_id"),
        ("labels.csv", "File_ID", "name", "expected one column named file_id, id or clip_id"),
    ],
)
def test_tables_of_muse_without_a_known_name_are_refused(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    path = muse_tree(tmp_path) / "c2_muse_reaction" / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_clips(tmp_path, features="FAUs")


def test_other_columns_of_muse_are_noted(tmp_path: Path) -> None:
    path = muse_tree(tmp_path) / "c2_muse_reaction" / "labels.csv"
    table = pd.read_csv(path, dtype=str)
    table.assign(Age="30").to_csv(path, index=False)
    clips = read_clips(tmp_path, features="FAUs")
    assert clips.target_names == EMOTIONS
    assert "columns that are no emotions are not used: Age" in clips.notes[0]


@pytest.mark.parametrize(("row", "split"), [(10, "train, val"), (16, "train, test"), (19, None)])
def test_a_person_in_several_splits_is_refused(tmp_path: Path, row: int, split: str | None) -> None:
    file = plain_tree(tmp_path, "features") / "clips.csv"
    table = pd.read_csv(file)
    table.loc[row, "group"] = "person0" if split else "person5"
    table.to_csv(file, index=False)
    listed = rf"1 persons have clips in several splits: person\d \({split or 'val, test'}\)"
    with pytest.raises(InputError, match=rf"{listed}; keep .* or give `allow_shared_groups`"):
        read_clips(tmp_path)
    (note,) = read_clips(tmp_path, allow_shared_groups=True, strict=True).notes
    assert "; scores on new persons may be lower" in note
    assert read_new_clips(tmp_path).notes == (), "new clips are only predicted"


@pytest.mark.parametrize(
    ("one", "other"), [("P01", "p01"), ("7", "7.0"), ("7", "07"), ("7.", "7"), ("Ann", " ann ")]
)
def test_a_person_in_two_spellings_is_one(tmp_path: Path, one: str, other: str) -> None:
    text = f"clip_id,split,group,joy\n007,train,{one},0.5\n008,val,{other},1\n"
    with pytest.raises(InputError, match=rf"1 persons have .*: {re.escape(one)} \(train, val\)"):
        read_clips(plain(tmp_path, text))


@pytest.mark.parametrize(("one", "other"), [("P1", "P10"), ("7", "7.5"), ("x7", "x07")])
def test_other_persons_are_others(tmp_path: Path, one: str, other: str) -> None:
    text = f"clip_id,split,group,joy\n007,train,{one},0.5\n008,val,{other},1\n"
    assert read_clips(plain(tmp_path, text)).groups == (one, other)


@pytest.mark.parametrize("name", ["subject", "Participant", "person_id", "speaker"])
def test_persons_under_another_name_are_no_target(tmp_path: Path, name: str) -> None:
    """Numbers of two persons could be ratings."""
    with pytest.raises(InputError, match=f"column {name} seems to name the persons; call it gr"):
        read_clips(plain(tmp_path, TABLE.replace("awe", name)))


def test_data_without_persons_shares_none(tmp_path: Path) -> None:
    assert read_clips(str(plain(tmp_path, TABLE))).groups is None
