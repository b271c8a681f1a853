"""The files of clips: found in a folder by their names and joined to labels."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.clips.folder import SOUND_SUFFIXES, VIDEO_SUFFIXES, entries, unread
from harness.clips.labels import Labels
from harness.clips.table import ClipTable, Kind, some
from harness.errors import InputError
from harness.pictures import IMAGE_SUFFIXES

_SUFFIXES = (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, ".npy", ".csv", ".wav")

#: The folder of sound files in a data folder of any layout: `<id>.wav` or another suffix.
SOUNDS = "audio"


def clip_files(folder: Path, suffixes: Sequence[str] | None) -> dict[str, Path]:
    """The files of a folder by their stem; none if there is no such folder.

    Args:
        suffixes: in lower case; of two files with one stem, the earlier suffix wins. None: a clip
            is a subfolder.
    """
    if not folder.is_dir():
        return {}
    if suffixes is None:
        return {path.name: path for path in entries(folder) if path.is_dir()}
    # A later entry of the dictionary replaces an earlier one.
    ranked = sorted(
        (path for path in entries(folder) if path.suffix.lower() in suffixes),
        key=lambda path: -suffixes.index(path.suffix.lower()),
    )
    return {path.stem: path for path in ranked}


def shadowed_files(folder: Path, suffixes: Sequence[str] | None) -> list[Path]:
    """The files that `clip_files` leaves out because another one has their stem."""
    if suffixes is None or not folder.is_dir():
        return []
    taken = set(clip_files(folder, suffixes).values())
    return [p for p in entries(folder) if p.suffix.lower() in suffixes and p not in taken]


def unread_files(
    folder: Path, suffixes: Sequence[str] | None, known: Sequence[str] = ()
) -> list[str]:
    """Lines on the entries of a folder that `clip_files` does not read: other suffixes, and
    subfolders where a clip is a file. known: names of entries that something else reads."""
    if not folder.is_dir():
        return []
    if suffixes is None:
        files = [path.name for path in entries(folder) if not path.is_dir()]
        if not files:
            return []
        return [f"{folder}: {len(files)} files are not read: {some(files)} (a clip is a folder)"]
    others = [
        path
        for path in entries(folder)
        if path.suffix.lower() not in suffixes and path.name not in known
    ]
    return [f"{folder}: {line}" for line in unread(others, suffixes)]


def sound_files(
    root: Path, stems: Sequence[str], folders: Iterable[Path] = ()
) -> tuple[tuple[Path | None, ...] | None, list[str]]:
    """The sound file of each clip, in `audio` of the data folder or in other folders; None if no
    clip has one. Lines name the files that are of no clip or are not read.

    Args:
        folders: those of a layout, which come first.
    """
    folders = [*folders, root / SOUNDS]
    found: dict[str, Path] = {}
    there: list[Path] = []
    for folder in folders:
        named = clip_files(folder, SOUND_SUFFIXES)
        there += [*named.values(), *shadowed_files(folder, SOUND_SUFFIXES)]
        found = named | found
    sounds = tuple(map(found.get, stems))
    notes = [line for folder in folders for line in unread_files(folder, SOUND_SUFFIXES)]
    used = set(sounds)
    if extra := sorted(str(path.relative_to(root)) for path in there if path not in used):
        notes.append(
            f"{root}: {len(extra)} sound files are of no clip, or their clip has another: "
            f"{some(extra)}"
        )
    return (sounds if any(sounds) else None), notes


def join_files(
    root: Path,
    labels: Labels,
    folders: Mapping[str, Path],
    kind: Kind,
    suffixes: Sequence[str] | None,
    *,
    spare: Mapping[str, Path] | None = None,
    strangers: Sequence[Path] = (),
    sounds: Iterable[Path] = (),
    data: Path | None = None,
) -> ClipTable:
    """Joins labels to the files of their clips. Notes list the clips without a file, the files
    without a clip, and the files that are not read.

    Args:
        root: the data folder, or that of a feature set, which the notes name.
        folders: where the clips of each split are; several splits may share a folder.
        suffixes: as for `clip_files`.
        spare: by stem, files of clips that `folders` lack.
        strangers: files in other places that belong to no clip.
        sounds: folders of sound files beside `audio` of the data folder.
        data: the data folder, if `root` is another one.

    Raises:
        InputError: a clip lacks a file that is there under another spelling of its id.
    """
    there = {split: clip_files(folder, suffixes) for split, folder in folders.items()}
    paths: list[Path | None] = []
    for stem, split in zip(labels.stems, labels.splits, strict=True):
        paths.append(there[split].get(stem) or (spare or {}).get(stem))
    notes = [*labels.notes]
    missing = [i for i, path in zip(labels.ids, paths, strict=True) if path is None]
    if missing:
        notes.append(
            f"{root}: {len(missing)} of {len(paths)} clips of the labels have no file: "
            f"{some(missing)}"
        )
    used = {path for path in paths if path}
    here = [path for found in there.values() for path in found.values()]
    # A folder that several splits share is listed once.
    homes = sorted(set(folders.values()))
    here += [path for folder in homes for path in shadowed_files(folder, suffixes)]
    extra = sorted({str(p.relative_to(root)) for p in (*here, *strangers) if p not in used})
    _check_spellings(
        root, [s for s, path in zip(labels.stems, paths, strict=True) if not path], extra
    )
    if extra:
        notes.append(f"{root}: {len(extra)} files belong to no clip of the labels: {some(extra)}")
    notes += [line for folder in homes for line in unread_files(folder, suffixes)]
    heard, lines = sound_files(data or root, labels.stems, sounds)
    return ClipTable(
        clip_ids=labels.ids,
        splits=labels.splits,
        targets=labels.targets,
        target_names=labels.target_names,
        paths=tuple(paths),
        kind=kind,
        groups=labels.groups,
        sounds=heard,
        notes=(*notes, *lines),
    )


def _check_spellings(root: Path, stems: Sequence[str], files: Sequence[str]) -> None:
    """InputError if ids without a file and files without an id differ in spelling alone: in leading
    zeros, which spreadsheets remove, in case, or in a suffix.

    Args:
        stems: of the clips without a file. files: that belong to no clip.
    """
    if not stems:
        return
    # A file of the very name is in the folder of another split.
    own = set(stems)
    others = {_without_suffix(Path(file).name): file for file in files}
    there = {_spelling(name): file for name, file in others.items() if name not in own}
    if close := [(stem, there[_spelling(stem)]) for stem in stems if _spelling(stem) in there]:
        pairs = some([f"{stem} and {file}" for stem, file in close])
        raise InputError(
            f"{root}: {len(close)} ids of the labels differ from the name of a file only in "
            f"leading zeros (spreadsheets remove them), case or a suffix: {pairs}; write the ids "
            "as the files are called, without a suffix"
        )


def _without_suffix(name: str) -> str:
    return Path(name).stem if Path(name).suffix.lower() in _SUFFIXES else name


def _spelling(name: str) -> str:
    """What is left of a name when case, a suffix and leading zeros of a number do not count."""
    plain = _without_suffix(name).casefold()
    return plain.lstrip("0") if plain.isdecimal() else plain
