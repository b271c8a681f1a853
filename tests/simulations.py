"""Libraries of trials of known true scores: all values are normally distributed, so that a formula
gives the population PCC of any weighted average."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.clips.stories import draw_ratings, draw_stories, intensity
from harness.clips.table import EMOTIONS
from harness.dataset import Dataset
from tests.datasets import make_dataset, make_stream

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Trials as sums of the truth, an error that all trials share, one of their family and their
    own.

    signal: (trials,) weight of the truth.
    family: (trials,) family numbers from 0.
    shared, of_family, own: standard deviations of the errors.
    group: clips per person; the clips of a person share half of the variance of truth and errors.
    targets: number of targets.
    """

    signal: Floats
    family: NDArray[np.intp]
    shared: float = 0.8
    of_family: float = 0.7
    own: float = 0.6
    group: int = 1
    targets: int = 4

    def draw(
        self, clips: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """predictions (targets, trials, clips), truth (clips, targets)."""
        trials, families = len(self.signal), int(self.family.max()) + 1
        y = self._noise(rng, (self.targets,), clips)
        shared = self._noise(rng, (self.targets, 1), clips)
        of_family = self._noise(rng, (self.targets, families), clips)
        own = self._noise(rng, (self.targets, trials), clips)
        predictions = self.signal[:, None] * y[:, None] + self.shared * shared
        predictions += self.of_family * of_family[:, self.family] + self.own * own
        return predictions.astype(np.float32), y.T.astype(np.float32)

    def pcc(self, factors: Floats) -> Floats:
        """(targets,) population PCC of the averages with these factors (targets, trials)."""
        covariance = factors @ self.signal
        families = np.eye(int(self.family.max()) + 1)[self.family]
        error = (
            (self.shared * factors.sum(axis=1)) ** 2
            + self.of_family**2 * ((factors @ families) ** 2).sum(axis=1)
            + self.own**2 * (factors**2).sum(axis=1)
        )
        return np.asarray(covariance / np.sqrt(covariance**2 + error))

    def groups(self, clips: int) -> NDArray[np.intp]:
        """(clips,) the person of each clip."""
        return np.arange(clips) // self.group

    def _noise(self, rng: np.random.Generator, shape: tuple[int, ...], clips: int) -> Floats:
        if self.group == 1:
            return rng.standard_normal((*shape, clips), dtype=np.float32)
        persons = rng.standard_normal((*shape, -(-clips // self.group)), dtype=np.float32)
        alone = rng.standard_normal((*shape, clips), dtype=np.float32)
        of_person = np.repeat(persons, self.group, axis=-1)[..., :clips]
        return np.asarray((of_person + alone) * np.sqrt(0.5))


def families(trials: int = 40) -> Population:
    """Four families of different quality, with trials of different quality."""
    rng = np.random.default_rng(1)
    family = np.arange(trials) % 4
    signal = np.array([0.5, 0.45, 0.4, 0.3])[family] + 0.05 * rng.standard_normal(trials)
    return Population(signal, family)


def near_equal(trials: int = 40) -> Population:
    """One family of equally good trials: every selection is chance."""
    signal = np.full(trials, 0.45)
    return Population(signal, np.zeros(trials, np.intp), shared=0.5, of_family=0.0, own=0.8)


def persons(trials: int = 40) -> Population:
    """Like `families`, with four clips per person, whose errors are correlated."""
    base = families(trials)
    return Population(base.signal, base.family, group=4)


def reactions(clips: int, noise: float, seed: int, steps: int = 12) -> Dataset:
    """Synthetic reactions as a data set: a third of the clips is train, the rest val.

    The features are the curves of the emotions on the face, with noise of this standard deviation;
    the ratings are those of the demo (harness/clips/stories.py). A head reaches a mean PCC of about
    .55 without noise.
    """
    rng = np.random.default_rng(seed)
    stories = draw_stories(rng, clips)
    curves = np.zeros((clips, steps, len(EMOTIONS)))
    for clip in range(clips):
        for episode in stories.visible(clip, steps):
            begin, end = round(episode.begin), round(episode.begin + episode.frames)
            curves[clip, begin:end, episode.emotion] = episode.strength
    curves += noise * rng.standard_normal(curves.shape)
    stream = make_stream(
        curves.reshape(-1, len(EMOTIONS)),
        np.tile(np.arange(steps), clips),
        np.arange(clips + 1) * steps,
    )
    parts = np.split(np.arange(clips), [clips // 3])
    rows = {"train": parts[0].tolist(), "val": parts[1].tolist()}
    return make_dataset(stream, draw_ratings(rng, intensity(stories)), rows)
