"""The layout `plain`: a csv of any targets beside a folder of videos, images or features."""

from pathlib import Path

from harness.clips.csv_file import read_csv
from harness.clips.csv_form import UNNAMED
from harness.clips.folder import VIDEO_SUFFIXES
from harness.clips.labels import Labels, labels_of
from harness.clips.layouts.files import join_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.table import SPLITS, ClipTable, Kind
from harness.errors import InputError

# By the folder's name: what it holds, and the suffixes of the files.
_FOLDERS: dict[str, tuple[Kind, tuple[str, ...] | None]] = {
    "clips": ("video", VIDEO_SUFFIXES),
    "frames": ("images", None),
    "features": ("features", (".npy", ".csv")),
}

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
    found = [name for name in _FOLDERS if (folder / name).is_dir()]
    if len(found) != 1:
        raise InputError(
            f"{folder}: expected one of clips/, frames/ and features/ beside clips.csv; found "
            f"{', '.join(found) or 'none'}"
        )
    kind, suffixes = _FOLDERS[found[0]]
    return join_files(folder, labels, dict.fromkeys(SPLITS, folder / found[0]), kind, suffixes)


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
    form=("clips.csv", "{clips/<id>.mp4,frames/<id>/,features/<id>.npy}"),
    sign="clips.csv",
    origin="your own",
    recognise=_recognise,
    read=_read,
)
