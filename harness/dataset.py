"""A data set as flat arrays: clips, their ratings, and their streams of features.

Training, prediction, folds and workers read this and nothing else. A study's `clips.parquet` is a
data set without streams.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError, printable
from harness.sampling import Sampling

Rows = NDArray[np.intp]
#: The fingerprint of the contents of a clip without a file, or without a step.
NOTHING = "nothing"


@dataclass(frozen=True)
class Specification:
    """Whether a model may read a stream: how its values were made, and the names of its columns.

    source: name of the encoder, or "files" for precomputed features. details: by name, what else
    determines the values (of an encoder: weights, preprocessing, precision, cropping). columns:
    names in order; empty where files carry no names. width: number of columns.
    """

    source: str
    details: Mapping[str, str | int]
    columns: tuple[str, ...]
    width: int

    @property
    def name(self) -> str:
        """The default name of the stream: that of the encoder, or of the set of files."""
        return str(self.details.get("set", self.source))

    def fingerprint(self) -> str:
        """sha256 of all of it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def differences(self, other: "Specification") -> list[str]:
        """What differs, a phrase each: the other's value, and the one that this one has."""
        if self.source != other.source:
            return [f"source {other.source}, expected {self.source}"]
        names = sorted(set(self.details) | set(other.details))
        found = [
            f"{name} {_short(other.details.get(name))}, expected {_short(self.details.get(name))}"
            for name in names
            if self.details.get(name) != other.details.get(name)
        ]
        if self.width != other.width:
            found.append(f"{other.width} columns, expected {self.width}")
        elif self.columns != other.columns:
            found.append(_first_difference(other.columns, self.columns))
        return found

    def only(self, columns: Sequence[str]) -> "Specification":
        """The same of some columns, by name."""
        return replace(self, columns=tuple(columns), width=len(columns))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "source": self.source,
            "details": dict(self.details),
            "columns": list(self.columns),
            "width": self.width,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Specification":
        """The inverse of `to_dict`. KeyError, TypeError or ValueError if it is something else."""
        source, width = values["source"], values["width"]
        columns = tuple(map(str, values["columns"]))
        if not isinstance(source, str) or not isinstance(width, int) or width < 1:
            raise ValueError(f"no specification of a stream: {values!r}")
        if columns and len(columns) != width:
            raise ValueError(f"{len(columns)} names of {width} columns")
        return cls(source, dict(values["details"]), columns, width)


