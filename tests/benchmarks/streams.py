"""What several streams gain over the better one, and what a stream of noise costs.

    python -m tests.benchmarks.streams [--json] [--quick] [--seeds N] [--out FILE]

For each of five seeds of the demo, `harness.search --deterministic` of search_spaces/fusion.toml
and `harness.ensemble --top 5`, with equal budgets and with `streams` limited to

    picture: mtl-dan                   sound: sound
    both: as in the file               noise: also `noise`, and `mtl-dan+noise+sound`

`noise` is an encoder whose 16 outputs for each frame depend on its pixels in no useful way.

both_over_best: mean over the seeds of the test score of `both` minus that of the better one of
`picture` and `sound`. both_over_oracle: mean ratio of the test score of `both` to the oracle of
both. noise_cost: mean of `both` minus `noise` on test. Each with its 95 % interval (Student's t
over the seeds). The folder of a seed is removed when it is done; some 2 hours on two cores,
`--quick` (one seed, 8 trials of each) 15 minutes. `--out` adds a line of JSON for each seed to a
file; seeds that it has are not run again, so that a run can be continued.
Synthetic clips: no score here is a result on Hume-Reaction.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t
from torch import Tensor, nn

from harness.clips.demo import Plan, ensure_demo
from harness.clips.layouts import read_clips
from harness.encoders.encoder import Encoder
from harness.encoders.module import image_encoder
from harness.ensembles.files import read_ensemble
from harness.pretraining.demo_network import demo_weights
from harness.spaces import SPACES

CHOICES = {
    "picture": ["mtl-dan"],
    "sound": ["sound"],
    "both": ["mtl-dan", "sound", "mtl-dan+sound"],
    "noise": ["mtl-dan", "sound", "mtl-dan+sound", "noise", "mtl-dan+noise+sound"],
}
_LINE = 'choices = ["mtl-dan", "sound", "mtl-dan+sound"]'
_BOTH = 'only_if = { streams = ["mtl-dan+sound"] }'
_COLUMNS = 16


class Noise(nn.Module):
    """Pictures (n, 3, height, width) -> (n, 16) numbers in [0, 1) without a visible relation."""

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.double().flatten(1)
        places = torch.arange(1, pixels.shape[1] + 1, dtype=torch.float64)
        sums = [torch.sin(places * k) @ pixels.T for k in range(1, _COLUMNS + 1)]
        found: Tensor = (torch.stack(sums, 1) * 1e4).frac().abs().float()
        return found


def noise() -> Encoder:
    """The encoder of the stream `noise`, by `--encoder`."""
    return image_encoder("noise", version="1", load=Noise, columns=_COLUMNS)


def space_of(kind: str, folder: Path) -> Path:
    """fusion.toml with other streams."""
    text = (SPACES / "fusion.toml").read_text()
    assert text.count(_LINE) == 1
    assert text.count(_BOTH) == 2
    several = [name for name in CHOICES[kind] if "+" in name]
    text = text.replace(_LINE, f"choices = {json.dumps(CHOICES[kind])}")
    text = text.replace(_BOTH, f"only_if = {{ streams = {json.dumps(several or CHOICES[kind])} }}")
    head, *points = text.split("[[start]]\n")
    kept = [p for p in points if any(f'streams = "{name}"' in p for name in CHOICES[kind])]
    if kind == "noise":
        kept.append(points[-1].replace("mtl-dan+sound", "mtl-dan+noise+sound"))
    path = folder / f"{kind}.toml"
    path.write_text("[[start]]\n".join([head, *kept]))
    return path


def scores(folder: Path, seed: int, trials: int | None) -> dict[str, float]:
    """The test scores of the ensembles of one seed, and the oracle of both."""
    demo = ensure_demo(folder, Plan(seed=seed))
    weights = demo_weights(demo.annotations)
    found = {}
    for kind in CHOICES:
        place = ["--results", folder / "results", "--study", kind]
        line = ["search", "--data", demo.root, "--weights", weights, "--seed", seed]
        line += ["--space", space_of(kind, folder), "--deterministic", "--concurrency", 2]
        line += ["--encoder", "noise=tests.benchmarks.streams:noise"] if kind == "noise" else []
        _run(*line, *place, *(["--trials", trials] if trials else []))
        _run("ensemble", "--top", 5, "--no-report", *place)
        (file,) = (folder / "results" / kind / "ensembles").glob("*/ensemble.json")
        test = read_ensemble(file.parent).test
        assert test is not None  # the demo's test clips are rated
        found[kind] = test
    oracle = read_clips(demo.root).oracles["both"]["test"]
    return found | {"oracle": statistics.mean(oracle.values())}


def summary(seeds: list[dict[str, float]]) -> dict[str, Any]:
    """The three numbers with their intervals, and the scores that they come from."""
    values = {
        "both_over_best": [s["both"] - max(s["picture"], s["sound"]) for s in seeds],
        "both_over_oracle": [s["both"] / s["oracle"] for s in seeds],
        "noise_cost": [s["both"] - s["noise"] for s in seeds],
    }
    found: dict[str, Any] = {}
    for name, own in values.items():
        found[name] = statistics.mean(own)
        if len(own) > 1:
            half = t.ppf(0.975, len(own) - 1) * np.std(own, ddof=1) / np.sqrt(len(own))
            found[f"{name}_interval"] = [float(found[name] - half), float(found[name] + half)]
    return found | {"seeds": seeds}


def _run(command: str, *arguments: object) -> None:
    line = [sys.executable, "-m", f"harness.{command}", *map(str, arguments)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="keeps each seed's scores")
    options = parser.parse_args()
    lines = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    done = {int(each.pop("seed")): each for each in map(json.loads, lines)}
    found = []
    for seed in range(1 if options.quick else options.seeds):
        if seed in done:
            found.append(done[seed])
            continue
        with tempfile.TemporaryDirectory() as folder:
            found.append(scores(Path(folder), seed, 8 if options.quick else None))
        line = json.dumps({"seed": seed, **found[-1]})
        if options.out:
            with options.out.open("a") as file:
                file.write(line + "\n")
        if not options.json:
            print(line, flush=True)
    print(json.dumps(summary(found), indent=2))


if __name__ == "__main__":
    main()
