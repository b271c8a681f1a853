"""The files of clips: found in a folder by their names and joined to labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.clips.labels import Labels
from harness.clips.table import ClipTable, Kind, some

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def clip_files(folder: Path, suffixes: Sequence[str] | None) -> dict[str, Path]:
    """The files of a folder by their stem; none if there is no such folder.

    Args:
        suffixes: in lower case; of two files with one stem, the earlier suffix wins. None: a clip
            is a subfolder.
    """
    if not folder.is_dir():
        return {}
    entries = sorted(folder.iterdir())
    if suffixes is None:
        return {path.name: path for path in entries if path.is_dir()}
    # A later entry of the dictionary replaces an earlier one.
    ranked = sorted(
        (p for p in entries if p.suffix.lower() in suffixes),
        key=lambda p: -suffixes.index(p.suffix.lower()),
    )
    return {path.stem: path for path in ranked}


def shadowed_files(folder: Path, suffixes: Sequence[str] | None) -> list[Path]:
    """The files that `clip_files` leaves out because another one has their stem."""
    if suffixes is None or not folder.is_dir():
        return []
    taken = set(clip_files(folder, suffixes).values())
    entries = sorted(folder.iterdir())
    return [p for p in entries if p.suffix.lower() in suffixes and p not in taken]


def join_files(
    root: Path,
    labels: Labels,
    folders: Mapping[str, Path],
    kind: Kind,
    suffixes: Sequence[str] | None,
    *,
    spare: Mapping[str, Path] | None = None,
    strangers: Sequence[Path] = (),
) -> ClipTable:
    """Joins labels to the files of their clips. Notes list the clips without a file, and the files
    without a clip.

    Args:
        root: the data folder, which the notes name.
        folders: where the clips of each split are; several splits may share a folder.
        suffixes: as for `clip_files`.
        spare: by stem, files of clips that `folders` lack.
        strangers: files in other places that belong to no clip.
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
    here = [path for entries in there.values() for path in entries.values()]
    # A folder that several splits share is listed once.
    here += [path for folder in set(folders.values()) for path in shadowed_files(folder, suffixes)]
    extra = sorted({str(p.relative_to(root)) for p in (*here, *strangers) if p not in used})
    if extra:
        notes.append(f"{root}: {len(extra)} files belong to no clip of the labels: {some(extra)}")
    return ClipTable(
        clip_ids=labels.ids,
        splits=labels.splits,
        targets=labels.targets,
        target_names=labels.target_names,
        paths=tuple(paths),
        kind=kind,
        groups=labels.groups,
        notes=tuple(notes),
    )
