"""The data sheet of a folder of clips: what is in it, and what looks wrong, before a search."""

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.clips.images import image_files, sampled_images
from harness.clips.table import SPLITS, ClipTable, shared_groups, some
from harness.clips.video import sampled_frames, stated_frames, stated_rate
from harness.cores import cores
from harness.dataset import NOTHING
from harness.errors import InputError, printable
from harness.progress import Progress, silent
from harness.streams.contents import sources
from harness.streams.file_store import FileStore
from harness.streams.precomputed import read_foreign, set_name_of

# Ratings are in [0, 1]; a target that varies less can hardly be scored.
_CONSTANT_DEVIATION, _CONSTANT_SHARE = 0.01, 0.99
# A column that says so much about a rating is rather a label than a feature.
_LEAK, _FEWEST = 0.9, 10
# A stride beyond the end of every clip: only its first frame is read.
_FIRST_ONLY = (1 << 30,)
# Clips of a split whose headers are read before a search; some hundred take a second.
_TRIED = 100


@dataclass(frozen=True)
class SplitCounts:
    """Clips of a split, those that are rated, those with a file, and persons (0 if not known)."""

    clips: int
    rated: int
    with_file: int
    persons: int


@dataclass(frozen=True)
class Leak:
    """A column whose mean over each clip correlates with a target. pcc: on the rated clips."""

    column: str
    target: str
    pcc: float


