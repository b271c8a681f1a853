"""Coverage of the 95 % intervals of an ensemble, on libraries of known true scores.

    python -m tests.benchmarks.estimates [--only PART] [--case TEXT] [--repetitions N]
        [--first SEED] [--heads N] [--json]

Each repetition draws 40 trials (tests/simulations.py), builds the ensemble `mean` of five, and
compares its nested score, and its gain over the best single trial, with the true ones of the chosen
members.

`score`: `percentile` is a bootstrap of the held-out predictions, `jackknife` the delete-one-group
jackknife with Student's t in Fisher's z, and `selection` adds the variance between repeated
selections to that of the jackknife. `ours` adds three times the variance between divisions into
folds instead; with up to ten persons, which are the folds, half of that between selections.

`gain`: `fixed` resamples the held-out predictions, as an earlier version did; `selection` repeats
the selection (harness/ensembles/gain.py).

`deviation` is the standard deviation of the error of the estimate, `coverage_error` the Monte Carlo
error of the coverage, and `excludes_0` how often the interval does not contain 0: in the cases
`null`, where all trials are nearly the same, this is the rate of false positives
(`null_rejections` in the JSON).

`calibration`, `average`, `optimism`, `optimism-elsewhere` and `choosing` train heads:
tests/benchmarks/reactions.py.
"""

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from harness.ensembles.estimate import Chooser, assign_folds, choice_variance
from harness.ensembles.gain import BLOCKS, resample_selection
from harness.ensembles.intervals import Interval, resample
from harness.ensembles.moments import Moments
from harness.ensembles.selection import Choice, Recipe
from tests.benchmarks import reactions
from tests.simulations import Population, families, near_equal

# Bootstrap replicates of held-out predictions: more change the limits of an interval little.
_REPLICATES = 1000
_PER_PERSON = 20
_METHOD = "mean"


def null() -> Population:
    """Near-equal trials that make the same errors, so that an average gains nothing."""
    return replace(near_equal(), shared=0.94, own=0.02)


POPULATIONS: dict[str, Callable[[], Population]] = {
    "families": families,
    "near-equal": near_equal,
    "null": null,
}
#: Part -> populations, numbers of persons (20 clips each), numbers of clips of unknown persons.
PARTS = {
    "score": (
        ("families", "near-equal"),
        (4, 6, 10, 20, 40, 60),
        (30, 60, 100, 200, 400, 600, 2000),
    ),
    "gain": (tuple(POPULATIONS), (20,), (60, 200, 600)),
}
#: Parts that train heads.
TRAINED = ("calibration", "average", "optimism", "optimism-elsewhere", "choosing")
#: An interval as (contains the true value, excludes 0, width), and the error of its centre.
Outcome = dict[str, tuple[bool, bool, float, float]]


def true_score(population: Population, moments: Moments, choice: Choice) -> float:
    """The population PCC of the average of the chosen trials, mean over the targets."""
    factors = np.zeros((population.targets, len(population.signal)))
    units = moments.deviations[:, choice.members] if choice.standardised else 1.0
    factors[:, choice.members] = choice.weights / units
    return float(population.pcc(factors).mean())


def outcome(part: str, name: str, persons: int | None, clips: int, seed: int) -> Outcome:
    """One repetition."""
    population = POPULATIONS[name]()
    if persons is not None:
        population = replace(population, group=_PER_PERSON)
    predictions, truth = population.draw(clips, np.random.default_rng(seed))
    groups = population.groups(clips)
    recipe = Recipe(_METHOD, seed=seed)
    moments = Moments(predictions, truth, assign_folds(groups, seed, BLOCKS))
    chooser = Chooser(moments, recipe, [""] * len(population.signal))
    true, single = (
        true_score(population, moments, chooser.choice(each)) for each in (_METHOD, "single")
    )
    pooled = np.stack([chooser.pooled(_METHOD), chooser.pooled("single")])
    order = groups[moments.order]
    found: Outcome = {}

    def add(kind: str, interval: Interval | None, value: float, expected: float) -> None:
        assert interval is not None  # no target of the simulation is constant
        covers = interval.low <= expected <= interval.high
        excludes = interval.low > 0 or interval.high < 0
        found[kind] = (covers, excludes, interval.high - interval.low, value - expected)

    selections = resample_selection(moments, recipe, _METHOD, chooser.families)
    bootstrap, jackknife = (
        resample(moments.truth, pooled, order, seed, _REPLICATES, jackknife=kind)
        for kind in (False, True)
    )
    nested, nested_single = bootstrap.pcc.mean(axis=1).tolist()
    if part == "score":
        add("percentile", bootstrap.score(0), nested, true)
        add("jackknife", jackknife.score(0), nested, true)
        repeated = selections.variance(0)
        add("selection", jackknife.score(0, None, repeated), nested, true)
        variance = choice_variance(moments.truth, pooled[0], groups, repeated)
        add("ours", jackknife.score(0, None, variance), nested, true)
    else:
        add("fixed", bootstrap.difference(), nested - nested_single, true - single)
        gain = selections.gain()
        assert gain is not None  # no target of the simulation is constant
        add("selection", gain.interval, gain.value, true - single)
    return found


