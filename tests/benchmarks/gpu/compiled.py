"""The network by torch.compile, beside the fused one as it is, at one batch size.

Compiling takes from seconds to minutes: what is most useful comes first, and what the part's time
does not allow is missing from its rows. `compile_s` is the first call. The error as in
`extraction.py`.
"""

from functools import partial

import torch
from torch import Tensor

from tests.benchmarks.gpu.networks import Networks, set_precision
from tests.benchmarks.gpu.parts import Figures, Note, Run
from tests.benchmarks.inference import seconds

BATCH = 256
#: What is compiled: the fused network or the published one, and its precision.
WAYS = (("fused", "bf16"), ("fused", "tf32"), ("plain", "bf16"), ("fused", "float32"))


def measure(run: Run, note: Note) -> None:
    """A row a way, or the reason that it has none."""
    networks = Networks(run)
    # A CPU knows no TF32, and one way shows that compiling works.
    ways = (("fused", "float32"),) if run.quick else WAYS
    images = networks.images(networks.sizes.batches[-1] if run.quick else BATCH)
    rows: list[Figures] = []
    for way, precision in ways:
        note({"batch": len(images), "compiling": f"{way} {precision}", "rows": rows})
        try:
            row = _measured(networks, way == "fused", precision, images)
        except Exception as error:  # whatever a compiler comes to; the others may do
            row = {"failed": f"{type(error).__name__}: {error}"[:300]}
        rows.append({"way": way, "precision": precision, **row})
    note({"compiling": "nothing more", "rows": rows})


def _measured(networks: Networks, fused: bool, precision: str, images: Tensor) -> Figures:
    set_precision(precision)
    uncompiled = networks.speed(networks.fused(precision), images)
    torch.compiler.reset()
    network = networks.compiled(precision, fused)
    with torch.inference_mode():
        taken = seconds(partial(network, images), networks.device)
    speed = networks.speed(network, images)
    return {
        "compile_s": taken,
        "images_a_second": speed,
        "over_fused": speed / uncompiled,
        "relative_error": networks.error(network, len(images)),
    }
