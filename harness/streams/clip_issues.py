"""Clips with missing frames, missing faces or other problems: examples for the terminal, a csv."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.atomic import remove, write_text
from harness.clips.table import some
from harness.errors import InputError


@dataclass(frozen=True)
class Gap:
    """A clip with a problem. frames: number with features. faceless: number of frames without a
    face. problem: the reason why frames are missing, or what was chosen; "" if only faces are
    missing. what: the clip lacks where `frames` is 0."""

    clip_id: str
    frames: int
    faceless: int
    problem: str
    what: str = "frame"


@dataclass(frozen=True)
class Gaps:
    """Every clip with a problem, in the order of the clips."""

    clips: tuple[Gap, ...]

    @classmethod
    def of(
        cls,
        clip_ids: Sequence[str],
        frames: Sequence[int],
        problems: Mapping[str, str],
        faceless: Mapping[str, int],
        what: str = "frame",
    ) -> "Gaps":
        """Gathers them.

        Args:
            frames: of each clip, how many have features.
            problems, faceless: by clip, of those that have some.
            what: a word for what is missing.
        """
        found = (
            Gap(
                clip,
                count,
                faceless.get(clip, 0),
                problems.get(clip, "" if count else f"no {what}"),
                what,
            )
            for clip, count in zip(clip_ids, frames, strict=True)
        )
        return cls(tuple(gap for gap in found if gap.problem or gap.faceless))

    @classmethod
    def joined(cls, several: Iterable["Gaps"]) -> "Gaps":
        """Those of several streams; equal ones once."""
        return cls(tuple(dict.fromkeys(gap for gaps in several for gap in gaps.clips)))

    def lines(self, fate: str = "") -> list[str]:
        """A line for each kind of problem. fate: what happens to clips without a frame."""
        unseen = [gap for gap in self.clips if gap.faceless]
        nothing = [gap for gap in self.clips if not gap.frames]
        lacking = dict.fromkeys(gap.what for gap in nothing)
        broken = [gap for gap in self.clips if gap.frames and gap.problem]
        lines = []
        if unseen:
            lines.append(
                f"{sum(gap.faceless for gap in unseen)} frames of {len(unseen)} clips show no face "
                f"and are skipped: {some([f'{gap.clip_id} ({gap.faceless})' for gap in unseen])}"
            )
        for gaps, what in (
            *(([g for g in nothing if g.what == w], f"have no {w}{fate}") for w in lacking),
            (broken, "have problems"),
        ):
            if gaps:
                shown = some([f"{gap.clip_id} ({gap.problem})" for gap in gaps])
                lines.append(f"{len(gaps)} clips {what}: {shown}")
        return lines

    def named(self, stream: str) -> "Gaps":
        """The same with the name of the stream before each problem."""
        what = (gap.problem or f"{gap.faceless} frames without a face" for gap in self.clips)
        pairs = zip(self.clips, what, strict=True)
        return Gaps(tuple(replace(gap, problem=f"{stream}: {said}") for gap, said in pairs))

    def write(self, file: Path) -> list[str]:
        """Writes all of them to a csv and returns a line that names it; without any, removes it."""
        if not self.clips:
            remove(file)
            return []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["clip_id", "frames", "frames_without_face", "problem"])
        for gap in self.clips:
            writer.writerow([gap.clip_id, gap.frames, gap.faceless, " ".join(gap.problem.split())])
        write_text(file, text.getvalue())
        return [f"All of these clips: {file}"]

    def refuse(self) -> None:
        """Raises InputError if a clip has a problem, as `strict` asks."""
        problems = [f"{gap.clip_id}: {gap.problem}" for gap in self.clips if gap.problem]
        if problems:
            raise InputError(f"{some(problems)} (`strict`; without it this is a warning)")


def report_gaps(
    gaps: Mapping[str, Gaps], empty: Sequence[str], file: Path | None = None
) -> list[str]:
    """Lines on the clips with problems, and on what happens to them.

    Args:
        gaps: by stream.
        empty: ids of the clips without a step of any stream.
        file: a csv of all of them is written; None: none is.
    """
    if len(gaps) == 1:
        (only,) = gaps.values()
        return only.lines(" and are predicted by train's mean") + (only.write(file) if file else [])
    fate = "; members that read another stream too mask it, others predict train's mean"
    lines = [f"{name}: {line}" for name, each in gaps.items() for line in each.lines(fate)]
    if empty:
        lines.append(
            f"{len(empty)} clips have no step of any stream and are predicted by train's mean: "
            f"{some(empty)}"
        )
    joined = Gaps.joined([each.named(name) for name, each in gaps.items()])
    return lines + (joined.write(file) if file else [])