def fingerprint_of(streams: Mapping[str, Specification]) -> str:
    """Of several streams by name; of one, that of its specification, whatever its name."""
    prints = {name: each.fingerprint() for name, each in streams.items()}
    if len(prints) == 1:
        return next(iter(prints.values()))
    return hashlib.sha256(json.dumps(prints, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, repr=False)
class Stream:
    """Features over time of every clip, in flat arrays that processes can share.

    values: (steps, columns) float32, clip after clip, in order of time.
    positions: (steps,) int32, the index of each step among the clip's decoded frames.
    offsets: (clips + 1,) int64; clip i has the steps offsets[i]:offsets[i + 1].
    parts: names of groups of columns that a model may read alone, with their places.
    times: (steps,) float32, the second of the clip at which each step begins; NaN where it is not
    known; None where no step's is.
    sampled: whether the steps are frames, of which a sampling chooses some.
    """

    specification: Specification
    values: NDArray[np.float32]
    positions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    parts: Mapping[str, slice] = field(default_factory=dict)
    times: NDArray[np.float32] | None = None
    sampled: bool = False

    @classmethod
    def without_steps(cls, specification: Specification, clips: int) -> "Stream":
        """The stream of so many clips none of which has a step."""
        return cls(
            specification,
            np.empty((0, specification.width), np.float32),
            np.empty(0, np.int32),
            np.zeros(clips + 1, np.int64),
        )

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """(clips,) steps of each clip."""
        return np.diff(self.offsets)

    @cached_property
    def not_finite(self) -> int | None:
        """The first step that has a value that is not finite; None if there is no such step."""
        if np.isfinite(self.values.sum(dtype=np.float64)):
            return None
        return int(np.argmin(np.isfinite(self.values).all(axis=1)))

    def part(self, name: str) -> slice:
        """The columns of a part; all of them where the stream has no parts."""
        return self.parts.get(name, slice(None))

    def specification_of(self, part: str) -> Specification:
        """Of what a model reads that reads one part."""
        if part not in self.parts:
            return self.specification
        return self.specification.only(self.specification.columns[self.parts[part]])

    def chosen(self, sampling: Sampling) -> NDArray[np.bool_]:
        """(steps,) True for those of a sampling, which only chooses among frames."""
        if not self.sampled:
            return np.ones(len(self.positions), bool)
        return sampling.chosen(self.positions, self.times, self.offsets)

    def at(self, sampling: Sampling) -> NDArray[np.bool_]:
        """(clips,) True for those that have a step of a sampling."""
        hits = np.concatenate([[0], np.cumsum(self.chosen(sampling))])
        counts: NDArray[np.int64] = np.diff(hits[self.offsets])
        return counts > 0

    def select(self, columns: Sequence[str]) -> "Stream":
        """Some columns, by name. KeyError for a name that is not there."""
        places = {name: place for place, name in enumerate(self.specification.columns)}
        chosen = [places[name] for name in columns]
        values = np.ascontiguousarray(self.values[:, chosen])
        return replace(
            self, specification=self.specification.only(columns), values=values, parts={}
        )

    def __str__(self) -> str:
        """What it holds, for a person."""
        clips, names = self.counts, self.specification.columns
        what = f"{self.width} columns"
        if names:
            what += f", {names[0]} to {names[-1]}" if len(names) > 1 else f", {names[0]}"
        else:
            what += " without names"
        set_name = self.specification.details.get("set", "")
        source = f"{self.specification.source} {set_name}".rstrip()
        steps = f"{int((clips > 0).sum())} clips, {len(self.positions)} steps"
        return printable(f"{source}: {steps}, {what}")

    def digest(self, clip_ids: Sequence[str]) -> str:
        """sha256 of the contents: ids, column names, shapes, offsets, positions, times, values."""
        digest = hashlib.sha256(self.specification.fingerprint().encode())
        digest.update(json.dumps([list(clip_ids), self.values.shape]).encode())
        times = np.empty(0, np.float32) if self.times is None else self.times
        for array in (self.offsets, self.positions, times, self.values):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def digests(self) -> list[str]:
        """Of the values and positions of each clip; NOTHING of a clip without steps."""
        found = []
        for first, end in itertools.pairwise(self.offsets.tolist()):
            digest = hashlib.blake2b(self.positions[first:end].tobytes(), digest_size=16)
            digest.update(np.ascontiguousarray(self.values[first:end]).tobytes())
            found.append(digest.hexdigest() if end > first else NOTHING)
        return found


@dataclass(frozen=True, repr=False)
class Dataset:
    """Clips in their order.

    splits: "train", "val" or "test" of each clip. targets: (clips, targets) float32 ratings in
    [0, 1], NaN where a clip is unrated; None where no clip is. groups: the person of each clip, if
    known. synthetic: generated clips, whose scores are no results on real data.
    streams: the features, by the stream's name; none in what is only about ratings.
    held_out: training clips that a model does not learn from but that stop its training. Empty: one
    model, stopped by val. One array: one model. Several, the folds of train: a model for each.
    """

    clip_ids: tuple[str, ...]
    splits: tuple[str, ...]
    targets: NDArray[np.float32] | None
    target_names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    synthetic: bool = False
    streams: Mapping[str, Stream] = field(default_factory=dict)
    held_out: tuple[Rows, ...] = ()

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __repr__(self) -> str:
        splits = ", ".join(f"{len(rows)} {split}" for split, rows in self._rows.items())
        streams = "".join(f", {name} ({s.width} columns)" for name, s in self.streams.items())
        return f"<Dataset: {len(self)} clips ({splits}), {len(self.target_names)} targets{streams}>"

    def rows(self, split: str) -> Rows:
        """The row numbers of a split's clips, ascending."""
        return self._rows.get(split, np.empty(0, np.intp))

    def ids(self, split: str) -> list[str]:
        """The clip ids of a split, in order."""
        return self._ids.get(split, [])

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that have clips, in alphabetical order."""
        return tuple(self._rows)

    @property
    def ratings(self) -> NDArray[np.float32]:
        """`targets`, which must be there. ValueError if no clip is rated."""
        if self.targets is None:
            raise ValueError("these clips have no ratings")
        return self.targets

    @property
    def features(self) -> Stream:
        """The only stream. ValueError if there is none, or several."""
        if len(self.streams) != 1:
            raise ValueError(f"expected one stream, found {len(self.streams)}")
        return next(iter(self.streams.values()))

    def only(self, streams: str) -> "Dataset":
        """The same clips with some of the streams, in alphabetical order of their names.

        Args:
            streams: names joined by "+"; empty: all streams.

        Raises:
            InputError: there is no stream, or none of such a name.
        """
        names = sorted(streams.split("+") if streams else self.streams)
        unknown = [name for name in names if name not in self.streams]
        if unknown or not names:
            found = printable(", ".join(self.streams)) or "none"
            wanted = f"the stream {printable(unknown[0])}" if unknown else "a stream"
            raise InputError(f"streams: expected {wanted} of these clips, found {found}")
        if names == list(self.streams):
            return self
        return replace(self, streams={name: self.streams[name] for name in names})

    def at(self, sampling: Sampling) -> NDArray[np.bool_]:
        """(clips,) True for those that have a step of any stream in a sampling."""
        found: NDArray[np.bool_] = np.any([s.at(sampling) for s in self.streams.values()], axis=0)
        return found

    @property
    def early_stop_split(self) -> str:
        """What stops training and selects the epoch: `val`, `held-out` or `folds`."""
        return ("val", "held-out", "folds")[min(len(self.held_out), 2)]

    def ids_digest(self, split: str) -> str:
        """sha256 of the split's clip ids in order."""
        return self._digests.get(split) or _digest([])

    def rated(self, rows: Rows) -> Rows:
        """Those of some clips that have ratings."""
        return rows[~np.isnan(self.ratings[rows]).any(axis=1)]

    def group_numbers(self, rows: Rows) -> NDArray[np.intp]:
        """(rows,) numbers from 0 of the persons of some clips, or of the clips if persons are not
        known."""
        if self.groups is None:
            return np.arange(len(rows))
        names = [self.groups[row] for row in rows]
        return np.unique(names, return_inverse=True)[1].astype(np.intp)

    # Kept, since every prediction file of a study is checked against them.
    @cached_property
    def _rows(self) -> dict[str, Rows]:
        splits = np.array(self.splits, dtype=object)
        return {split: np.flatnonzero(splits == split) for split in sorted(set(self.splits))}

    @cached_property
    def _ids(self) -> dict[str, list[str]]:
        return {k: [self.clip_ids[row] for row in rows] for k, rows in self._rows.items()}

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {split: _digest(ids) for split, ids in self._ids.items()}


def _digest(ids: list[str]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."


def _first_difference(found: Sequence[str], expected: Sequence[str]) -> str:
    if not found or not expected:
        return "columns without names" if expected else "columns with names, expected none"
    place = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
    return f"column {place + 1} is {found[place]}, expected {expected[place]}"
