"""Which training clips are held out, so that val need not stop the heads that it selects."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.dataset import Dataset, Rows
from harness.errors import InputError, printable
from harness.grouping import divided
from harness.sampling import Sampling


def hold_out(
    data: Dataset,
    groups: tuple[str, ...] | None,
    given: NDArray[np.int64] | None,
    *,
    folds: int | None,
    fraction: float | None,
    seed: int,
) -> tuple[Dataset, tuple[str, ...]]:
    """The data with clips of train held out, and what was settled for the user, a line each.

    Args:
        groups: the person of each clip, if known: a person is held out as a whole.
        given: (clips,) the data's own fold of each clip, from 1, or 0 of none; taken where there
            are as many, the clips of none dealt out to them.
        folds: train is divided into so many; each stops a head that learns from the others.
        fraction: of the rated clips of train, which stop the only head.

    Raises:
        InputError: both are asked for, or train has too few clips or persons.
    """
    if folds is None and fraction is None:
        return data, ()
    if folds is not None and fraction is not None:
        raise InputError("`folds` and `early_stop_fraction`: folds stop their heads; choose one")
    train = data.rated(data.rows("train"))
    own = [] if given is None else sorted(set(given[train].tolist()) - {0})
    notes: tuple[str, ...] = ()
    if fraction is not None:
        parts = _parts(train, groups, [fraction, 1 - fraction], seed)[:1]
    elif given is not None and own == list(range(1, (folds or 0) + 1)):
        parts = [train[given[train] == fold] for fold in own]
        if len(left := train[given[train] == 0]):
            notes = (f"{len(left)} rated clips of train are in none of the data's {folds} folds "
                     "and were dealt out to them",)  # fmt: skip
            dealt = np.array_split(left, len(parts))
            parts = [np.sort(np.concatenate(pair)) for pair in zip(parts, dealt, strict=True)]
    else:
        parts = _parts(train, groups, [1 / (folds or 1)] * (folds or 1), seed)
        if own:
            notes = (f"`folds` {folds}: the data's own {len(own)} folds are not used",)
    if min(len(part) for part in parts) < 2 or len(train) - max(len(part) for part in parts) < 2:
        kind = "clips" if groups is None else "persons"
        raise InputError(
            f"train has too few {kind} ({len(train)} rated clips) to hold out "
            f"{f'{folds} folds' if folds else f'a part of {fraction:g}'} of them"
        )
    return replace(data, held_out=tuple(parts)), notes


def check_scorable(
    data: Dataset, samplings: Sequence[Sampling] = (), streams: Sequence[str] = ("",)
) -> None:
    """Checks that what scores and stops heads can: val, and what is held out of train.

    Args:
        samplings: of which each part has a step; without any, the ratings alone are checked.
        streams: which streams trials read, each as `TrialConfig.streams`; train has all of them.

    Raises:
        InputError: fewer than two rated clips, none with a step, or equal ratings of a target.
    """
    parts = {"val": data.rated(data.rows("val"))}
    for number, part in enumerate(data.held_out, start=1):
        parts[f"part {number} of {len(data.held_out)} of train that stops heads"] = part
    for what, rows in parts.items():
        if len(rows) < 2:
            raise InputError(f"{what}: {len(rows)} rated clips; a correlation needs at least 2")
        for sampling, names in itertools.product(samplings, streams):
            if not data.only(names).at(sampling)[rows].any():
                of = f" of {printable(names)}" if names else ""
                raise InputError(
                    f"{what}: none of its {len(rows)} clips has a step{of} at {sampling}"
                )
        constant = np.ptp(data.ratings[rows], axis=0) == 0
        if constant.any():
            raise InputError(
                f"{what}: all ratings of {data.target_names[int(np.argmax(constant))]} are equal, "
                "so that nothing correlates with them"
            )
    train = data.rated(data.rows("train"))
    for sampling, names in itertools.product(samplings, streams):
        for name, stream in data.only(names).streams.items():
            if not stream.at(sampling)[train].any():
                raise InputError(
                    f"train: none of its {len(train)} rated clips has a step of the stream "
                    f"{printable(name)} at {sampling}"
                )


def fingerprint(data: Dataset) -> str:
    """How many parts are held out, and the head of their sha256; empty if nothing is."""
    if not data.held_out:
        return ""
    digest = hashlib.sha256()
    for part in data.held_out:
        digest.update(part.astype(np.int64).tobytes() + b"|")
    return f"{len(data.held_out)} parts {digest.hexdigest()[:12]}"


def _parts(
    rows: Rows, groups: tuple[str, ...] | None, shares: list[float], seed: int
) -> list[Rows]:
    """Rows in parts of about these shares, the rows of a person together."""
    names = [groups[row] if groups else str(row) for row in rows]
    _, who = np.unique(names, return_inverse=True)
    part = divided(who, shares, seed)
    return [rows[part == number] for number in range(len(shares))]
