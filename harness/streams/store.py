"""The feature store: one row per frame, or per step of sound, each computed once.

Each specification of a stream has a folder, named by its fingerprint, with Parquet shards. A shard
is written whole and never changed, so that an interruption loses nothing that was stored.
"""

import itertools
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.atomic import write_text
from harness.dataset import Specification, Stream
from harness.errors import InputError
from harness.parquet import sealed_content, writing
from harness.sampling import Sampling, of_clip

#: Of the shards, and the end of the name of their folder.
SCHEMA = "6"
#: The file of a store that says whose features they are; its time is that of the last use.
DESCRIPTION = "specification.json"
_METADATA_KEY = b"harness.clips"


@dataclass(frozen=True)
class ClipFrames:
    """Newly computed features of one clip.

    samplings: those that are complete with these rows. frames: (n,) indices. features: (n, dim), of
    any dim where n is 0. faceless: indices of frames that show no face and have no features.
    problem: why frames are missing; "" if none are. times: (n,) float32, the second of the clip at
    which each begins, NaN where it is not known; None where none is. passing: the problem may be
    gone later.
    """

    clip_id: str
    source: str
    samplings: tuple[Sampling, ...]
    frames: NDArray[np.int32]
    features: NDArray[Any]
    faceless: tuple[int, ...] = ()
    problem: str = ""
    times: NDArray[np.float32] | None = None
    passing: bool = False


@dataclass
class _Stored:
    source: str
    problem: str = ""
    passing: bool = False
    faceless: set[int] = field(default_factory=set)
    samplings: set[Sampling] = field(default_factory=set)
    frames: list[NDArray[np.int32]] = field(default_factory=list)
    features: list[NDArray[Any]] = field(default_factory=list)
    times: list[NDArray[np.float32]] = field(default_factory=list)


