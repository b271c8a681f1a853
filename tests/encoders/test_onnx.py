"""ONNX files as encoders: what they give, what is refused, and what makes them another encoder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor, nn

from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.onnx.encoder import description
from harness.encoders.preprocessing import Preprocessing, Source, chosen
from harness.encoders.registry import encoder_of
from harness.errors import InputError
from tests.graphs import FAULTS, OPSET, READ, export, external, means, one, quantised, save_graph

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def pictures(count: int = 5, side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, side, side + 6, 3), generator=generator, dtype=torch.uint8)


def features(encoder: Encoder, frames: Tensor | None = None) -> Tensor:
    with torch.inference_mode():
        found: Tensor = encoder.load()(encoder.resize(pictures() if frames is None else frames))
    assert found.shape[1] == len(encoder.columns)
    return found


def opened(file: Path, output: str = "", *values: str, **how: str) -> Encoder:
    return encoder_of(file, EncoderOptions(output=output, values=values, **how))


def refused(file: Path, output: str = "", *values: str) -> str:
    with pytest.raises(InputError) as error:
        opened(file, output, *values)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- What it gives is what PyTorch gives.


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_features_are_those_of_torch_whatever_the_batch(tmp_path: Path, batch: int | None) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    network = squeezenet1_1(num_classes=8).eval()
    encoder = opened(export(tmp_path / "net.onnx", network, batch=batch))
    frames = pictures()
    expected = network(Preprocessing((32, 32)).standardised(encoder.resize(frames)))
    torch.testing.assert_close(features(encoder, frames), expected, rtol=1e-5, atol=1e-5)


class Tower(nn.Module):
    """Convolution, pooling, two fully connected layers and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.hidden, self.classes = nn.Linear(6, 10), nn.Linear(10, 4)

    def features(self, images: Tensor) -> Tensor:
        return self.hidden(self.body(images).flatten(1)).relu()

    def forward(self, images: Tensor) -> Tensor:
        return self.classes(self.features(images)).softmax(1)


def test_features_are_the_input_of_the_last_fully_connected_layer(tmp_path: Path) -> None:
    network = Tower().eval()
    encoder = opened(export(tmp_path / "net.onnx", network), "features")
    expected = network.features(Preprocessing((32, 32)).standardised(encoder.resize(pictures())))
    torch.testing.assert_close(features(encoder), expected, rtol=1e-5, atol=1e-5)


def test_any_intermediate_value_can_be_read(tmp_path: Path) -> None:
    encoder = opened(means(tmp_path / "net.onnx"), "mean")
    expected = Preprocessing((16, 16)).standardised(encoder.resize(pictures())).mean((2, 3))
    torch.testing.assert_close(features(encoder), expected, rtol=1e-5, atol=1e-5)


def test_layouts_and_orders_of_colours_are_the_same_function(tmp_path: Path) -> None:
    first = opened(means(tmp_path / "nchw.onnx"), "mean")
    last = means(tmp_path / "nhwc.onnx", shape=("batch", 16, 16, 3), axes=[1, 2])
    torch.testing.assert_close(features(opened(last, "mean")), features(first))
    flipped = opened(last, "mean", "order=bgr", "mean=0.406,0.456,0.485", "std=0.225,0.224,0.229")
    torch.testing.assert_close(features(flipped).flip(1), features(first))
    free = means(tmp_path / "any.onnx", shape=("b", "h", "w", "c"), axes=[1, 2])
    torch.testing.assert_close(
        features(opened(free, "mean", "size=16", "layout=nhwc")), features(first)
    )


def test_tokens_are_averaged(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=(0, 2, 3, 1)),
        helper.make_node("Reshape", ["t", "shape"], ["y"]),
    ]
    weights = {"shape": np.array([0, 256, 3])}
    encoder = opened(save_graph(tmp_path / "net.onnx", nodes, weights=weights))
    expected = Preprocessing((16, 16)).standardised(encoder.resize(pictures())).mean((2, 3))
    torch.testing.assert_close(features(encoder), expected, rtol=1e-5, atol=1e-5)