def summary(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    """Of all repetitions, for each kind of interval."""
    result = {}
    for kind in outcomes[0]:
        covers, excludes, widths, errors = np.array([each[kind] for each in outcomes], float).T
        result[kind] = {
            "coverage": covers.mean(),
            "coverage_error": _standard_error(int(covers.sum()), len(covers)),
            "width": widths.mean(),
            "bias": errors.mean(),
            "deviation": errors.std(),
            "excludes_0": excludes.mean(),
        }
    return result


def _standard_error(hits: int, count: int) -> float:
    """The Monte Carlo error of a share; that of Agresti and Coull, which is not 0 for a share of
    1."""
    share = (hits + 2) / (count + 4)
    return float(np.sqrt(share * (1 - share) / (count + 4)))


def main() -> None:
    """Prints a line for each case and kind of interval, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=(*PARTS, *TRAINED), help="default: all parts")
    parser.add_argument("--case", default="", help="only cases with this text")
    parser.add_argument("--repetitions", type=int, default=400, help="default: 400")
    parser.add_argument("--first", type=int, default=0, help="the first seed, default: 0")
    parser.add_argument("--heads", type=int, default=24, help="trained heads, default: 24")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    figures: dict[str, Any] = {"repetitions": options.repetitions}
    with ProcessPoolExecutor(2) as pool:
        for part in PARTS if options.only is None else {options.only} & set(PARTS):
            populations, persons, clips = PARTS[part]
            cases = [(f"{n} persons", n, n * _PER_PERSON) for n in persons]
            cases += [(f"{n} clips", None, n) for n in clips]
            for name in populations:
                for size, count, total in cases:
                    if options.case not in f"{name}, {size}":
                        continue
                    work = partial(outcome, part, name, count, total)
                    seeds = range(options.first, options.first + options.repetitions)
                    found = summary(list(pool.map(work, seeds, chunksize=10)))
                    figures.setdefault(f"coverage_{part}", {})[f"{name}, {size}"] = found
                    show(f"{part}: {name}, {size}", found, options.json)
    for part in TRAINED if options.only is None else {options.only} & set(TRAINED):
        figures |= trained(part, options.case, options.heads, options.repetitions, options.json)
    if null := {
        size: {kind: values["excludes_0"] for kind, values in found.items()}
        for size, found in figures.get("coverage_gain", {}).items()
        if "null" in size
    }:
        figures["null_rejections"] = null  # fmt: skip
    if options.json:
        print(json.dumps(figures))


def trained(part: str, case: str, heads: int, repetitions: int, as_json: bool) -> dict[str, Any]:
    """The figures of a part that trains heads, by setting."""
    if part == "calibration":
        found = {"calibration": reactions.calibration(min(heads, 6))}
    elif part == "average":
        draws = max(repetitions, 2)
        found = {f"default_average_{name}": reactions.default_average(name, heads, draws)
                 for name in reactions.SETTINGS}  # fmt: skip
    elif part == "choosing":
        by_choice = reactions.choosing(min(heads, 12), 3, max(repetitions // 10, 2))
        found = {f"choosing on {how}": values for how, values in by_choice.items()}
    else:
        elsewhere = part == "optimism-elsewhere"
        settings = reactions.ELSEWHERE if elsewhere else reactions.SETTINGS
        draws = max(repetitions // 10, 2)
        cases = [(name, clips) for name in settings for clips in reactions.SIZES]
        found = {
            f"optimism_error_{name}_{clips}":
                reactions.optimism_error(name, min(heads, 12), clips, draws)
            for name, clips in cases
            if case in f"{name}_{clips}"
        }  # fmt: skip
    show(part, found, as_json)
    return found


def show(case: str, found: dict[str, dict[str, float]], as_json: bool) -> None:
    for kind, values in found.items():
        text = "  ".join(f"{name} {value:+.4f}" for name, value in values.items())
        print(f"{case:34}{kind:32}{text}", file=sys.stderr if as_json else sys.stdout, flush=True)


if __name__ == "__main__":
    main()
