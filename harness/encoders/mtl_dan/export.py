"""An MTL-DAN as an ONNX file, whose preprocessing is in its metadata."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.atomic import write_bytes
from harness.encoders.mtl_dan.checkpoints import load_mtl_dan
from harness.encoders.mtl_dan.encoder import input_size
from harness.encoders.mtl_dan.network import MTLDAN, over_heads
from harness.encoders.mtl_dan.preprocessing import DEVIATION, MEAN
from harness.errors import InputError

#: The outputs of the file: the 22 of `MTLDAN`, and the 512 that its branches share.
OUTPUTS = ("outputs", "shared")


class _Both(nn.Module):
    def __init__(self, network: MTLDAN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network.branches(images)
        heads = [out.action_unit_heads, out.expression_heads]
        shared = self.network.encoder(torch.cat([over_heads(h) for h in heads], dim=1))
        units = torch.sigmoid(out.action_units)
        return torch.cat([out.expression, units, out.valence_arousal], dim=1), shared


def check_export(target: Path) -> None:
    """Raises an InputError if nothing can be exported to `target`."""
    if target.suffix.lower() != ".onnx":
        raise InputError(f"{target}: expected a name that ends with .onnx", "export")
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise InputError(
                f"the export to ONNX needs {package}, which is not installed: "
                "pip install 'reaction-harness[pretrain]'",
                "export",
            )


def export(weights: Path, target: Path, key: str | None = None) -> None:
    """Writes the network of a weight file as ONNX, for batches of any size.

    Args:
        key: which network, where the file holds several.

    Raises:
        InputError: the weights are not readable, `target` is no name of an ONNX file, or the
            packages that export are not installed.
    """
    check_export(target)
    network = _Both(load_mtl_dan(weights, key)).eval()
    size = input_size(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own imports
        program = torch.onnx.export(
            network, (torch.zeros(2, 3, size, size),), input_names=["images"],
            output_names=list(OUTPUTS), dynamic_shapes=({0: "batch"},), dynamo=True,
            external_data=False, verbose=False, optimize=False,  # onnxruntime does that
        )  # fmt: skip
    assert program is not None  # that of dynamo=True
    model = program.model_proto
    metadata = {
        "size": str(size),
        "image_mean": json.dumps(MEAN),
        "image_std": json.dumps(DEVIATION),
        "rescale_factor": str(1 / 255),
    }
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)
    write_bytes(target, model.SerializeToString())