@dataclass(frozen=True)
class DataSheet:
    """What a folder of clips holds.

    kind: of the clips' files. splits: counts by split. targets: their names. persons: number of
    groups, 0 if not known. shared_persons: those with clips in several splits, with these.
    same_contents: ids of clips whose files are equal. same_contents_across: how many of these sets
    have clips of several splits. constant_targets: targets that hardly vary in a split. leaks:
    columns that correlate with a target beyond 0.9. steps: least, median and largest number of
    steps of a clip (frames as the header of a film states them, images, or rows). missing: clips
    without a usable file, problems: those with another problem, with the reason. read: what was
    read of precomputed features.
    """

    kind: str
    splits: dict[str, SplitCounts]
    targets: tuple[str, ...]
    persons: int
    shared_persons: tuple[str, ...]
    same_contents: tuple[tuple[str, ...], ...]
    same_contents_across: int
    constant_targets: tuple[str, ...]
    leaks: tuple[Leak, ...]
    steps: tuple[int, float, int]
    missing: dict[str, str]
    problems: dict[str, str]
    read: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The sheet for the terminal: what there is."""
        persons = f", {self.persons} persons" if self.persons else ""
        clips = sum(split.clips for split in self.splits.values())
        targets = ", ".join(map(printable, self.targets))
        found = [f"{clips} clips ({self.kind}){persons}; targets: {targets}"]
        for name, split in self.splits.items():
            count = f", {split.persons} persons" if split.persons else ""
            found.append(
                f"{name}: {split.clips} clips, {split.rated} rated, {split.with_file} with a file"
                + count
            )
        least, median, most = self.steps
        found.append(f"steps per clip: {least} to {most}, median {median:g}")
        return [*found, *self.read]

    def warnings(self) -> list[str]:
        """What looks wrong, a line each kind."""
        found = []
        for clips, what in ((self.missing, "cannot be read"), (self.problems, "have problems")):
            if clips:
                listed = some([f"{clip} ({reason})" for clip, reason in clips.items()])
                found.append(f"{len(clips)} clips {what}: {listed}")
        if self.shared_persons:
            found.append(
                f"{len(self.shared_persons)} persons have clips in several splits: "
                f"{some(self.shared_persons)}"
            )
        if self.same_contents:
            listed = some([" = ".join(ids) for ids in self.same_contents])
            across = f", {self.same_contents_across} across splits"
            found.append(f"{len(self.same_contents)} sets of clips are equal{across}: {listed}")
        if self.constant_targets:
            found.append(f"targets that hardly vary: {some(self.constant_targets)}")
        if self.leaks:
            listed = some([f"{leak.column} with {leak.target} ({leak.pcc:.3f})"
                           for leak in self.leaks])  # fmt: skip
            found.append(
                f"columns whose mean over a clip correlates with a target beyond {_LEAK}: {listed};"
                " do they contain the rating, or the order of the recording?"
            )
        return found


def data_sheet(
    clips: ClipTable, cache: Path | None = None, progress: Progress = silent
) -> DataSheet:
    """Reads a frame of each clip, or all precomputed features, and compares contents.

    Args:
        cache: remembers what was read of files between runs; None: nothing is written.

    Raises:
        InputError: precomputed features that no search would accept.
    """
    names: Sequence[str] = ()
    read: tuple[str, ...] = ()
    if clips.kind == "features":
        store = FileStore(cache and cache / "features")
        stream, problems, columns = read_foreign(clips, store=store)
        means = _means(stream.values, stream.offsets)
        steps, prints = stream.counts, stream.digests()
        width = stream.width
        names = stream.specification.columns or [f"column {n + 1}" for n in range(width)]
        read = (str(stream), *columns.left_out_lines(), *columns.notes)
    else:
        steps, problems = _lengths(clips, progress)
        prints = sources(clips, cache and cache / "features")
        means = np.empty((len(clips), 0))
    means = np.column_stack([means, np.where(steps > 0, steps, np.nan)])
    missing = {
        clip: problems[clip]
        for clip, count in zip(clips.clip_ids, steps.tolist(), strict=True)
        if clip in problems and not count
    }
    equal = _same_contents(clips, prints, missing)
    split_of = dict(zip(clips.clip_ids, clips.splits, strict=True))
    known = steps[steps > 0]
    return DataSheet(
        kind=clips.kind,
        splits={name: _counts(clips, name) for name in SPLITS if name in clips.splits},
        targets=clips.target_names,
        persons=len(set(clips.groups or ())),
        shared_persons=tuple(shared_groups(clips)),
        same_contents=equal,
        same_contents_across=sum(len({split_of[clip] for clip in ids}) > 1 for ids in equal),
        constant_targets=tuple(_constant_targets(clips)),
        leaks=tuple(_leaks(clips, means, [*names, "number of steps"])),
        steps=(int(known.min()), float(np.median(known)), int(known.max())) if len(known)
        else (0, 0.0, 0),
        missing=missing,
        problems={clip: why for clip, why in problems.items() if clip not in missing},
        read=read,
    )  # fmt: skip


def files_of(clips: ClipTable) -> str:
    """What the files of a table are, for a person: their kind, or the feature set."""
    return set_name_of(clips.paths) if clips.kind == "features" else clips.kind


def check_headers(clips: ClipTable) -> list[str]:
    """Opens some clips of each split before their features are computed; gives a line on those that
    cannot be read.

    Raises:
        InputError: none of those of train or of val can be read.
    """
    failed: list[str] = []
    tried = 0
    for split in SPLITS if clips.kind != "features" else ():
        rows = [r for r, name in enumerate(clips.splits) if name == split and clips.paths[r]]
        some_rows = [rows[place] for place in _spread(len(rows))]
        with ThreadPoolExecutor(cores()) as pool:
            reasons = list(pool.map(lambda row: _header_problem(clips, row), some_rows))
        bad = [f"{clips.clip_ids[row]} ({reason})"
               for row, reason in zip(some_rows, reasons, strict=True) if reason]  # fmt: skip
        if bad and len(bad) == len(some_rows) and split != "test":
            raise InputError(
                f"{split}: none of {len(bad)} clips can be read: {some(bad)}; "
                "`python -m harness.extract --check` reads them all"
            )
        failed += bad
        tried += len(some_rows)
    if not failed:
        return []
    return [f"{len(failed)} of {tried} clips that were tried cannot be read: {some(failed)}"]


def _spread(count: int) -> list[int]:
    """At most _TRIED places of so many, evenly spread."""
    places: list[int] = np.linspace(0, count - 1, min(count, _TRIED)).astype(int).tolist()
    return places


def _header_problem(clips: ClipTable, row: int) -> str:
    path = clips.paths[row]
    assert path is not None  # clips without a file are not tried
    try:
        if clips.kind == "video":
            stated_rate(path)  # opens it; counting frames may read it whole
        elif not (path.is_dir() and image_files(path)[0]):
            return f"{path}: holds no image"
    except InputError as error:
        return str(error)
    return ""


def _counts(clips: ClipTable, split: str) -> SplitCounts:
    rows = [row for row, name in enumerate(clips.splits) if name == split]
    return SplitCounts(
        clips=len(rows),
        rated=int((~np.isnan(clips.targets[rows]).any(axis=1)).sum()),
        with_file=sum(clips.paths[row] is not None for row in rows),
        persons=len({clips.groups[row] for row in rows}) if clips.groups else 0,
    )


def _lengths(clips: ClipTable, progress: Progress) -> tuple[NDArray[np.int64], dict[str, str]]:
    """Steps of each clip, 0 of those that cannot be read, and what is wrong with clips."""
    steps, problems = np.zeros(len(clips), np.int64), {}
    with ThreadPoolExecutor(cores()) as pool:
        lengths = pool.map(lambda path: _length(path, clips.kind), clips.paths)
        for row, (found, reason) in enumerate(lengths):
            steps[row] = found
            if reason:
                problems[clips.clip_ids[row]] = reason
            progress("clips", row + 1, len(clips))
    return steps, problems


def _length(path: Path | None, kind: str) -> tuple[int, str]:
    """How many frames a clip has, and what is wrong with it; its first frame is decoded."""
    if path is None:
        return 0, "no file"
    count = 0
    try:
        if kind == "video":
            next(sampled_frames(path, _FIRST_ONLY))
            return stated_frames(path), ""
        count = len(image_files(path)[0]) if path.is_dir() else 0
        # To the end, where problems are reported.
        first = list(sampled_images(path, _FIRST_ONLY))
        return count if first else 0, ""
    except InputError as error:
        return count, str(error)


def _means(values: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """(clips, columns) means over the steps; NaN of clips without any."""
    sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(values, axis=0, dtype=np.float64)])
    counts = np.diff(offsets)[:, np.newaxis]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = np.diff(sums[offsets], axis=0) / counts
    return found


def _same_contents(
    clips: ClipTable, prints: Sequence[str], missing: Collection[str]
) -> tuple[tuple[str, ...], ...]:
    """Sets of clips with one fingerprint, except those without a file that can be read."""
    ids: dict[str, list[str]] = {}
    for clip, found, path in zip(clips.clip_ids, prints, clips.paths, strict=True):
        if path is not None and clip not in missing and found != NOTHING:
            ids.setdefault(found, []).append(clip)
    return tuple(tuple(equal) for equal in ids.values() if len(equal) > 1)


def _constant_targets(clips: ClipTable) -> list[str]:
    found = []
    for split in SPLITS:
        rows = [row for row, name in enumerate(clips.splits) if name == split]
        rated = clips.targets[rows][~np.isnan(clips.targets[rows]).any(axis=1)]
        for name, ratings in zip(clips.target_names, rated.T, strict=True):
            if not len(ratings):
                continue
            share = Counter(ratings.tolist()).most_common(1)[0][1] / len(ratings)
            if share >= _CONSTANT_SHARE or ratings.std() < _CONSTANT_DEVIATION:
                found.append(
                    f"{name} in {split} ({share:.0%} of the clips have one rating, deviation "
                    f"{ratings.std():.3g})"
                )
    return found


def _leaks(clips: ClipTable, means: NDArray[np.float64], names: Sequence[str]) -> list[Leak]:
    """The columns that correlate with a target beyond _LEAK, the strongest first."""
    rated = ~np.isnan(clips.targets).any(axis=1) & ~np.isnan(means).any(axis=1)
    if rated.sum() < _FEWEST:
        return []
    columns, targets = (_standardised(array[rated]) for array in (means, clips.targets))
    pcc = columns.T @ targets / rated.sum()
    found = [
        Leak(names[column], clips.target_names[target], float(pcc[column, target]))
        for column, target in np.argwhere(np.abs(pcc) > _LEAK).tolist()
    ]
    return sorted(found, key=lambda leak: -abs(leak.pcc))


def _standardised(values: NDArray[Any]) -> NDArray[np.float64]:
    """Columns with mean 0 and deviation 1; 0 where a column is constant."""
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    found: NDArray[np.float64] = centred / np.where(deviation > 0, deviation, np.inf)
    return found