def branches(path: Path, channels_last: bool) -> Path:
    """Values with 8 channels on either axis; only that of the reshape has unknown axes."""
    shape = ("batch", 16, 16, 3) if channels_last else ("batch", 3, 16, 16)
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["images"], perm=[0, 3, 1, 2] if channels_last else [0, 1, 2, 3]),
        node("Conv", ["images", "kernel"], ["conv"]),
        node("Sigmoid", ["conv"], ["gate"]),
        node("Mul", ["conv", "gate"], ["second"]),
        node("Transpose", ["second"], ["turned"], perm=[0, 2, 3, 1]),
        node("LayerNormalization", ["turned", "ones"], ["normal"]),
        node("Add", ["turned", "normal"], ["last"]),
        node("MatMul", ["normal", "square"], ["linear"]),
        node("Transpose", ["linear"], ["back"], perm=[0, 3, 1, 2]),
        node("Add", ["second", "back"], ["residual"]),
        node("Reshape", ["normal", "shape"], ["reshaped"]),
        node("Transpose", ["reshaped"], ["y"], perm=[0, 3, 1, 2]),
        # Group normalisation as torch writes it, and a normalisation over all axes of a picture.
        node("Reshape", ["conv", "groups"], ["grouped"]),
        node("InstanceNormalization", ["grouped", "two", "none"], ["standard"]),
        node("Shape", ["conv"], ["sides"]),
        node("Reshape", ["standard", "sides"], ["ungrouped"]),
        node("Greater", ["ungrouped", "zero"], ["positive"]),
        node("Where", ["positive", "ungrouped", "zero"], ["chosen"]),
        node("LayerNormalization", ["conv", "all"], ["whole"], axis=1),
    ]
    weights = {
        "kernel": rng.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "square": rng.normal(size=(8, 8)).astype(np.float32),
        "ones": np.ones(8, np.float32),
        "shape": np.array([0, 14, 14, 8]),
        "groups": np.array([0, 2, -1]),
        "two": np.ones(2, np.float32),
        "none": np.zeros(2, np.float32),
        "zero": np.zeros((), np.float32),
        "all": np.ones((8, 14, 14), np.float32),
    }
    return save_graph(path, nodes, shape=shape, weights=weights)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        *("conv", "second", "turned", "normal", "last", "linear", "back", "residual", "y"),
        *("ungrouped", "chosen", "whole"),
    ],
)
def test_columns_are_the_channels_of_what_made_the_value(
    tmp_path: Path, value: str, channels_last: bool
) -> None:
    assert len(opened(branches(tmp_path / "net.onnx", channels_last), value).columns) == 8


def test_a_value_of_four_axes_without_known_channels_is_refused(tmp_path: Path) -> None:
    said = refused(branches(tmp_path / "net.onnx", False), "reshaped")
    assert "has shape (2, 14, 14, 8)" in said
    assert "name a value of two axes by `encoder_output`" in said


def test_bytes_and_float16_are_taken_as_the_graph_wants_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["y"], axes=[2, 3], keepdims=0),
    ]
    bytes_in = opened(save_graph(tmp_path / "u.onnx", nodes, element=TensorProto.UINT8))
    expected = bytes_in.resize(pictures()).float().mean((2, 3))
    torch.testing.assert_close(features(bytes_in), expected, rtol=1e-5, atol=1e-3)
    half = opened(save_graph(tmp_path / "h.onnx", nodes, element=TensorProto.FLOAT16))
    whole = opened(save_graph(tmp_path / "f.onnx", nodes))
    assert 0 < float((features(half) - features(whole)).abs().max()) < 1e-2


@pytest.mark.parametrize("batch", ["batch", 3])
def test_a_dynamically_quantised_graph_sees_each_picture_alone(
    tmp_path: Path, batch: int | str
) -> None:
    file = quantised(tmp_path / "net.onnx", shape=(batch, 3, 16, 16))
    encoder = opened(file)
    frames = pictures()
    frames[1:] //= 8
    alone = [features(encoder, frames[k : k + 1]) for k in range(len(frames))]
    torch.testing.assert_close(features(encoder, frames), torch.cat(alone), rtol=0, atol=0)
    assert encoder.details["batch"] == "one at a time"
    assert "batch" not in opened(means(tmp_path / "means.onnx")).details


# --- Preprocessing: where its values come from.


