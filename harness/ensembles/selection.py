"""What trials scored, and how they correlate -> members and weights. Pure.

Every function takes `Evidence` and a mask of the trials that may be chosen, and returns weights
(trials,) that are >= 0 and sum to 1. They weight predictions in units of their standard deviation,
those of `mean` excepted, which weight predictions as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.choices import METHODS
from harness.ensembles.moments import Evidence
from harness.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Members of `mean` and `zscore`, the paper's number, and picks of `greedy` and `bagged`.
TOP = {"mean": 5, "zscore": 5, "greedy": 50, "bagged": 50}
#: How many random halves of the library `bagged` averages.
BAGS = 10
#: Of `ridge`, in units of a standardised prediction's variance.
PENALTY = 0.1
# Scores closer than this differ by rounding alone: columns are kept in float32.
_ROUNDING = 1e-7
# Columns that greedy will probably want next.
_LIKELY = 16


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is chosen.

    top: members or picks, see `TOP`, None for its defaults. per_family: at most so many trials of
    each family, its best, may be members. per_target: weights of each target's own. seed: of the
    folds, the bootstrap and the halves that `bagged` draws. groups: whether the clips of a person
    are held out and drawn together; None: where the data says whose they are.
    """

    method: str = "mean"
    top: int | None = None
    per_family: int | None = None
    per_target: bool = False
    seed: int = 0
    groups: bool | None = None

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, "auto"):
            raise InputError(
                f"--method {self.method}: choose {', '.join(METHODS)} or auto, which tries them all"
            )
        if self.method in ("ridge", "auto") and self.top is not None:
            raise InputError(f"--top: {self.method} takes no number of members; leave --top out")
        for option, value in (("--top", self.top), ("--per-family", self.per_family)):
            if value is not None and value < 1:
                raise InputError(f"{option} {value}: an ensemble has at least 1 member")

    @property
    def options(self) -> list[str]:
        """Of the command that combines, but for those that are its defaults."""
        told = ["--method", self.method]
        told += ["--top", str(self.top)] if self.top else []
        told += ["--per-family", str(self.per_family)] if self.per_family else []
        told += ["--per-target"] if self.per_target else []
        told += ["--seed", str(self.seed)] if self.seed else []
        if self.groups is not None:
            told.append("--groups" if self.groups else "--no-groups")
        return told

    @property
    def label(self) -> str:
        """A name for what the recipe makes, such as mean-top5."""
        size = self.top or TOP.get(self.method)
        parts = [self.method, f"top{size}" if size else "", "per-target" if self.per_target else ""]
        parts.append(f"family{self.per_family}" if self.per_family else "")
        parts.append("no-groups" if self.groups is False else "")
        parts.append(f"seed{self.seed}" if self.seed else "")
        return "-".join(part for part in parts if part)


@dataclass(frozen=True)
class Choice:
    """members: (m,) trials by falling weight, ties to the lowest. weights: (targets, m), each row
    >= 0 with sum 1; of standardised predictions, or of predictions as they are."""

    members: NDArray[np.intp]
    weights: Floats
    standardised: bool


def choose(recipe: Recipe, method: str, evidence: Evidence, families: Sequence[str]) -> Choice:
    """The members and weights of a method other than auto.

    Args:
        families: (trials,) the family of each trial.

    Raises:
        InputError: fewer eligible trials than `mean` or `zscore` are to average.
    """
    targets = len(evidence.scores)
    parts = [evidence.only(d) for d in range(targets)] if recipe.per_target else [evidence]
    rows = [_weights(recipe, method, part, families) for part in parts]
    weights = np.broadcast_to(np.stack(rows), (targets, len(families)))
    mean = weights.mean(axis=0)
    # Equal weights stand in the order of the trials' own scores, as a person would list them.
    members = np.lexsort((np.arange(len(mean)), -evidence.ranking, -mean))[: (mean > 0).sum()]
    return Choice(members, weights[:, members], standardised=method != "mean")


def best_single(evidence: Evidence) -> Choice:
    """The one trial of highest score, as it is."""
    best = np.array([np.argmax(evidence.ranking)])
    return Choice(best, np.ones((len(evidence.scores), 1)), standardised=False)


def top_k(scores: Floats, k: int) -> NDArray[np.intp]:
    """The k best trials, best first; ties go to the one that stands first.

    Args:
        scores: (trials,) mean PCC each; minus infinity for those that may not be chosen.

    Raises:
        InputError: fewer than k trials.
    """
    eligible = int(np.isfinite(scores).sum())
    if eligible < k:
        raise InputError(
            f"--top {k}: only {eligible} eligible trials (repeated ones and those above "
            "--per-family are not counted); choose --top up to that"
        )
    return np.argsort(-scores, kind="stable")[:k]


def cap_families(scores: Floats, families: Sequence[str], cap: int | None) -> Mask:
    """(trials,) True for the `cap` best trials of each family, all where there is no cap.

    Pruning by family and never over all: diverse members of weaker families are worth more to an
    average than the hundredth sibling of the best.
    """
    allowed = np.ones(len(scores), dtype=bool)
    if cap is None:
        return allowed
    seen: dict[str, int] = {}
    for trial in np.argsort(-scores, kind="stable").tolist():
        seen[families[trial]] = seen.get(families[trial], 0) + 1
        allowed[trial] = seen[families[trial]] <= cap
    return allowed


