"""The layout `plain`: a csv of any targets beside videos or images, feature sets, or both."""

from pathlib import Path

from harness.clips.csv_file import read_csv
from harness.clips.csv_form import UNNAMED
from harness.clips.folder import VIDEO_SUFFIXES, entries
from harness.clips.labels import Labels, labels_of
from harness.clips.layouts.files import join_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.table import SPLITS, ClipTable, Kind
from harness.errors import InputError

# By the folder's name: what it holds, and the suffixes of the files.
_FRAMES: dict[str, tuple[Kind, tuple[str, ...] | None]] = {
    "clips": ("video", VIDEO_SUFFIXES),
    "frames": ("images", None),
}
# The folder of features, and the name of a set whose files are in no folder of their own.
_FEATURES = "features"
_SUFFIXES = (".npy", ".csv", ".parquet")

# Columns that others call so; as targets they would be wrong, and persons in several splits unseen.
_PERSONS = frozenset(
    (
        *("person", "person_id", "personid", "subject", "subject_id", "subjectid", "subj"),
        *("participant", "participant_id", "participantid", "speaker", "speaker_id", "actor"),
        *("user", "user_id", "userid", "patient", "patient_id", "proband", "groups"),
    )
)


def _recognise(folder: Path) -> bool:
    return (folder / "clips.csv").is_file()


def _read(folder: Path, options: LayoutOptions) -> ClipTable:
    labels = _read_labels(folder / "clips.csv")
    frames = [name for name in _FRAMES if (folder / name).is_dir()]
    if options.features is not None:
        return _read_set(folder, labels, options.features)
    if len(frames) == 1:
        kind, suffixes = _FRAMES[frames[0]]
        homes = dict.fromkeys(SPLITS, folder / frames[0])
        return join_files(folder, labels, homes, kind, suffixes)
    sets = _feature_sets(folder)
    if frames or not sets:
        raise InputError(
            f"{folder}: expected one of clips/, frames/ and features/ beside clips.csv; found "
            f"{', '.join(frames) or 'none'}"
        )
    if len(sets) > 1 and sets[0] != _FEATURES:
        raise InputError(
            f"{folder / _FEATURES}: several feature sets; `features`: choose one of "
            f"{', '.join(sets)}"
        )
    return _read_set(folder, labels, sets[0])


def _has_frames(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in _FRAMES)


def _read_set(folder: Path, labels: Labels, name: str) -> ClipTable:
    """The table of one feature set; its notes name the folder of the set."""
    sets, home = _feature_sets(folder), folder / _FEATURES
    if name not in sets:
        raise InputError(f"`features` {name}: choose one of {', '.join(sets) or 'none'}")
    direct = name == _FEATURES and (_has_files(home) or not (home / name).is_dir())
    own = home if direct else home / name
    root = folder if own == home else own
    homes = dict.fromkeys(SPLITS, own)
    return join_files(root, labels, homes, "features", _SUFFIXES, data=folder)


def _feature_sets(folder: Path) -> list[str]:
    """`features` where files are directly in the folder of features; and its subfolders."""
    home = folder / _FEATURES
    if not home.is_dir():
        return []
    inside = sorted(path.name for path in entries(home) if path.is_dir())
    if _has_files(home) or not inside:
        return [_FEATURES, *(name for name in inside if name != _FEATURES)]
    return inside


def _has_files(home: Path) -> bool:
    return any(path.suffix.lower() in _SUFFIXES for path in entries(home) if path.is_file())


def _read_labels(file: Path) -> Labels:
    """Every named column except those of the harness is a target."""
    table = read_csv(file)
    own = ("clip_id", "split", "group")
    persons = [name for name in map(str, table.columns) if name.casefold() in _PERSONS]
    if persons:
        raise InputError(
            f"{file}: column {persons[0]} seems to name the persons; call it group, or remove it"
        )
    names = [name for name in map(str, table.columns) if name.casefold() not in (*own, UNNAMED)]
    if not names:
        raise InputError(
            f"{file}: no target column beside {', '.join(own)}; add one for each target"
        )
    return labels_of(
        file,
        table,
        id_column="clip_id",
        split_column="split",
        target_names=names,
        group_column="group",
    )


PLAIN = Layout(
    name="plain",
    description="your own clips: any targets, and videos, images or features",
    form=(
        "clips.csv",
        "{clips/<id>.mp4,frames/<id>/,features/<id>.npy}",
        "features/<set>/<id>.npy",
    ),
    sign="clips.csv",
    origin="your own",
    recognise=_recognise,
    read=_read,
    feature_sets=_feature_sets,
    has_frames=_has_frames,
)