def test_each_value_comes_from_the_first_source_that_has_it(tmp_path: Path) -> None:
    config = {"image_mean": [0.1, 0.2, 0.3], "do_normalize": True, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    metadata = {"image_mean": "[0.9, 0.9, 0.9]", "image_std": "0.5", "author": "size: 3"}
    file = means(tmp_path / "net.onnx", metadata=metadata)
    details = opened(file, "", "scale=1/128").details
    assert details["mean"] == "0.1,0.2,0.3"
    assert details["std"] == "0.5,0.5,0.5"
    assert details["scale"] == str(1 / 128)
    assert details["size"] == "16x16"
    assert details["interpolation"] == "bicubic"
    assert details["order"] == "rgb"
    (line,) = (x for x in opened(file).describe() if x.startswith("Preprocessing"))
    for part in ("0.1,0.2,0.3 (preprocessor_config.json)", "16x16 (the graph)", "rgb (default)",
                 "0.5,0.5,0.5 (metadata of the file)"):  # fmt: skip
        assert part in line


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": 16}, {"size": "16x16", "resize": "none"}),
        ({"size": {"height": 16, "width": 16}}, {"size": "16x16", "resize": "none"}),
        (
            {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 16},
            {"size": "16x16", "resize": "20"},
        ),
        ({"size": {"shortest_edge": 16}, "crop_pct": 0.8}, {"size": "16x16", "resize": "20"}),
        ({"do_rescale": False, "do_normalize": False}, {"scale": "1.0", "std": "1.0,1.0,1.0"}),
        ({"size": 16, "crop_pct": 0.8}, {"size": "16x16", "resize": "20"}),  # ConvNeXt of 2022
        # MobileViT, which has no normalisation, and EfficientNet, which divides by std twice.
        (
            {"do_flip_channel_order": True, "do_normalize": None},
            {"order": "bgr", "mean": "0.0,0.0,0.0", "std": "1.0,1.0,1.0"},
        ),
        (
            {"include_top": True, "image_mean": 0.5, "image_std": 0.5},
            {"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"},
        ),
        (
            {"include_top": True, "image_mean": 0.5, "image_std": 0.5, "do_normalize": False},
            {"mean": "0.0,0.0,0.0", "std": "0.5,0.5,0.5"},
        ),
    ],
)
def test_configurations_of_hugging_face(
    tmp_path: Path, config: dict[str, object], expected: dict[str, str]
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    details = opened(means(tmp_path / "net.onnx")).details
    assert {name: details[name] for name in expected} == expected


def test_nearest_is_that_of_pillow() -> None:
    frames = pictures(1)
    expected = Image.fromarray(frames[0].numpy()).resize((12, 8), Image.Resampling.NEAREST)
    found = Preprocessing((8, 12), interpolation="nearest").resized(frames)[0].permute(1, 2, 0)
    np.testing.assert_array_equal(found.numpy(), np.asarray(expected))


def test_only_nearest_has_another_version_than_before() -> None:
    versions = {
        name: str(Preprocessing(interpolation=name).details()["preprocessing"])
        for name in ("nearest", "bilinear", "bicubic")
    }
    assert versions["bilinear"] == versions["bicubic"] != versions["nearest"]
    assert versions["bilinear"].startswith("resize-antialias/")


def test_a_resize_that_covers_the_crop_side_by_side_is_accepted() -> None:
    made, _ = chosen([Source("s", {"size": (300, 200), "resize": (300, 200)})])
    assert made.resized(pictures(1)).shape == (1, 3, 300, 200)
    with pytest.raises(InputError, match=r"resize 256 .* is smaller than size 300x200"):
        chosen([Source("s", {"size": (300, 200), "resize": (256,)})])


def test_a_centre_crop_keeps_the_middle() -> None:
    frames = torch.zeros(1, 40, 80, 3, dtype=torch.uint8)
    frames[:, 10:30, 30:50] = 255
    images = Preprocessing((10, 10), (20,)).resized(frames)
    assert images.shape == (1, 3, 10, 10)
    assert int(images.min()) > 150, "white but for the edge, which antialiasing blends"


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        ({"size": 20}, [], "takes no pictures of 20x20 pixels (preprocessor_config.json)"),
        ({}, ["size=20"], "takes no pictures of 20x20 pixels (option)"),
        ({"image_mean": 0.5}, ["mean=0.4"], "contradicts 0.5,0.5,0.5 of preprocessor_config.json"),
        ({"image_std": [0, 1, 1]}, [], "image_std is '0,1,1'; expected numbers above 0"),
        ({"resample": 1}, [], "resample 1; expected one of 0 (nearest), 2 (bilinear)"),
        ({"rescale_offset": True}, [], "rescale_offset is not supported"),
        ({"size": {"longest_edge": 3}}, [], "size is 'NonexNone'; expected pixels a side"),
        ([], [], "expected an object"),
        ({}, ["sise=3"], "sise=3: expected KEY=VALUE, KEY one of size, resize"),
        ({}, ["mean=a"], "mean is 'a'; expected a number"),
        ({}, ["mean=1", "mean=1"], "mean is given twice"),
        ({}, ["order=gbr"], "order is 'gbr'; expected one of rgb, bgr"),
        ({}, ["layout=nhwc"], "layout=nhwc: "),
        ({}, ["resize=8"], "resize 8 (option) is smaller than size 16x16"),
    ],
)
def test_what_contradicts_or_is_unknown_is_refused(
    tmp_path: Path, config: object, values: list[str], message: str
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert message in refused(means(tmp_path / "net.onnx"), "", *values)


@pytest.mark.parametrize("value", ["scale=1/255", "mean=0.5", "std=0.5"])
def test_a_graph_of_bytes_standardises_them_itself(tmp_path: Path, value: str) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["y"], axes=[2, 3], keepdims=0),
    ]
    file = save_graph(tmp_path / "net.onnx", nodes, element=TensorProto.UINT8)
    said = refused(file, "", value)
    assert "of the graph, which takes bytes as they are; remove the option" in said
    assert opened(file, "", "order=bgr", "scale=1").details["order"] == "bgr"


