"""Every layout is recognised by itself, and says what it misses."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.layouts import read_clips, read_new_clips
from harness.clips.table import EMOTIONS
from harness.errors import InputError
from harness.streams.precomputed import read_foreign
from tests.trees import SPLITS, authors_tree, hume_table, muse_tree, plain_tree


def test_the_authors_crops(tmp_path: Path) -> None:
    clips = read_clips(authors_tree(tmp_path, "crops"))
    assert clips.kind == "images"
    assert clips.target_names == EMOTIONS
    assert clips.paths[0] == tmp_path / "Crop_data" / clips.splits[0] / "00000"
    assert clips.notes == ()


def test_the_authors_features_and_folds(tmp_path: Path) -> None:
    clips = read_clips(authors_tree(tmp_path, "features"))
    assert clips.kind == "features"
    frames, problems, _ = read_foreign(clips)
    assert problems == {}
    assert (frames.width, np.diff(frames.offsets).tolist()) == (22, [12] * len(clips))
    assert clips.folds is not None
    in_train = np.array(clips.splits) == "train"
    assert set(clips.folds[in_train]) == {1, 2, 3, 4, 5}
    assert not clips.folds[~in_train].any()


def test_files_in_the_folds_that_are_no_training_clips_are_told(tmp_path: Path) -> None:
    root = authors_tree(tmp_path, "features")
    folds = root / "MTL_features" / "5_fold_train"
    (root / "MTL_features" / "val" / "00010.npy").rename(folds / "fold1" / "00010.npy")
    np.save(folds / "fold2" / "99999.npy", np.ones((12, 22)))
    clips = read_clips(root)
    assert clips.paths[10] is None, "a clip of val is not read from a fold of train"
    assert clips.folds is not None
    assert clips.folds[10] == 0
    assert "1 of 20 clips of the labels have no file: [00010]" in clips.notes[0]
    strangers = "fold1/00010.npy, MTL_features/5_fold_train/fold2/99999.npy"
    assert "2 files belong to no clip of the labels" in clips.notes[1]
    assert strangers in clips.notes[1]
    with pytest.raises(InputError, match=r"have no file: \[00010\] \(`strict`"):
        read_clips(root, strict=True)
    np.save(folds / "fold3" / "00000.npy", np.ones((12, 22)))
    with pytest.raises(InputError, match=r"fold3/00000\.npy: the clip is in fold 1, too"):
        read_clips(root)


def test_clips_that_name_no_person_count_as_one_each(tmp_path: Path) -> None:
    file = plain_tree(tmp_path, "features") / "clips.csv"
    table = pd.read_csv(file)
    table.loc[[2, 3], "group"] = ["", " "]
    table.to_csv(file, index=False)
    clips = read_clips(tmp_path)
    assert clips.groups is not None
    assert clips.groups[:2] == ("person0", "person0")
    assert len({*clips.groups[1:4]}) == 3
    assert (
        "clips.csv, group: 2 clips name no person and count as one each: c2, c3" in clips.notes[0]
    )
    with pytest.raises(InputError, match=r"name no person .* \(`strict`"):
        read_clips(tmp_path, strict=True)


def test_both_of_the_authors_need_a_choice(tmp_path: Path) -> None:
    authors_tree(authors_tree(tmp_path, "crops"), "features")
    with pytest.raises(InputError, match="`layout`: choose one of authors-crops, authors-features"):
        read_clips(tmp_path)
    assert read_clips(tmp_path, "authors-crops").kind == "images"
    assert read_clips(tmp_path, "authors-features").kind == "features"


def test_muse(tmp_path: Path) -> None:
    muse_tree(tmp_path)
    clips = read_clips(tmp_path, features="FAUs")
    assert clips.kind == "features"
    assert clips.splits.count("val") == 3, "devel is val"
    assert np.isnan(clips.targets[np.array(clips.splits) == "test"]).all()
    frames, *_ = read_foreign(clips)
    assert frames.width == 5, "timestamp and subject are no features"


def test_muse_needs_a_feature_set(tmp_path: Path) -> None:
    muse_tree(tmp_path)
    with pytest.raises(InputError, match="`features`: choose one of FAUs, VGGFace2"):
        read_clips(tmp_path)
    with pytest.raises(InputError, match="`features` None-such: choose one of FAUs, VGGFace2"):
        read_clips(tmp_path, features="None-such")


@pytest.mark.parametrize(
    ("folder", "kind"), [("clips", "video"), ("frames", "images"), ("features", "features")]
)
def test_your_own(tmp_path: Path, folder: str, kind: str) -> None:
    clips = read_clips(plain_tree(tmp_path, folder))
    assert clips.kind == kind
    assert clips.target_names == ("joy", "awe")
    assert clips.groups == tuple(f"person{n // 2}" for n in range(len(clips)))


def test_npy_goes_before_csv_and_that_is_told(tmp_path: Path) -> None:
    plain_tree(tmp_path, "features")
    pd.DataFrame(np.ones((2, 9))).to_csv(tmp_path / "features" / "c0.csv", index=False)
    clips = read_clips(tmp_path)
    assert clips.paths[0] == tmp_path / "features" / "c0.npy"
    assert "1 files belong to no clip of the labels: features/c0.csv" in clips.notes[0]


def test_a_folder_of_videos_alone_has_one_of_each_name(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "b.mov"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"b\.mov: another video has the same name"):
        read_new_clips(tmp_path)


# Entries beside a.mp4 in a folder of videos; the clips; what is reported.
FOLDERS: list[tuple[list[str], list[str], list[str]]] = [
    (["b.m4v", "c.MTS", "d.wmv", "e.3gp"], ["a", "b", "c", "d", "e"], []),
    (["b.MP4", "c.mpg", "d.flv", "e.m2ts"], ["a", "b", "c", "d", "e"], []),
    (["._a.mp4", "._b.mov", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/"], ["a"], []),
    (["b.rm", "notes.txt"], ["a"], ["2 files are not read: b.rm, notes.txt (read: .mp4"]),
    (["day1/", "day2/"], ["a"], ["2 subfolders are not read: day1, day2"]),
    (["b.gif", "day1/"], ["a"], ["1 files are not read: b.gif", "1 subfolders are not read: day1"]),
    (["b.mp4/"], ["a", "b"], []),
]


def lay(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).touch()


@pytest.mark.parametrize(("beside", "ids", "messages"), FOLDERS)
def test_what_a_folder_of_videos_holds_is_read_or_reported(
    tmp_path: Path, beside: list[str], ids: list[str], messages: list[str]
) -> None:
    lay(tmp_path, ["a.mp4", *beside])
    clips = read_new_clips(tmp_path)
    assert list(clips.clip_ids) == ids
    assert len(clips.notes) == len(messages)
    for note, message in zip(clips.notes, messages, strict=True):
        assert message in note
        assert str(tmp_path) in note
    if messages:
        with pytest.raises(InputError, match="`strict`"):
            read_new_clips(tmp_path, strict=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["day1/", "day2/"], "2 subfolders are not read: day1, day2"), (["a.rm"], "1 files .* a.rm")],
)
def test_a_folder_without_any_video_says_what_it_holds(
    tmp_path: Path, names: list[str], message: str
) -> None:
    lay(tmp_path, names)
    with pytest.raises(InputError, match=f"{message}.*; expected videos, data_info"):
        read_new_clips(tmp_path)


@pytest.mark.parametrize("folder", ["clips", "frames", "features"])
def test_beside_labels_what_is_not_read_is_reported(tmp_path: Path, folder: str) -> None:
    plain_tree(tmp_path, folder)
    lay(tmp_path / folder, ["._c1.mp4", "Thumbs.db", ".c2/"])
    assert read_clips(tmp_path).notes == ()
    lay(tmp_path / folder, ["c0.xyz", "list.txt"])
    (note,) = read_clips(tmp_path).notes
    assert "2 files are not read: c0.xyz, list.txt" in note


def test_a_release_with_other_suffixes_is_read(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        lay(tmp_path / split / "mp4", [])
    table = hume_table()
    table.to_csv(tmp_path / "data_info.csv", index=False)
    for number, split in enumerate(SPLITS):
        suffix = (".mp4", ".MOV", ".m4v")[number % 3]
        (tmp_path / split / "mp4" / f"{number:05d}{suffix}").touch()
    clips = read_clips(tmp_path)
    assert all(clips.paths)
    assert clips.notes == ()


def test_a_video_beside_labels_is_not_all_there_is(tmp_path: Path) -> None:
    plain_tree(tmp_path, "clips")
    (tmp_path / "preview.mp4").touch()
    assert len(read_new_clips(tmp_path)) == 20
    (tmp_path / "clips.csv").rename(tmp_path / "data_info.csv")
    with pytest.raises(InputError, match="no column File_ID"):
        read_new_clips(tmp_path)


def test_unrated_clips_of_train_and_val_are_noted(tmp_path: Path) -> None:
    table = pd.read_csv(plain_tree(tmp_path, "features") / "clips.csv", dtype=str)
    table.loc[[3, 4, 12, 18], ["joy", "awe"]] = ""
    table.to_csv(tmp_path / "clips.csv", index=False)
    notes = read_clips(tmp_path).notes
    assert "2 of 10 clips of train are unrated and skipped: c3, c4" in notes[0]
    assert "1 of 6 clips of val are unrated and skipped: c12" in notes[1]
    assert len(notes) == 2, "test is rarely rated"
    with pytest.raises(InputError, match="`strict`"):
        read_clips(tmp_path, strict=True)


def test_a_repeated_column_name_is_refused(tmp_path: Path) -> None:
    file = plain_tree(tmp_path, "features") / "clips.csv"
    file.write_text(file.read_text().replace("joy,awe", "joy,joy"))
    with pytest.raises(InputError, match="column joy occurs twice"):
        read_clips(tmp_path)
    file.write_text("\n" + file.read_text().replace("joy,joy", 'joy, "joy"'))
    with pytest.raises(InputError, match="column joy occurs twice"):
        read_clips(tmp_path)
    file.write_text(file.read_text().replace('joy, "joy"', '"joy, high", "awe, high"'))
    assert read_clips(tmp_path).target_names == ("joy, high", "awe, high")


def features_folder(root: Path) -> Path:
    return plain_tree(root, "features") / "features"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.ones((2, 3, 6)), r"expected \(steps, features\), found shape \(2, 3, 6\)"),
        (np.ones((0, 6)), "found shape"),
        (np.full((2, 6), np.nan), "NaN or infinity in row 1 of values, column 1"),
        (np.array([{"a": 1}], dtype=object), "not readable as features"),
        (np.array([["a"] * 6]), "not readable as features"),
    ],
)
def test_bad_feature_files_are_named(tmp_path: Path, content: np.ndarray, reason: str) -> None:
    np.save(features_folder(tmp_path) / "c1.npy", content, allow_pickle=True)
    frames, problems, _ = read_foreign(read_clips(tmp_path))
    assert list(problems) == ["c1"]
    assert re.search(reason, problems["c1"])
    assert np.diff(frames.offsets)[1] == 0


@pytest.mark.parametrize(
    ("header", "steps"),
    [
        ("a,b,c", 2),
        ("0,1,2", 2),
        ("03, 07, 09", 2),
        ("0.5,0.0,0.0", 0),
        ("0,0,0", 0),
        ("\n0.5,0.6,0.7", 0),
    ],
)
def test_features_as_csv_have_a_header(tmp_path: Path, header: str, steps: int) -> None:
    """Or the first step would be taken for one, and be lost."""
    folder = features_folder(tmp_path)
    for file in folder.glob("*.npy"):
        file.unlink()
        file.with_suffix(".csv").write_text(f"{header if steps else 'a,b,c'}\n1,2,3\n")
    (folder / "c1.csv").write_text(f"{header}\n1,2,3\n4,5,6\n")
    frames, problems, _ = read_foreign(read_clips(tmp_path))
    assert np.diff(frames.offsets)[1] == steps
    assert steps or "c1.csv: not readable as features: its first row is 0" in problems["c1"]


def test_features_of_two_widths_are_an_error(tmp_path: Path) -> None:
    np.save(features_folder(tmp_path) / "c1.npy", np.ones((3, 7)))
    with pytest.raises(InputError, match=r"differ in width .*: 6 in c0, c2, c3 and"):
        read_foreign(read_clips(tmp_path))


def test_layouts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known layout; expected data_info"):
        read_clips(tmp_path)
    with pytest.raises(InputError, match="`layout` cinema: choose one of abaw5"):
        read_clips(tmp_path, "cinema")
    with pytest.raises(InputError, match=r"clips\.csv: missing"):
        read_clips(tmp_path, "plain")
    plain_tree(tmp_path, "features")
    (tmp_path / "clips").mkdir()
    (tmp_path / "frames").mkdir()
    with pytest.raises(InputError, match="found clips, frames"):
        read_clips(tmp_path)
    (tmp_path / "frames").rmdir()
    with pytest.raises(InputError, match="`features` FAUs: choose one of features"):
        read_clips(tmp_path, features="FAUs")


def test_a_file_like_the_mark_of_the_demo_is_somebodys_own(tmp_path: Path) -> None:
    plain_tree(tmp_path, "features")
    (tmp_path / "demo.json").write_text('{"name": "mine"}')
    assert not read_clips(tmp_path).synthetic
