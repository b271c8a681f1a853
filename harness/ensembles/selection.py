"""Selects members and weights from the scores and correlations of trials. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from harness.choices import CHOOSE_ON, DEFAULT_CHOOSE_ON, ChooseOn
from harness.ensembles.methods import METHODS, Method
from harness.ensembles.moments import Evidence, Moments
from harness.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is selected.

    method: one of `METHODS`, or auto.
    top: number of members or selection steps; None: the default of the method.
    per_family: maximum number of members per family, its best trials; None: no limit.
    per_target: separate weights for each target.
    seed: of the folds, the bootstrap and the method.
    groups: keep the clips of a person together in folds and bootstrap; None: if the data has
        groups.
    choose_on: the split that chooses: val, or train by out-of-fold predictions.
    """

    method: str = "mean"
    top: int | None = None
    per_family: int | None = None
    per_target: bool = False
    seed: int = 0
    groups: bool | None = None
    choose_on: ChooseOn = DEFAULT_CHOOSE_ON

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, "auto"):
            raise InputError(f"`method` {self.method}: choose {', '.join(METHODS)} or auto")
        if self.choose_on not in CHOOSE_ON:
            raise InputError(f"`choose_on` {self.choose_on}: choose {' or '.join(CHOOSE_ON)}")
        if self._default_top is None and self.top is not None:
            raise InputError(f"`top`: {self.method} does not use it; remove `top`")
        wanted: dict[str, object] = {"top": self.top, "per_family": self.per_family}
        for option, value in (wanted | {"seed": self.seed}).items():
            if value is None and option in wanted:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise InputError(f"{value!r}: expected a whole number such as 5", option)
            least = 1 if option in wanted else 0
            if int(value) < least:
                raise InputError(f"{value}: must be at least {least}", option)
            # Integers of numpy would not be written as JSON.
            object.__setattr__(self, option, int(value))

    @property
    def options(self) -> list[str]:
        """Command-line options of the recipe, without those at their defaults."""
        options = ["--method", self.method]
        options += ["--top", str(self.top)] if self.top else []
        options += ["--per-family", str(self.per_family)] if self.per_family else []
        options += ["--per-target"] if self.per_target else []
        options += ["--seed", str(self.seed)] if self.seed else []
        if self.choose_on != DEFAULT_CHOOSE_ON:
            options += ["--choose-on", self.choose_on]
        if self.groups is not None:
            options.append("--groups" if self.groups else "--no-groups")
        return options

    @property
    def label(self) -> str:
        """A name for the ensembles of the recipe, such as mean-top5."""
        size = self.top or self._default_top
        parts = [self.method, f"top{size}" if size else "", "per-target" if self.per_target else ""]
        parts.append(f"family{self.per_family}" if self.per_family else "")
        parts.append("no-groups" if self.groups is False else "")
        parts.append(f"on-{self.choose_on}" if self.choose_on != DEFAULT_CHOOSE_ON else "")
        parts.append(f"seed{self.seed}" if self.seed else "")
        return "-".join(part for part in parts if part)

    def parametrised(self, name: str) -> Method:
        """The method of this name, with the parameters that the recipe sets."""
        method = METHODS[name]
        stated = {"top": self.top, "seed": self.seed}
        known = {field.name for field in fields(method)}
        return method(**{k: v for k, v in stated.items() if k in known and v is not None})

    @property
    def _default_top(self) -> int | None:
        return getattr(METHODS.get(self.method), "top", None)


@dataclass(frozen=True)
class Choice:
    """The selected members and their weights.

    members: (m,) trials by falling weight.
    weights: (targets, m), each row >= 0 with sum 1.
    standardised: the weights apply to standardised predictions.
    raw: the weights apply to the outputs before their calibration.
    """

    members: NDArray[np.intp]
    weights: Floats
    standardised: bool
    raw: bool = False


def choose(recipe: Recipe, method: str, evidence: Evidence, families: Sequence[str]) -> Choice:
    """Selects the members and weights by a method other than auto.

    Args:
        families: (trials,) the family of each trial.

    Raises:
        InputError: `mean` or `zscore` need more eligible trials than there are.
    """
    targets = len(evidence.scores)
    parts = [evidence.only(d) for d in range(targets)] if recipe.per_target else [evidence]
    rows = [_weights(recipe, method, part, families) for part in parts]
    weights = np.broadcast_to(np.stack(rows), (targets, len(families)))
    mean = weights.mean(axis=0)
    # Members of equal weight are sorted by their own scores.
    members = np.lexsort((np.arange(len(mean)), -evidence.ranking, -mean))[: (mean > 0).sum()]
    made = METHODS[method]
    return Choice(members, weights[:, members], made.standardised, made.raw)


def factors(choice: Choice, moments: Moments, evidence: Evidence) -> Floats:
    """(targets, m) factors of the members' `Moments.values` in the average."""
    return np.asarray(choice.weights * units(choice, moments, evidence)[:, choice.members])


def units(how: Choice | type[Method] | Method, moments: Moments, evidence: Evidence) -> Floats:
    """(targets, trials) standard deviations, of `Moments.values`, of what is averaged."""
    if how.standardised:
        return np.asarray(1 / evidence.scales)
    return moments.deviations / moments.slopes if how.raw else moments.deviations


def best_single(evidence: Evidence) -> Choice:
    """The trial with the best score, without standardisation."""
    best = np.array([np.argmax(evidence.ranking)])
    return Choice(best, np.ones((len(evidence.scores), 1)), standardised=False)


def cap_families(scores: Floats, families: Sequence[str], cap: int | None) -> Mask:
    """(trials,) True for the `cap` best trials of each family; all if `cap` is None.

    The limit is per family, because diverse members of weaker families improve an average more
    than further members of the best family.
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