# --- Identity.


def test_the_specification_changes_with_contents_output_and_preprocessing(tmp_path: Path) -> None:
    file = means(tmp_path / "net.onnx")
    same = means(tmp_path / "renamed.onnx")
    others = [
        opened(means(tmp_path / "other.onnx", seed=1)),
        opened(file, "mean"),
        opened(file, "", "mean=0.5"),
        opened(file, "", "order=bgr"),
        replace(opened(file), stored="float16"),
        replace(opened(file), crop="c"),
    ]
    prints = [opened(f).specification().fingerprint() for f in (file, same)]
    assert prints[0] == prints[1], "the name of the file is not its contents"
    assert len({*prints, *(e.specification().fingerprint() for e in others)}) == 1 + len(others)


def test_a_stored_specification_replaces_the_defaults(tmp_path: Path) -> None:
    """Prediction needs neither the output nor the preprocessing again."""
    file = means(tmp_path / "net.onnx", shape=("b", 3, "h", "w"))
    first = opened(file, "features", "size=20", "mean=0.5", "order=bgr")
    again = encoder_of(file, EncoderOptions(like=first.details))
    assert again.specification() == first.specification()
    other = encoder_of(file, EncoderOptions(like=first.details, values=("size=24",)))
    assert first.specification().differences(other.specification()) == [
        "size 24x24, expected 20x20"
    ]


def test_weights_beside_the_file_are_read_and_belong_to_its_contents(tmp_path: Path) -> None:
    whole = features(opened(means(tmp_path / "whole.onnx")))
    file = external(tmp_path)
    encoder = opened(file)
    torch.testing.assert_close(features(encoder), whole)
    data = tmp_path / "net.data"
    data.write_bytes(data.read_bytes()[::-1])
    with pytest.raises(InputError, match="changed since it was first read"):
        encoder.load()
    data.write_bytes(bytes(len(data.read_bytes())))
    assert opened(file).details["weights"] != encoder.details["weights"]


# --- Faults.


def test_axes_without_a_size_are_dynamic(tmp_path: Path) -> None:
    file = means(tmp_path / "net.onnx", shape=(-1, 3, 0, -1))
    assert "Input x float32 (?, 3, ?, ?)" in description(file)
    assert features(opened(file, "", "size=16")).shape == (5, 2)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_clear_line(tmp_path: Path, fault: str) -> None:
    make, message = FAULTS[fault]
    file = make(tmp_path / "net.onnx")
    said = refused(file, READ.get(fault, ""))
    assert message in said
    assert "net.onnx" in said


def test_weights_through_a_link_and_too_short_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(bytes(24))
    (tmp_path / "in" / "net.data").symlink_to(tmp_path / "secret")
    assert "outside the folder" in refused(external(tmp_path / "in", write=False))
    (tmp_path / "in" / "net.data").unlink()
    (tmp_path / "in" / "net.data").write_bytes(bytes(5))
    assert "which is too short" in refused(tmp_path / "in" / "net.onnx")


def test_features_of_a_graph_without_a_layer_are_refused(tmp_path: Path) -> None:
    said = refused(one(tmp_path / "one.onnx", "GlobalAveragePool"), "features")
    assert "no value would be the input of the last fully connected layer" in said
    assert "name a value: y" in said


def test_the_number_format_and_keys_of_weights_do_not_apply(tmp_path: Path) -> None:
    file = means(tmp_path / "net.onnx")
    for how, name in (({"precision": "bf16"}, "precision"), ({"key": "ema"}, "weights_key")):
        with pytest.raises(InputError) as error:
            encoder_of(file, EncoderOptions(**how))
        assert error.value.argument == name


def test_the_description_lists_what_can_be_read(tmp_path: Path) -> None:
    lines = description(means(tmp_path / "net.onnx"))
    for line in (
        "Input x float32 (batch, 3, 16, 16)",
        "Output y float32 (batch, 2)",
        "features: relu float32 (batch, 3)",
        "Candidate relu float32 (batch, 3)",
        "Candidate mean float32 (batch, 3)",
    ):
        assert line in lines
    assert lines[0].endswith(f"4 operations, opset ai.onnx {OPSET}")
    wave = description(one(tmp_path / "wave.onnx", "Identity", shape=("b", 16000)))
    assert "Input x float32 (b, 16000), a waveform" in wave
    neither = description(one(tmp_path / "none.onnx", "Identity", shape=("b", 80, "t")))
    assert any("No encoder" in line and "expected image: (batch" in line for line in neither)
