"""The network's images a second in float32, TF32 and bf16, published and fused.

9 + 9 heads at 224 pixels, random weights and batch statistics, images that lie on the device. The
error is that of the norm, to the published network in float64. Batches grow until one takes more
than a second or the memory ends; each way's best one counts. `plain` is the published network,
`channels last` the same in the other layout of memory, `fused` what extraction runs,
`cudnn.benchmark` the same with cuDNN's kernels timed first.
"""

import torch

from tests.benchmarks.gpu.networks import PRECISIONS, Network, Networks, set_precision
from tests.benchmarks.gpu.parts import Figures, Note, Run

# A larger batch than one of so many seconds gains nothing.
LONG = 1.0


def measure(run: Run, note: Note) -> None:
    """A row a way and precision, as soon as it is measured."""
    networks = Networks(run)
    rows: list[Figures] = []
    for precision in PRECISIONS:
        set_precision(precision)
        for way, network in _ways(networks, precision).items():
            torch.backends.cudnn.benchmark = way.endswith("cudnn.benchmark")
            row = {"way": way, "precision": precision, **_measured(networks, network)}
            rows.append(row)
            row["over_plain_float32"] = row["images_a_second"] / rows[0]["images_a_second"]
            note({"pixels": networks.sizes.size, "heads": networks.sizes.heads, "rows": rows})
    fused = {row["precision"]: row for row in rows if row["way"] == "fused"}
    plain = {row["precision"]: row for row in rows if row["way"] == "plain"}
    speed = {name: row["images_a_second"] for name, row in fused.items()}
    note(
        {
            "fused_over_plain": {
                name: speed[name] / plain[name]["images_a_second"] for name in fused
            },
            "fused_over_fused_float32": {name: speed[name] / speed["float32"] for name in fused},
            "best_batch": {name: row["batch"] for name, row in fused.items()},
        }
    )


def _ways(networks: Networks, precision: str) -> dict[str, Network]:
    fused = networks.fused(precision)
    found: dict[str, Network] = {
        "plain": networks.plain(precision),
        "plain, channels last": networks.plain(precision, channels_last=True),
        "fused": fused,
    }
    if networks.device.type == "cuda":
        found["fused, cudnn.benchmark"] = fused
    return found


def _measured(networks: Networks, network: Network) -> Figures:
    """The best batch's speed, that of each, and the error."""
    speeds: dict[int, float] = {}
    for batch in networks.sizes.batches:
        try:
            speeds[batch] = networks.speed(network, networks.images(batch))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if batch / speeds[batch] > LONG:
            break
    if not speeds:
        raise RuntimeError(f"not even {networks.sizes.batches[0]} images fit the memory")
    best = max(speeds, key=lambda batch: speeds[batch])
    return {
        "batch": best,
        "images_a_second": speeds[best],
        "by_batch": {str(batch): round(speed, 1) for batch, speed in speeds.items()},
        "relative_error": networks.error(network, best),
    }
