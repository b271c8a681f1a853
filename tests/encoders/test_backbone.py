"""MTL-DAN: its function, its fused twin and its files."""

import pickle
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from harness.encoders.mtl_dan.checkpoints import load_mtl_dan, read_metadata, save_mtl_dan
from harness.encoders.mtl_dan.fused import COLUMNS, fuse
from harness.encoders.mtl_dan.network import MTLDAN, OUTPUTS, SHARED, WIDTH, WIDTHS, AttentionHead
from harness.encoders.mtl_dan.preprocessing import DEVIATION, MEAN, normalise
from harness.errors import InputError
from tests.networks import Trap, make_network


def images(count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = MTLDAN(9)
    assert sum(p.numel() for p in model.parameters()) == 50_175_402


def test_the_trunk_is_torchvisions() -> None:
    theirs = nn.Sequential(*list(resnet18(weights=None).children())[:-2]).eval()
    ours = MTLDAN(1).DAN.features.eval()
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours(images(2, 64, 96)), theirs(images(2, 64, 96)))


def test_reading_a_weight_file_needs_neither_torchvision_nor_a_compiler(tmp_path: Path) -> None:
    save_mtl_dan(tmp_path / "net.safetensors", make_network(1), {})
    code = f"""if True:
        import sys
        from harness.encoders.mtl_dan.checkpoints import load_mtl_dan
        load_mtl_dan({str(tmp_path / "net.safetensors")!r})
        print(*{{"torchvision", "torch._dynamo"}} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_published_names() -> None:
    with torch.device("meta"):
        state = MTLDAN(9).state_dict()
    heads = [f"cat_head{i}" for i in range(9)]
    expected = {"DAN", *heads, "encoder", "fc1", "bn1", "fc2", "fc3"}
    assert {key.split(".")[0] for key in state} == expected
    inside = {key.split(".")[1] for key in state if key.startswith("DAN.")}
    assert inside == {"features", *heads, "fc", "bn", "fc2"}
    trunk = {key.split(".")[2] for key in state if key.startswith("DAN.features.")}
    assert trunk == {"0", "1", "4", "5", "6", "7"}
    shapes = {
        "sa.conv1x1.0.weight": [256, 512, 1, 1],
        "sa.conv_3x3.0.weight": [512, 256, 3, 3],
        "sa.conv_1x3.0.weight": [512, 256, 1, 3],
        "sa.conv_3x1.0.weight": [512, 256, 3, 1],
        "ca.attention.0.weight": [32, 512],
        "ca.attention.3.weight": [512, 32],
    }
    for name, shape in shapes.items():
        assert list(state[f"cat_head8.{name}"].shape) == shape


def by_hand(model: MTLDAN, x: Tensor) -> Tensor:
    """The formula again, with torch's functions on the state dict's own tensors."""
    s = model.state_dict()

    def norm(y: Tensor, name: str) -> Tensor:
        statistics = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(y, *statistics, s[f"{name}.weight"], s[f"{name}.bias"])

    def conv(y: Tensor, name: str, padding: tuple[int, int]) -> Tensor:
        weight, bias = s[f"{name}.0.weight"], s[f"{name}.0.bias"]
        return norm(F.conv2d(y, weight, bias, padding=padding), f"{name}.1")

    def linear(y: Tensor, name: str) -> Tensor:
        return F.linear(y, s[f"{name}.weight"], s[f"{name}.bias"])

    def head(y: Tensor, name: str) -> Tensor:
        z = conv(y, f"{name}.sa.conv1x1", (0, 0))
        z = (
            conv(z, f"{name}.sa.conv_3x3", (1, 1))
            + conv(z, f"{name}.sa.conv_1x3", (0, 1))
            + conv(z, f"{name}.sa.conv_3x1", (1, 0))
        ).relu()
        pooled = (y * z.sum(1, keepdim=True)).mean((2, 3))
        gate = linear(pooled, f"{name}.ca.attention.0")
        gate = norm(gate, f"{name}.ca.attention.1").relu()
        return pooled * linear(gate, f"{name}.ca.attention.3").sigmoid()

    features = model.DAN.features(x)
    n = model.num_heads
    stacks = [
        torch.stack([head(features, f"{prefix}cat_head{i}") for i in range(n)])
        for prefix in ("DAN.", "")
    ]
    expr, au = ((h.log_softmax(0) if n > 1 else h).sum(0) for h in stacks)
    va = features.mean((2, 3))
    shared = norm(linear(torch.cat([au, expr], 1), "encoder.0"), "encoder.1")
    return torch.cat(
        [
            norm(linear(torch.cat([expr, shared], 1), "fc1"), "bn1"),
            linear(torch.cat([au, shared], 1), "fc2").sigmoid(),
            linear(torch.cat([va, shared], 1), "fc3").tanh(),
        ],
        1,
    )


@pytest.mark.parametrize("num_heads", [1, 3])
def test_the_function_is_the_published_one(num_heads: int) -> None:
    model, x = make_network(num_heads), images(3, 64, 64)
    out = model(x)
    assert out.shape == (3, 22)
    torch.testing.assert_close(out, by_hand(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("num_heads", "height", "width"), [(1, 64, 64), (2, 65, 49), (4, 96, 80), (9, 64, 64)]
)
def test_the_fused_model_is_the_same_function(num_heads: int, height: int, width: int) -> None:
    model, x = make_network(num_heads), images(4, height, width)
    plain, fused = model(x), fuse(model)(x)
    assert error(fused, plain) < 1e-5


def test_the_fused_model_is_as_near_as_the_model_is_to_itself_in_another_memory_format() -> None:
    """Over networks whose rounding counts for most: few heads, small pictures. How much it counts
    depends on the weights, so one network proves nothing."""
    twin, itself = [], []
    for seed in range(8):
        model, x = make_network(4, seed), images(4, 96, 80)
        plain = model(x)
        twin.append(error(fuse(model)(x), plain))
        other = model.to(memory_format=torch.channels_last)
        itself.append(error(other(x.contiguous(memory_format=torch.channels_last)), plain))
    assert median(twin) < 1e-5
    assert median(twin) < 2 * median(itself)


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 0.15), (torch.float16, 0.03)])
def test_reduced_precision_is_near_and_not_the_same(dtype: torch.dtype, most: float) -> None:
    model, x = make_network(1), images(8, 64, 64)
    plain, reduced = model(x), fuse(model, dtype)(x)
    assert reduced.dtype == torch.float32
    assert 1e-5 < error(reduced, plain) < most


def test_the_shared_representation_is_what_the_branches_read() -> None:
    model = make_network(9)
    seen = []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    outputs = model(x)
    both = fuse(model, outputs="both")(x)
    for kind, expected in (("outputs", outputs), ("shared", seen[0])):
        assert error(both[:, COLUMNS[kind]], expected) < 1e-5
    assert torch.equal(fuse(model, outputs="shared")(x), both[:, COLUMNS["shared"]])
    with pytest.raises(
        ValueError, match="unknown outputs 'all'; choose one of outputs, shared, both"
    ):
        fuse(model, outputs="all")


def test_only_a_frozen_model_is_fused() -> None:
    with pytest.raises(ValueError, match=r"model\.eval"):
        fuse(MTLDAN(1))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_the_published_form_loads(tmp_path: Path, prefix: str, wrapped: bool) -> None:
    model = make_network(2)
    state = {prefix + name: value for name, value in model.state_dict().items()}
    content = {"iter": 9, "model_state_dict": state, "optimizer_state_dict": {}}
    torch.save(content if wrapped else state, tmp_path / "m.pth")
    x = images(2, 64, 64)
    torch.testing.assert_close(load_mtl_dan(tmp_path / "m.pth")(x), model(x), rtol=0, atol=0)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    model, x = make_network(2), images(2, 64, 64)
    save_mtl_dan(tmp_path / "m.safetensors", model, {"input_size": "64"})
    assert read_metadata(tmp_path / "m.safetensors") == {"input_size": "64"}
    loaded = load_mtl_dan(tmp_path / "m.safetensors")
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert not loaded.training


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = make_network(1).state_dict()
    del state["fc3.bias"]
    state["DAN.extra"] = torch.zeros(1)
    state["fc1.weight"] = torch.zeros(7, 1024)
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(InputError) as error:
        load_mtl_dan(tmp_path / "m.pth")
    message = str(error.value)
    for part in ("fc3.bias", "1 keys unexpected: DAN.extra", "fc1.weight is [7, 1024], not [8, "):
        assert part in message


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "m.pth"
    torch.save({"model_state_dict": Trap(mark)}, file)
    with pytest.raises(InputError, match="could run code"):
        load_mtl_dan(file)
    file.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(InputError):
        load_mtl_dan(file)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["m.pth", "m.safetensors"])
@pytest.mark.parametrize("content", [b"", b"x" * 100, b"broken"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_mtl_dan(tmp_path / name)
    with pytest.raises(InputError, match="no such weight file"):
        load_mtl_dan(tmp_path / f"none-{name}")


def test_normalise_is_imagenets() -> None:
    frame = torch.full((1, 10, 14, 3), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    out = normalise(frame, 32)
    assert out.shape == (1, 3, 32, 32)
    torch.testing.assert_close(out[0, :, 5, 5], expected)


def test_a_head_keeps_the_batch() -> None:
    assert AttentionHead(WIDTH).eval()(torch.randn(2, WIDTH, 3, 2)).shape == (2, WIDTH)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_width_of_a_network_follows_from_its_file(tmp_path: Path, width: int) -> None:
    model = make_network(1, width=width)
    save_mtl_dan(tmp_path / "net.safetensors", model, {})
    loaded = load_mtl_dan(tmp_path / "net.safetensors")
    assert loaded.width == width
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(loaded(images), model(images))
    fused = fuse(loaded, outputs="both")(images)
    assert fused.shape == (2, OUTPUTS + SHARED), "the columns do not depend on the width"
    torch.testing.assert_close(fused[:, :OUTPUTS], model(images), rtol=5e-3, atol=5e-3)


def test_a_width_that_no_network_has_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be one of"):
        MTLDAN(1, width=100)