class FeatureStore:
    """The stored features of one specification, under `root/<fingerprint>`."""

    def __init__(self, root: Path, specification: Specification) -> None:
        self.specification = specification
        self.root = root
        self.folder = _folder(root, specification)
        self._dtype = np.dtype(str(specification.details.get("stored", "float32")))
        self._clips: dict[str, _Stored] = {}
        self._shards = 0
        description = self.folder / DESCRIPTION
        if not description.exists():
            _made(description, json.dumps(specification.to_dict(), indent=2) + "\n")
        with suppress(OSError):  # a cache that others keep may be read-only
            os.utime(description)
        for shard in sorted(self.folder.glob("[0-9]*.parquet")):
            self._read(shard)

    def missing(self, clip_id: str, source: str, samplings: Iterable[Sampling]) -> list[Sampling]:
        """The samplings whose frames are not all stored for these contents of the clip."""
        if (stored := self._of(clip_id, source)) is None:
            return sorted(set(samplings))
        return sorted(
            {s for s in samplings if not any(complete.serves(s) for complete in stored.samplings)}
        )

    def known_frames(self, clip_id: str, source: str) -> frozenset[int]:
        """The indices of the clip's frames that are stored."""
        stored = self._of(clip_id, source)
        if stored is None or not stored.frames:
            return frozenset()
        return frozenset(np.concatenate(stored.frames).tolist())

    def problems(self, clips: Iterable[tuple[str, str]]) -> dict[str, str]:
        """By clip the reason why frames are missing. clips: as (clip id, source)."""
        stored = ((clip_id, self._of(clip_id, source)) for clip_id, source in clips)
        return {
            clip_id: clip.problem or f"no face in any of its {len(clip.faceless)} frames"
            for clip_id, clip in stored
            if clip is not None and (clip.problem or (clip.faceless and not clip.frames))
        }

    def faceless(
        self, clips: Iterable[tuple[str, str]], samplings: Sequence[Sampling]
    ) -> dict[str, int]:
        """By clip the number of frames of `samplings` without a face, where there are some; with an
        interval, of all frames that were searched for a face. clips: as (clip id, source)."""
        counts = {}
        for clip_id, source in clips:
            if (stored := self._of(clip_id, source)) is not None:
                wanted = [
                    frame
                    for frame in stored.faceless
                    if any(not s.stride or frame % s.stride == 0 for s in samplings)
                ]
                if wanted:
                    counts[clip_id] = len(wanted)
        return counts

    def _of(self, clip_id: str, source: str) -> _Stored | None:
        stored = self._clips.get(clip_id)
        return stored if stored is not None and stored.source == source else None

    def append(self, clips: Sequence[ClipFrames]) -> None:
        """Writes one shard; when this returns, it is on the disk.

        Raises:
            InputError: a value is beyond the range of the number format.
        """
        if not clips:
            return
        clips = [replace(clip, features=self._rounded(clip.features)) for clip in clips]
        # Other processes may write here, too: a name of its own overwrites nothing.
        path = self.folder / f"{self._shards:06d}-{secrets.token_hex(4)}.parquet"
        filled = [clip.features for clip in clips if len(clip.frames)]
        flat = np.concatenate(filled or [np.empty((0, 1), self._dtype)])
        dim = flat.shape[1]
        table = pa.table(
            {
                "clip_id": pa.array(
                    np.repeat([c.clip_id for c in clips], [len(c.frames) for c in clips]),
                    pa.string(),
                ),
                "frame": pa.array(np.concatenate([c.frames for c in clips]), pa.int32()),
                "time": pa.array(np.concatenate([_times(c) for c in clips]), pa.float32()),
                "features": pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), dim),
            }
        )
        notes = {
            c.clip_id: {
                "source": c.source,
                "strides": [sampling.to_json() for sampling in c.samplings],
                "faceless": list(c.faceless),
                "problem": c.problem,
                "passing": c.passing,
            }
            for c in clips
        }
        text = json.dumps(notes).encode()
        table = table.replace_schema_metadata({_METADATA_KEY: text})
        with writing(path, table.schema) as writer:
            writer.write_table(table)
        self._take(clips)
        self._shards += 1

    def load(self, clips: Sequence[tuple[str, str]], samplings: Sequence[Sampling]) -> Stream:
        """The features of clips, given as (clip id, source), in that order.

        A clip without a frame has no rows; `problems` has the reason. Only the frames of
        `samplings` are loaded, in order of time.

        Raises:
            InputError: a clip whose frames are not stored, with how to compute them; or an interval
                is asked for, and the times of a clip's frames are not known.
        """
        frames, features, times, counts = [], [], [], []
        for clip_id, source in clips:
            if missing := self.missing(clip_id, source, samplings):
                clip = self._of(clip_id, source)
                reason = f" ({clip.problem})" if clip and clip.problem else ""
                raise InputError(
                    f"{self.folder}: no features of clip {clip_id} at "
                    f"{', '.join(map(str, missing))}{reason}; run python -m harness.extract again"
                )
            stored = self._clips[clip_id]
            if not stored.frames:
                counts.append(0)
                continue
            index = np.concatenate(stored.frames)
            # Two runs may have computed the same frame; both results are valid.
            unique, first = np.unique(index, return_index=True)
            begun = np.concatenate(stored.times)[first]
            wanted = of_clip(samplings, unique, begun, clip_id)
            frames.append(unique[wanted])
            features.append(np.concatenate(stored.features)[first[wanted]])
            times.append(begun[wanted])
            counts.append(int(wanted.sum()))
        if not features:
            raise InputError(
                f"{self.folder}: none of {len(clips)} clips gave a frame; "
                "check that the files play and show faces"
            )
        seconds = np.concatenate(times)
        return Stream(
            specification=self.specification,
            values=np.ascontiguousarray(np.concatenate(features), dtype=np.float32),
            positions=np.concatenate(frames).astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            times=None if np.isnan(seconds).all() else seconds,
            sampled=True,
        )

    def _rounded(self, features: NDArray[np.float32]) -> NDArray[Any]:
        """In the number format of the store, also for those who read without storing first."""
        with np.errstate(over="ignore"):  # the test follows
            rounded = features.astype(self._dtype, copy=False)
        if not np.isfinite(rounded).all():
            raise InputError(
                f"a feature of {np.abs(features).max():g} is beyond the range of {self._dtype}; "
                "use float32",
                "stored",
            )
        return rounded

    def _read(self, shard: Path) -> None:
        try:
            table = pq.read_table(sealed_content(shard), page_checksum_verification=True)
            notes = json.loads(table.schema.metadata[_METADATA_KEY])
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{shard}: a damaged feature shard ({error}); delete this file and run again, "
                "its frames are then computed anew"
            ) from error
        ids = table["clip_id"].to_numpy(zero_copy_only=False)
        frames, times = table["frame"].to_numpy(), table["time"].to_numpy()
        column = table["features"].combine_chunks()
        features = column.flatten().to_numpy().reshape(len(ids), column.type.list_size)
        # A shard holds each clip's rows together.
        bounds = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
        rows = {str(ids[a]): slice(a, b) for a, b in itertools.pairwise(bounds) if b > a}
        nothing = slice(0, 0)
        self._take(
            ClipFrames(
                clip_id,
                note["source"],
                tuple(map(Sampling.from_json, note["strides"])),
                frames[rows.get(clip_id, nothing)],
                features[rows.get(clip_id, nothing)],
                tuple(note["faceless"]),
                note["problem"],
                times[rows.get(clip_id, nothing)],
                note.get("passing", False),
            )
            for clip_id, note in notes.items()
        )
        self._shards = max(self._shards, int(shard.stem.partition("-")[0]) + 1)

    def _take(self, clips: Iterable[ClipFrames]) -> None:
        for clip in clips:
            stored = self._clips.get(clip.clip_id)
            if stored is None or stored.source != clip.source:
                # The contents have changed: earlier features are invalid.
                stored = self._clips[clip.clip_id] = _Stored(clip.source)
            stored.samplings.update(clip.samplings)
            stored.faceless.update(clip.faceless)
            stored.problem = clip.problem or ("" if stored.passing else stored.problem)
            stored.passing = clip.passing
            if len(clip.frames):
                stored.frames.append(clip.frames)
                stored.features.append(clip.features)
                stored.times.append(_times(clip))


def _times(clip: ClipFrames) -> NDArray[np.float32]:
    return np.full(len(clip.frames), np.nan, np.float32) if clip.times is None else clip.times


def _made(description: Path, text: str) -> None:
    """Begins a store. InputError if its folder is read-only."""
    try:
        write_text(description, text)
    except PermissionError as error:
        raise InputError(
            f"{description.parent.parent}: {error.strerror}; it has no features of this stream; "
            "choose another `cache`"
        ) from error


def is_there(root: Path, specification: Specification) -> bool:
    """Whether something was ever stored for a specification under `root`."""
    return _folder(root, specification).is_dir()


def _folder(root: Path, specification: Specification) -> Path:
    return root / f"{specification.fingerprint()[:16]}-{SCHEMA}"
