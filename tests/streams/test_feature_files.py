"""Precomputed features as tools and people write them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.errors import InputError
from harness.streams.feature_file import FeatureFile, read_feature_file
from harness.streams.precomputed import read_foreign
from tests.trees import authors_tree, muse_tree


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> FeatureFile:
    file = tmp_path / "c.csv"
    file.write_text(text, encoding=encoding)
    return read_feature_file(file)


def table_of(folder: Path, files: Mapping[str, str | np.ndarray]) -> ClipTable:
    """Clips with the given files of features: text of a csv, or an array."""
    folder.mkdir(exist_ok=True)
    paths = []
    for name, content in files.items():
        paths.append(folder / f"{name}.{'csv' if isinstance(content, str) else 'npy'}")
        if isinstance(content, str):
            paths[-1].write_text(content)
        else:
            np.save(paths[-1], content)
    count = len(paths)
    targets = np.zeros((count, 1), np.float32)
    return ClipTable(tuple(files), ("train",) * count, targets, ("joy",), tuple(paths), "features")


LEFT_OUT = {
    "index": (",AU01,AU06\n7,1,2\n8,3,4\n", ("(unnamed)",)),
    "index of every 30th row": (",AU01,AU06\n0,1,2\n30,3,4\n", ("(unnamed)",)),
    "index saved again": ("Unnamed: 0,AU01,AU06\n0,1,2\n1,3,4\n", ("(unnamed)",)),
    "index of reset_index": ("index,AU01,AU06\n0,1,2\n1,3,4\n", ("index",)),
    "empty column": ("AU01,AU06,\n1,2,\n3,4,\n", ("(unnamed)",)),
    "OpenFace": (
        "frame, face_id, timestamp, confidence, success, AU01, AU06\n"
        "1, 0, 0.000, 0.98, 1, 1, 2\n2, 0, 0.033, 0.98, 1, 3, 4\n",
        ("frame", "face_id", "timestamp", "confidence", "success"),
    ),
    "mexca": ("frame,time,AU01,AU06\n0,0,1,2\n5,0.2,3,4\n", ("frame", "time")),
    "PyAFAR": ("Frame,AU01,AU06\n0,1,2\n1,3,4\n", ("Frame",)),
    "MuSe": (
        "timestamp,subject_id,segment_id,id,AU01,AU06\n0,7,1,3,1,2\n500,7,2,4,3,4\n",
        ("timestamp", "subject_id", "segment_id", "id"),
    ),
    "MuSe with ids": (
        "File_ID,timestamp,AU01,AU06\n[00042],0,1,2\n[00042],250,3,4\n",
        ("File_ID", "timestamp"),
    ),
    "MuSe with numbers": ("File_ID,AU01,AU06\n42,1,2\n42,3,4\n", ("File_ID",)),
    "LibreFace": ("frame_idx,frame_time_in_ms,AU01,AU06\n0,0,1,2\n1,33,3,4\n", ("frame_idx",)),
    "openSMILE": (
        "name;frameTime;AU01;AU06\n'unknown';0.0;1;2\n'unknown';0.01;3;4\n",
        ("name", "frameTime"),
    ),
    "opensmile for Python": (
        "file,start,end,AU01,AU06\nx.wav,0 days 00:00:00,0 days 00:00:00.020000,1,2\n"
        "x.wav,0 days 00:00:00.010000,0 days 00:00:00.030000,3,4\n",
        ("file", "start", "end"),
    ),
    "Py-Feat": ("AU01,AU06,input,frame,approx_time\n1,2,a.mp4,0,00:00\n3,4,a.mp4,1,00:01\n", ()),
    "FaceReader": ("Video Time;Participant;AU01;AU06\n0;7;1;2\n1;7;3;4\n", ("Video Time",)),
    "units": (
        "time (s),Frame #,frame_no,AU01,AU06\n0,0,0,1,2\n1,1,1,3,4\n",
        ("time (s)", "Frame #"),
    ),
    "capitals and blanks": (
        " FRAME ,Face ID, AU01 ,AU06\n0,0,1,2\n1,0,3,4\n",
        ("FRAME", "Face ID"),
    ),
}


@pytest.mark.parametrize("tool", LEFT_OUT)
def test_bookkeeping_columns_are_no_features(tmp_path: Path, tool: str) -> None:
    text, left_out = LEFT_OUT[tool]
    found = read(tmp_path, text)
    assert found.names == ("AU01", "AU06")
    assert found.values.tolist() == [[1, 2], [3, 4]]
    assert set(left_out) <= set(found.left_out)


SPREADSHEETS = {
    "semicolons, decimal commas": ("a;b\n0,5;1,25\n2;3\n", "utf-8"),
    "sep=": ("sep=;\na;b\n0,5;1,25\n2;3\n", "utf-8"),
    "quoted sep=": ('"sep=;"\na;b\n0.5;1.25\n2;3\n', "utf-8"),
    "sep=,": ("sep=,\na,b\n0.5,1.25\n2,3\n", "utf-8"),
    "UTF-8 with BOM": ("a,b\n0.5,1.25\n2,3\n", "utf-8-sig"),
    "UTF-16": ("a\tb\n0,5\t1,25\n2\t3\n", "utf-16"),
    "UTF-16, big end first": ("\ufeffa,b\n0.5,1.25\n2,3\n", "utf-16-be"),
    "blanks behind headers": ("a , b \n0.5 , 1.25\n2,3\n", "utf-8"),
    "quoted decimal commas": ('a,b\n"0,5","1,25"\n2,3\n', "utf-8"),
    "empty rows at the end": ("a;b\n0,5;1,25\n2;3\n;\n;\n", "utf-8"),
    "empty rows at the end, points": ("a,b\n0.5,1.25\n2,3\n,\n", "utf-8"),
    "old Macintosh lines": ("a,b\r0.5,1.25\r2,3\r", "utf-8"),
    "vertical bars": ("a|b\n0.5|1.25\n2|3\n", "utf-8"),
}


@pytest.mark.parametrize("form", SPREADSHEETS)
def test_forms_of_spreadsheets(tmp_path: Path, form: str) -> None:
    found = read(tmp_path, *SPREADSHEETS[form])
    assert found.names == ("a", "b")
    assert found.values.tolist() == [[0.5, 1.25], [2, 3]]


REFUSED = {
    "an unnamed column": (",a\n0.5,1\n0.25,2\n", "column 1 has no name"),
    "an unnamed column at the end": ("a,\n1,5\n2,3\n", "column 2 has no name"),
    "a repeated name": ("AU01,au01\n1,2\n", "column au01 occurs twice"),
    "text": ("a,mood\n1,high\n2,low\n", "column mood holds text, such as 'high'"),
    "NA": ("a,b\n1,NA\n", "NaN or infinity in row 1 of values, column b"),
    "a dash": ("a,b\n1,-\n", "NaN or infinity in row 1 of values, column b"),
    "an empty cell": ("a,b\n1,2\n3,\n", "NaN or infinity in row 2 of values, column b"),
    "both decimal marks": ("a;b\n0,5;0.5\n", r"decimal commas \(0,5\) and decimal points"),
    "thousands": ("a;b\n1,234;2,345\n", "1,234 may be a thousand"),
    "thousands and points": ('a,b\n"1,234.5",2\n', "column a holds text"),
    "decimal commas between commas": ("a,b\n0,5,0,25\n", "more cells than its header .decimal"),
    "two separators": ("a,b;c\n1,2;3\n", "separated by commas or semicolons; save as UTF-8 csv"),
    "blanks": ("a b c\n1 2 3\n", "looks like cells separated by blanks; save as"),
    "no header, ids": ("[00042],0.5,0.25\n[00042],0.5,0.75\n", "expected column names"),
    "no header, decimal commas": ("0,5;0;1\n0,5;0;1\n0;1;1\n", "expected column names"),
    "only bookkeeping": ("frame,time\n0,0\n1,1\n", "found 2 rows and 0 features"),
    "two clips": ("File_ID,a\n[1],1\n[2],2\n", r"File_ID has 2 values \(\[1\], \[2\]\)"),
    "two rows a frame": ("frame,a\n0,1\n0,2\n", "frame 0 occurs in several rows"),
    "two rows a time": ("timestamp,a\n0,1\n0.5,2\n0.5,3\n", "timestamp 0.5 occurs in several"),
    "two texts of time": ("start,a\n0 days,1\n0 days,2\n", "start 0 days occurs in several"),
    "a face twice in a frame": ("frame,face_id,a\n0,0,1\n0,0,2\n", "frame 0 occurs in several"),
    "rows out of order": ("frame,a\n2,1\n0,2\n1,3\n", "frame goes backwards"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_doubtful_files_are_refused(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


FACES = {
    "more rows": ("frame,face_id,a\n0,0,9\n0,1,1\n1,1,2\n2,1,3\n", "face 1 of 2, 1 rows"),
    "more success": (
        "frame,face_id,success,a\n0,5,0,9\n0,6,1,1\n1,5,1,9\n1,6,1,2\n2,5,0,9\n2,6,1,3\n",
        "face 6 of 2, 3 rows",
    ),
    "more confidence": (
        "frame,face_id,confidence,a\n0,0,.2,9\n0,1,.9,1\n1,0,.2,9\n1,1,.9,2\n2,0,.2,9\n2,1,.9,3\n",
        "face 1 of 2, 3 rows",
    ),
    "first of equals": (
        "frame,face_id,a\n0,3,1\n0,1,9\n1,3,2\n1,1,9\n2,3,3\n2,1,9\n",
        "face 3 of 2, 3 rows",
    ),
    "labels": ("time,face_label,a\n0,x,1\n0,y,9\n1,x,2\n2,x,3\n", "face x of 2, 1 rows"),
}


@pytest.mark.parametrize("rule", FACES)
def test_one_of_several_faces_is_kept(tmp_path: Path, rule: str) -> None:
    text, described = FACES[rule]
    found = read(tmp_path, text)
    assert found.values[:, 0].tolist() == [1, 2, 3]
    assert found.face.startswith(described)


def test_faces_that_follow_each_other_are_all_kept(tmp_path: Path) -> None:
    found = read(tmp_path, "frame,face_id,a\n0,0,1\n1,0,2\n2,1,3\n")
    assert found.values[:, 0].tolist() == [1, 2, 3]
    assert found.face == ""


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ((22,), 1),
        ((1, 22), 1),
        ((1, 1, 22), 1),
        ((1, 4, 22), 4),
        ((4, 1, 22), 4),
        ((4, 22, 1, 1), 4),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".NPY"])
def test_squeezed_arrays_are_steps(
    tmp_path: Path, shape: tuple[int, ...], steps: int, suffix: str
) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32)
    with (tmp_path / f"c{suffix}").open("wb") as file:
        np.save(file, values.reshape(shape))
    found = read_feature_file(tmp_path / f"c{suffix}").values
    assert np.array_equal(found, values.reshape(steps, 22))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<f2", "<i2", "|u1", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_npy_files_of_every_form_are_read_as_numpy_reads_them(
    tmp_path: Path, dtype: str, order: Literal["C", "F"], version: tuple[int, int]
) -> None:
    values = np.asarray(np.arange(12).reshape(3, 4) % 5, dtype=dtype, order=order)
    with (tmp_path / "c.npy").open("wb") as file:
        np.lib.format.write_array(file, values, version)
        file.write(b"what follows the values is not read")
    found = read_feature_file(tmp_path / "c.npy").values
    np.testing.assert_array_equal(found, np.load(tmp_path / "c.npy"))
    assert found.dtype == np.float32


@pytest.mark.parametrize("length", [4, 9, 60, 127, 130])
def test_a_truncated_npy_file_is_refused_by_name(tmp_path: Path, length: int) -> None:
    np.save(tmp_path / "whole.npy", np.ones((3, 4)))
    (tmp_path / "c.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:length])
    with pytest.raises(InputError, match=r"c\.npy: not readable as features"):
        read_feature_file(tmp_path / "c.npy")


def archive(file: Path) -> None:
    with file.open("wb") as content:
        np.savez(content, a=np.ones((2, 3)))


NO_ARRAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an archive": (archive, "an archive of arrays .*save one array with numpy.save"),
    "objects": (lambda file: np.save(file, np.ones((2, 2), object)), "Object arrays cannot be"),
    "text": (lambda file: np.save(file, np.array([["a", "b"]])), "expected numbers, found <U1"),
    "complex": (lambda file: np.save(file, np.ones((2, 2), complex)), "found complex128"),
    "records": (lambda file: np.save(file, np.zeros(3, "f4,f4")), "expected numbers"),
    "a table": (lambda file: file.write_text("a,b\n1,2\n"), "not readable as features"),
    "beyond float32": (lambda file: np.save(file, np.full((2, 2), 1e300)), "NaN or infinity in ro"),
}


@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_npy_files_without_plain_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    write, message = NO_ARRAYS[kind]
    write(tmp_path / "c.npy")
    with pytest.raises(InputError, match=rf"c\.npy: .*{message}"):
        read_feature_file(tmp_path / "c.npy")


@pytest.mark.parametrize("shape", [(), (0,), (1, 22, 1), (2, 3, 22), (0, 22)])
def test_arrays_of_doubtful_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "c.npy", np.ones(shape))
    with pytest.raises(InputError, match="found shape"):
        read_feature_file(tmp_path / "c.npy")


def test_vectors_are_clips_of_one_step(tmp_path: Path) -> None:
    clips = table_of(tmp_path, {"a": np.ones(6), "b": np.ones((3, 6)), "c": np.ones(6)})
    frames, problems, columns = read_foreign(clips)
    assert (np.diff(frames.offsets).tolist(), problems) == ([1, 3, 1], {})
    assert (columns.names, columns.count) == (None, 6)
    with pytest.raises(InputError, match=r"a vector is one step\): 5 in b; 6 in a"):
        read_foreign(table_of(tmp_path, {"a": np.ones(6), "b": np.ones(5)}))


def test_columns_are_matched_by_name_across_clips(tmp_path: Path) -> None:
    clips = table_of(tmp_path, {"a": "AU01,AU06\n1,2\n", "b": "au06, AU01 \n4,3\n"})
    frames, _, columns = read_foreign(clips)
    assert frames.values.tolist() == [[1, 2], [3, 4]]
    assert columns.names == ("AU01", "AU06")


def test_columns_are_brought_into_the_order_of_a_study(tmp_path: Path) -> None:
    clips = table_of(tmp_path, {"a": "AU01,AU06\n1,2\n", "b": "AU06,AU01\n4,3\n"})
    frames, _, columns = read_foreign(clips, ("AU06", "AU01"))
    assert frames.values.tolist() == [[2, 1], [4, 3]]
    assert columns.names == ("AU06", "AU01")
    with pytest.raises(InputError, match="not those of the study: a lacks AU12 and has AU06"):
        read_foreign(clips, ("AU01", "AU12"))
    with pytest.raises(InputError, match="a have no column names"):
        read_foreign(table_of(tmp_path, {"a": np.ones(2)}), ("AU01", "AU06"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("AU01,AU12\n1,2\n", "c lacks AU06 and has AU12, unlike a, b; give"),
        ("AU01\n1\n", "c lacks AU06, unlike a, b"),
        ("AU01,AU06,AU12\n1,2,3\n", "c has AU12, unlike a, b"),
        (np.ones((2, 2)), "npy without column names in c; csv with names in a, b"),
    ],
)
def test_clips_of_other_columns_are_refused(
    tmp_path: Path, other: str | np.ndarray, message: str
) -> None:
    usual = "AU01,AU06\n1,2\n"
    with pytest.raises(InputError, match=message):
        read_foreign(table_of(tmp_path, {"a": usual, "b": usual, "c": other}))


def test_what_is_used_is_listed(tmp_path: Path) -> None:
    clips = table_of(
        tmp_path / "FAUs",
        {
            "a": "frame,face_id,AU06\n0,0,2\n0,1,9\n1,0,1\n",
            "b": "frame,time,AU06\n0,0,2\n1,.1,4\n",
        },
    )
    _, problems, columns = read_foreign(clips)
    assert columns.lines() == [
        "1 features of the set FAUs: AU06",
        "columns that are not used as features: frame (numbers the frames), face_id (names the "
        "face), time (times the frames); times of the steps are read as seconds",
    ]
    assert columns.left_out == {
        "frame": "numbers the frames", "face_id": "names the face", "time": "times the frames"
    }  # fmt: skip
    assert problems == {
        "a": "several faces, one is used: face 0 of 2, 1 rows of other faces not used"
    }


# Columns that tell the time or the row under names of no list, by the clip and its rows.
CLOCKS: dict[str, Callable[[int, np.ndarray], np.ndarray]] = {
    "Zeit": lambda clip, rows: rows / 25,
    "temps": lambda clip, rows: np.round(rows * 0.0333 + clip, 2),
    "tiempo": lambda clip, rows: rows / 30 + rows % 3 / 100,  # a varying frame rate
    "horodatage": lambda clip, rows: 1_700_000_000_000 + 40 * rows + 9_000 * clip,
    "Bild": lambda clip, rows: rows + 100 * clip,
    "\u65f6\u95f4": lambda clip, rows: 2.0**rows,
}


def clips_with(
    folder: Path, name: str, clips: int = 10, rows: int = 3, order: tuple[str, ...] = ("a", "b")
) -> ClipTable:
    """Noise beside a column of CLOCKS."""
    rng = np.random.default_rng(0)
    files: dict[str, str | np.ndarray] = {}
    for clip in range(clips):
        table = pd.DataFrame(rng.random((rows, 2)), columns=["a", "b"])[list(order)]
        table.insert(1, name, CLOCKS[name](clip, np.arange(rows)))
        files[f"c{clip}"] = table.to_csv(index=False)
    return table_of(folder, files)


@pytest.mark.parametrize("name", CLOCKS)
def test_clocks_in_any_language_are_no_features(tmp_path: Path, name: str) -> None:
    stream, _, columns = read_foreign(clips_with(tmp_path, name))
    assert stream.specification.columns == columns.names == ("a", "b")
    assert columns.left_out == {name: "rises in every row of every clip"}
    assert columns.notes[0].startswith(f"{name}: rises in every row of every clip, as a counter or")
    # New clips are read by name, however few and short they are.
    for clips, rows in ((10, 3), (1, 5), (2, 1)):
        new = clips_with(tmp_path / f"{clips}", name, clips, rows, ("b", "a"))
        again, _, read = read_foreign(new, ("a", "b"))
        assert again.specification.columns == ("a", "b")
        assert list(read.left_out) == [name]
        assert read.notes == ()


def test_a_feature_that_does_not_always_rise_is_kept(tmp_path: Path) -> None:
    clips = clips_with(tmp_path, "Zeit")
    assert clips.paths[4] is not None
    text = clips.paths[4].read_text().splitlines()
    clips.paths[4].write_text("\n".join([text[0], text[2], text[1], text[3]]))
    assert read_foreign(clips)[2].names == ("a", "Zeit", "b")
    few = clips_with(tmp_path / "few", "Zeit", 9)
    (note,) = read_foreign(few)[2].notes
    assert note.startswith("Zeit: rises by a constant step in every clip; used as a feature")


NUMBERS: dict[str, Callable[[int], int]] = {
    "Sitzung": lambda clip: clip,
    "video_number": lambda clip: 700 - 3 * clip,
    "code": lambda clip: 1_700_000_000_000 + clip,  # equal in float32
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_number_of_a_clip_is_no_feature(tmp_path: Path, name: str) -> None:
    def text(clip: int, number: int) -> str:
        values = np.random.default_rng(clip).random((3, 2))
        table = pd.DataFrame(values, columns=["a", "b"])
        return table.assign(**{name: number}).to_csv(index=False)

    own = {f"c{clip}": text(clip, NUMBERS[name](clip)) for clip in range(10)}
    stream, _, columns = read_foreign(table_of(tmp_path / "own", own))
    assert stream.specification.columns == ("a", "b")
    assert columns.left_out == {name: "is a whole number of its own in each clip"}
    assert columns.notes[0].startswith(f"{name}: is a whole number of its own in each clip, as")
    shared = {f"c{clip}": text(clip, NUMBERS[name](max(clip, 1))) for clip in range(10)}
    columns = read_foreign(table_of(tmp_path / "shared", shared))[2]
    assert columns.names == ("a", "b", name), "an age, or a person: not each clip's own"


def test_rows_without_success_are_reported(tmp_path: Path) -> None:
    text = "frame, success, AU01\n1,1,2\n2,0,0\n3,0,0\n"
    clips = table_of(tmp_path, {"a": text, "b": text.replace("0,0", "1,3")})
    (note,) = read_foreign(clips)[2].notes
    assert note.startswith("2 rows of 1 clips have success 0 and are used as they are: a (2)")


@pytest.mark.parametrize("listed", ["Zeit\na", "\ufeffZEIT\r\n\r\n A \r\n"])
def test_a_list_names_the_features(tmp_path: Path, listed: str) -> None:
    """Also those that look like counters, and those that the tools call otherwise."""
    clips = clips_with(tmp_path, "Zeit")
    (tmp_path / "columns.txt").write_text(listed)
    stream, _, columns = read_foreign(clips)
    assert [name.casefold() for name in stream.specification.columns] == ["zeit", "a"]
    assert stream.values[:3, 0].tolist() == pytest.approx([0, 0.04, 0.08])
    assert columns.left_out == {"b": "is not among the columns of columns.txt"}
    confident = table_of(tmp_path, {"c": "confidence,frame,a\n.5,0,1\n.25,1,2\n"})
    (tmp_path / "columns.txt").write_text("confidence")
    stream, _, columns = read_foreign(confident)
    assert stream.values.tolist() == [[0.5], [0.25]]
    assert list(columns.left_out) == ["frame", "a"]
    (tmp_path / "columns.txt").unlink()
    again, *_ = read_foreign(confident, ("confidence",))
    assert again.values.tolist() == [[0.5], [0.25]], "a model reads it by name"


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("a\nAU99", "not those of columns.txt: c0 lacks AU99"),
        ("a\nA\n", "columns.txt: column a occurs twice"),
        ("\n \n", "columns.txt: names no column; expected one a line"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path: Path, listed: str, message: str) -> None:
    clips = clips_with(tmp_path, "Zeit")
    (tmp_path / "columns.txt").write_text(listed)
    with pytest.raises(InputError, match=message):
        read_foreign(clips)


def test_a_set_of_nothing_but_counters_is_refused(tmp_path: Path) -> None:
    files: dict[str, str | np.ndarray] = {f"c{n}": "Zeit\n0\n1\n2\n" for n in range(10)}
    with pytest.raises(InputError, match="every column rises from row to row in every clip"):
        read_foreign(table_of(tmp_path, files))


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_columns_like_counters_and_ids_are_noted(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    files: dict[str, str | np.ndarray] = {}
    for number in range(3):
        table = pd.DataFrame(rng.random((4, 2)), columns=["AU01", "AU06"])
        table.insert(0, "tick", np.round(0.0333 * np.arange(4) + number, 2))
        table["age"], table["camera"] = 20 + number, 1
        csv = kind == "csv"
        files[f"c{number}"] = table.to_csv(index=False) if csv else table.to_numpy(np.float32)
    counter, person = read_foreign(table_of(tmp_path, files))[2].notes
    first, last = ("tick", "age") if kind == "csv" else ("column 1", "column 4")
    assert counter.startswith(f"{first}: rises by a constant step in every clip; used as a feature")
    assert person.startswith(f"{last}: is constant in every clip and differs between clips")


def test_the_set_is_the_folder_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "authors").mkdir()
    clips = read_clips(authors_tree(tmp_path / "authors", "features"))
    assert read_foreign(clips)[2].set_name == "MTL_features"
    muse = read_clips(muse_tree(tmp_path), features="FAUs")
    columns = read_foreign(muse)[2]
    assert (columns.set_name, columns.count) == ("FAUs", 5)
    assert list(columns.left_out) == ["timestamp", "subject_id"]


def test_noise_with_an_index_gives_the_same_features_as_without(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    recording = pd.DataFrame(rng.random((40, 3)), columns=["a", "b", "c"])
    parts = {f"c{n}": recording.iloc[10 * n : 10 * n + 10] for n in range(4)}
    with_index = {clip: part.to_csv() for clip, part in parts.items()}
    without = {clip: part.to_csv(index=False) for clip, part in parts.items()}
    found = read_foreign(table_of(tmp_path / "x", with_index))[0].values
    assert np.array_equal(found, read_foreign(table_of(tmp_path / "y", without))[0].values)


OPENFACE = "frame, face_id, timestamp, confidence, success, AU01_r"


def test_times_with_decimal_commas_are_seconds(tmp_path: Path) -> None:
    rows = ["1, 0, 0.000, 0.98, 1, 0.5", "2, 0, 0.033, 0.97, 1, 1.5", "3, 0, 0.067, 0.9, 1, 1.0"]
    plain = read(tmp_path, "\n".join([OPENFACE, *rows]))
    commas = [row.replace(", ", ";").replace(".", ",") for row in [OPENFACE, *rows]]
    found = read(tmp_path, "\n".join(commas))
    np.testing.assert_array_equal(found.values, plain.values)
    assert found.times is not None
    assert found.times.tolist() == [0, 0.033, 0.067]
    assert found.time_unit == ""


def test_durations_may_have_a_decimal_comma(tmp_path: Path) -> None:
    text = 'time,AU01\n"00:00:00,500",1\n"00:00:01,500",2\n'
    found = read(tmp_path, text)
    assert found.times is not None
    assert (found.times.tolist(), found.time_unit) == ([0.5, 1.5], "s")


def test_frames_with_decimal_commas_must_not_go_backwards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frame goes backwards"):
        read(tmp_path, "frame;AU01\n2,0;0,5\n1,0;1,5\n")


@pytest.mark.parametrize("cell", ['"1,2"', '"Smith, A"', '"1,000"', '"1,25"'])
def test_commas_of_other_columns_are_left_alone(tmp_path: Path, cell: str) -> None:
    found = read(tmp_path, f"frame,name,AU01\n1,{cell},0.5\n2,{cell},1.5\n")
    assert (found.names, found.values[:, 0].tolist()) == (("AU01",), [0.5, 1.5])


def test_an_empty_column_of_faces_names_none(tmp_path: Path) -> None:
    text = "frame,Identity,AU01\n1,,0.5\n1,,0.6\n"
    with pytest.raises(InputError, match="frame 1 occurs in several rows"):
        read(tmp_path, text)


def parquet(tmp_path: Path, table: pd.DataFrame) -> FeatureFile:
    table.to_parquet(tmp_path / "c.parquet")
    return read_feature_file(tmp_path / "c.parquet")


@pytest.mark.parametrize("index", [[7, 2, 9], [("a", 3), ("a", 5), ("b", 1)]])
def test_an_unnamed_index_of_parquet_is_no_feature(tmp_path: Path, index: list[object]) -> None:
    found = parquet(tmp_path, pd.DataFrame({"AU01": [1.0, 2.0, 3.0]}, pd.Index(index)))
    assert found.names == ("AU01",)


def test_a_named_index_of_parquet_is_a_column(tmp_path: Path) -> None:
    index = pd.MultiIndex.from_tuples([(5, 1), (3, 2)], names=[None, "frame"])
    found = parquet(tmp_path, pd.DataFrame({"AU01": [1.0, 2.0]}, index))
    assert (found.names, list(found.left_out)) == (("AU01",), ["frame"])


@pytest.mark.parametrize("kind", ["int64", "uint32"])
def test_parquet_rows_must_not_go_backwards(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame({"frame": np.array([3, 1, 2], kind), "AU01": [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match="frame goes backwards"):
        parquet(tmp_path, table)


def test_columns_of_parquet_are_named_as_those_of_csv(tmp_path: Path) -> None:
    table = pd.DataFrame({"Unnamed: 0": [4, 5], " AU01_r": [1.0, 2.0]})
    found = parquet(tmp_path, table)
    assert (found.names, list(found.left_out)) == (("AU01_r",), ["(unnamed)"])


def test_an_empty_cell_of_parquet_is_named(tmp_path: Path) -> None:
    table = pd.DataFrame({"AU01": pd.array([1.0, None], "Float64")})
    with pytest.raises(InputError, match="NaN or infinity in row 2 of values, column AU01"):
        parquet(tmp_path, table)


def test_times_of_day_are_no_times_of_the_clip(tmp_path: Path) -> None:
    times = pd.to_datetime(["2024-05-01 10:00:00", "2024-05-01 10:00:01"])
    for column in (times, times.time):
        found = parquet(tmp_path, pd.DataFrame({"timestamp": column, "AU01": [1.0, 2.0]}))
        assert (found.names, found.times) == (("AU01",), None)
