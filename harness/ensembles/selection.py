"""What trials scored, and how they correlate -> members and weights. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.methods import METHODS, Method
from harness.ensembles.moments import Evidence
from harness.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is chosen.

    method: one of `METHODS`, or auto. top: its members or steps, None for its default. per_family:
    at most so many trials of each family, its best, may be members. per_target: weights of each
    target's own. seed: of the folds, the bootstrap and the method. groups: whether the clips of a
    person are held out and drawn together; None: where the data says whose they are.
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
        if self._default_top is None and self.top is not None:
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
        size = self.top or self._default_top
        parts = [self.method, f"top{size}" if size else "", "per-target" if self.per_target else ""]
        parts.append(f"family{self.per_family}" if self.per_family else "")
        parts.append("no-groups" if self.groups is False else "")
        parts.append(f"seed{self.seed}" if self.seed else "")
        return "-".join(part for part in parts if part)

    def parametrised(self, name: str) -> Method:
        """The method of this name, with those of its parameters that the recipe states."""
        method = METHODS[name]
        stated = {"top": self.top, "seed": self.seed}
        known = {field.name for field in fields(method)}
        return method(**{k: v for k, v in stated.items() if k in known and v is not None})

    @property
    def _default_top(self) -> int | None:
        return getattr(METHODS.get(self.method), "top", None)


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
    return Choice(members, weights[:, members], METHODS[method].standardised)


def best_single(evidence: Evidence) -> Choice:
    """The one trial of highest score, as it is."""
    best = np.array([np.argmax(evidence.ranking)])
    return Choice(best, np.ones((len(evidence.scores), 1)), standardised=False)


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


def _weights(recipe: Recipe, name: str, evidence: Evidence, families: Sequence[str]) -> Floats:
    allowed = cap_families(evidence.ranking, families, recipe.per_family)
    method = recipe.parametrised(name)
    if recipe.method == "auto":
        method = method.limited(int(allowed.sum()))
    return method.weights(evidence, allowed)