def greedy_picks(evidence: Evidence, allowed: Mask, steps: int) -> tuple[NDArray[np.intp], Floats]:
    """Greedy selection with replacement (Caruana et al., 2004), on moments.

    With standardised predictions, the running sums a = sum c_j, q = s'Gs and g = Gs give the PCC
    after adding trial k as (a + c_k) / sqrt(q + 2 g_k + 1), averaged over the targets: O(targets x
    trials) a step, whatever the number of clips.

    Returns:
        (steps,) the trial picked at each step, ties to the lowest; (steps,) the score after it.
    """
    c = evidence.scores
    a, q, g = np.zeros((len(c), 1)), np.zeros((len(c), 1)), np.zeros_like(c)
    picks, reached = np.empty(steps, np.intp), np.empty(steps)
    likely = min(_LIKELY, len(allowed)) - 1
    for step in range(steps):
        # Rounding must not make the variance of a sum of opposites negative.
        after = ((a + c) / np.sqrt(np.maximum(q + 2 * g + 1, _ROUNDING))).mean(axis=0)
        after[~allowed] = -np.inf
        best = int(np.argmax(after))
        picks[step], reached[step] = best, after[best]
        q += 2 * g[:, [best]] + 1
        a += c[:, [best]]
        g += evidence.column(best, np.argpartition(-after, likely)[: likely + 1])
    return picks, reached


def greedy(evidence: Evidence, allowed: Mask, steps: int) -> Floats:
    """The mean of greedy's picks up to its first best step."""
    picks, reached = greedy_picks(evidence, allowed, steps)
    end = int(np.argmax(reached >= reached.max() - _ROUNDING)) + 1
    return np.bincount(picks[:end], minlength=len(allowed)) / end


def bagged(evidence: Evidence, allowed: Mask, steps: int, seed: int) -> Floats:
    """Greedy over random halves of the library, averaged (Caruana et al., 2006)."""
    rng = np.random.default_rng(seed)
    candidates = np.flatnonzero(allowed)
    weights = np.zeros(len(allowed))
    for _ in range(BAGS):
        half = np.zeros(len(allowed), dtype=bool)
        half[rng.choice(candidates, (len(candidates) + 1) // 2, replace=False)] = True
        weights += greedy(evidence, half, steps) / BAGS
    return np.asarray(weights / weights.sum())


def ridge(evidence: Evidence, allowed: Mask, penalty: float = PENALTY) -> Floats:
    """The non-negative weights that minimise the squared error of the standardised targets, summed
    over the targets, plus penalty times targets times the squared weights.

    Without the penalty these are the non-negative combination of highest PCC. Solved on moments by
    the active-set method of Lawson and Hanson (1974, chapter 23), with normal equations as in Bro
    and de Jong (1997): only members' columns are needed. A library without one trial of positive
    score gives the best trial.
    """
    targets = len(evidence.scores)
    b = evidence.scores.sum(axis=0)
    members: list[int] = []
    weights = np.zeros(0)
    columns = np.empty((0, len(b)))
    # A bound alone: a weight that rounding lets in and out again must not go on forever.
    for _ in range(3 * len(b)):
        gradient = b - weights @ columns
        gradient[members] = -np.inf
        gradient[~allowed] = -np.inf
        best = int(np.argmax(gradient))
        if gradient[best] <= targets * _ROUNDING:
            break
        likely = np.argpartition(-gradient, min(_LIKELY, len(b)) - 1)[:_LIKELY]
        columns = np.vstack([columns, evidence.column(best, likely).sum(axis=0)])
        members.append(best)
        weights, kept = _descend(columns[:, members], b[members], weights, penalty * targets)
        members, columns = [members[i] for i in kept], columns[kept]
    if not members:
        members, weights = [int(np.argmax(np.where(allowed, b, -np.inf)))], np.ones(1)
    spread = np.zeros(len(b))
    spread[members] = weights / weights.sum()
    return spread


def _descend(
    products: Floats, b: Floats, weights: Floats, penalty: float
) -> tuple[Floats, NDArray[np.intp]]:
    """Solves (products + penalty) w = b over those members whose weight stays positive, beginning
    with `weights` and 0 for the newest; returns the weights kept and whose they are."""
    w = np.append(weights, 0.0)
    kept = np.arange(len(w))
    while True:
        part = products[np.ix_(kept, kept)] + penalty * np.eye(len(kept))
        wanted = np.linalg.solve(part, b[kept]).astype(np.float64)
        if wanted.min() > 0:
            return wanted, kept
        falling = np.flatnonzero(wanted <= 0)
        # As far towards the solution as the first weight that reaches 0, which then leaves.
        fractions = w[kept[falling]] / (w[kept[falling]] - wanted[falling])
        leaves = falling[np.argmin(fractions)]
        w[kept] += fractions.min() * (wanted - w[kept])
        kept = np.delete(kept, leaves)


def _weights(recipe: Recipe, method: str, evidence: Evidence, families: Sequence[str]) -> Floats:
    scores = evidence.ranking
    allowed = cap_families(scores, families, recipe.per_family)
    if method == "ridge":
        return ridge(evidence, allowed)
    size = recipe.top or TOP[method]
    if method == "greedy":
        return greedy(evidence, allowed, size)
    if method == "bagged":
        return bagged(evidence, allowed, size, recipe.seed)
    if recipe.method == "auto":
        # Nobody asked for this number; a small library has all its trials averaged.
        size = min(size, int(allowed.sum()))
    chosen = top_k(np.where(allowed, scores, -np.inf), size)
    return np.bincount(chosen, minlength=len(scores)) / size
