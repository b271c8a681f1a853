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
            rows.append({"way": way, "precision": precision, **_measured(networks, network)})
            if all("images_a_second" in row for row in (rows[0], rows[-1])):
                over = rows[-1]["images_a_second"] / rows[0]["images_a_second"]
                rows[-1]["over_plain_float32"] = over
            note({"pixels": networks.sizes.size, "heads": networks.sizes.heads, "rows": rows})
    fused, plain = _speeds(rows, "fused"), _speeds(rows, "plain")
    note(
        {
            "fused_over_plain": {k: fused[k] / plain[k] for k in fused.keys() & plain},
            "fused_over_fused_float32": {k: v / fused["float32"] for k, v in fused.items()}
            if "float32" in fused
            else {},
        }
    )


def _speeds(rows: list[Figures], way: str) -> dict[str, float]:
    """Of a way, by precision, those that ran."""
    found = [row for row in rows if row["way"] == way and "images_a_second" in row]
    return {row["precision"]: row["images_a_second"] for row in found}


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
    """The best batch's speed, that of each, and the error; or why it does not run here."""
    try:
        return _of_best(networks, network)
    except RuntimeError as error:  # a card without bf16, say; the other ways go on
        return {"failed": str(error)[:300]}


def _of_best(networks: Networks, network: Network) -> Figures:
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
