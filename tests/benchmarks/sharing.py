"""Extraction through Ray: our actors beside Ray Data's batch inference, on the same cluster.

    python -m tests.benchmarks.sharing [--json] [--quick]

Films of 10 s, sampled at the strides of search_spaces/paper.toml, through the fused MTL-DAN with
9 + 9 heads at 224 pixels. `actors` is `harness.streams.workers`; `ray_data` is its idiom: a
`flat_map` decodes clips into images, `map_batches` runs the network in an actor that stays. Ray is
started before; each side starts its own workers and loads the network there. Both run in turn, and
the best round counts. Neither side looks for faces, and their features are compared.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from harness import cluster
from harness.clips.table import ClipTable
from harness.clips.video import sampled_frames
from harness.encoders.mtl_dan.encoder import Standardised
from harness.encoders.mtl_dan.fused import fuse
from harness.encoders.mtl_dan.preprocessing import resized, standardised
from harness.sampling import strides
from harness.streams.extraction import Extractor, Need, Network, Work
from harness.streams.workers import Workers
from tests.benchmarks.films import write_films
from tests.networks import make_network

STRIDES = (10, 15, 30)
SIZE, BATCH = 224, 64
Features = dict[tuple[int, int], np.ndarray]


def extractor() -> Extractor:
    """What an actor of ours computes with."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = Standardised(fuse(make_network(9)))
    return Extractor([Network("mtl-dan", module, partial(resized, size=SIZE))], device)


def by_actors(clips: ClipTable, workers: int) -> Features:
    """(clip, frame) -> features, by the harness."""
    work = [Work(c, row, "", (Need(0, strides(*STRIDES)),)) for row, c in enumerate(clips.clip_ids)]
    rows = {clip: row for row, clip in enumerate(clips.clip_ids)}
    found = Workers(extractor, None, workers)(clips, work)
    return {
        (rows[clip.clip_id], int(frame)): values
        for _, clip in found
        for frame, values in zip(clip.frames, clip.features, strict=True)
    }


class OfRayData:
    """What Ray Data keeps in its actor."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = fuse(make_network(9)).to(self.device)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        images = standardised(torch.from_numpy(np.stack(batch.pop("image"))).to(self.device))
        return {**batch, "features": self.network(images).cpu().numpy()}


def decoded(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The sampled images of a clip."""
    torch.set_num_threads(1)
    return [
        {**row, "frame": index, "image": resized(torch.from_numpy(frame)[None], SIZE)[0].numpy()}
        for index, frame in sampled_frames(Path(row["path"]), STRIDES)
    ]


def by_ray_data(clips: ClipTable, workers: int) -> Features:
    """The same by Ray Data."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"clip": row, "path": str(path)} for row, path in enumerate(clips.paths)]
    gpus = 1 if torch.cuda.is_available() else 0
    found = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .flat_map(decoded)
        .map_batches(
            OfRayData,
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=gpus,
        )
    )
    return {
        (int(clip), int(frame)): values
        for batch in found.drop_columns(["path"]).iter_batches(batch_size=None)
        for clip, frame, values in zip(
            batch["clip"], batch["frame"], batch["features"], strict=True
        )
    }


def measure(clips: ClipTable, rounds: int) -> dict[str, float]:
    """Images a second of either side, their ratio, and how far their features differ."""
    workers = max(1, torch.cuda.device_count())
    sides: dict[str, Callable[[], Features]] = {
        "actors": partial(by_actors, clips, workers),
        "ray_data": partial(by_ray_data, clips, workers),
    }
    best, found = dict.fromkeys(sides, 0.0), {}
    for _ in range(rounds):
        for name, run in sides.items():
            begun = time.perf_counter()
            found[name] = run()
            best[name] = max(best[name], len(found[name]) / (time.perf_counter() - begun))
    assert found["actors"].keys() == found["ray_data"].keys()
    ours, theirs = (np.stack([side[key] for key in sorted(side)]) for side in found.values())
    difference = float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))
    figures = {f"{name}_images_a_second": speed for name, speed in best.items()}
    ratio = best["actors"] / best["ray_data"]
    return figures | {"actors_over_ray_data": ratio, "relative_difference": difference}


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer films, one round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = write_films(Path(folder), 8 if options.quick else 32, SIZE, 0.8)
        cluster.join(None)
        figures = measure(clips, 1 if options.quick else 3)
        ray.shutdown()
    if options.json:
        print(json.dumps(figures))
        return
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    print(name)
    for label, value in figures.items():
        print(f"  {label:26}{value:10.2g}" if "diff" in label else f"  {label:26}{value:10.2f}")


if __name__ == "__main__":
    main()
