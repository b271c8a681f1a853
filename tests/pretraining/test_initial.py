"""What a pretraining begins with: each kind of weight file lands where it belongs."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34

from harness.encoders.mtl_dan.checkpoints import save_mtl_dan
from harness.encoders.mtl_dan.network import EXPRESSIONS, over_heads
from harness.errors import InputError
from harness.pretraining.initial import AFFECTNET, initial_network
from tests.networks import Trap, make_dan, make_network


def logits(dan: nn.Module, images: Tensor, num_heads: int) -> Tensor:
    """DAN's expression logits, by its own last layers."""
    features = dan.get_submodule("features")(images)
    heads = [dan.get_submodule(f"cat_head{place}")(features) for place in range(num_heads)]
    out: Tensor = dan.get_submodule("bn")(
        dan.get_submodule("fc")(over_heads(torch.stack(heads, dim=1)))
    )
    return out


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_dan_goes_into_trunk_and_first_heads(tmp_path: Path, prefix: str) -> None:
    dan, file = make_dan(), tmp_path / "affecnet8.pth"
    state = {prefix + name: value for name, value in dan.state_dict().items()}
    torch.save({"iter": 5, "model_state_dict": state, "optimizer_state_dict": {}}, file)
    initial, plain = initial_network(file, 9, seed=0), initial_network(None, 9, seed=0)
    found, random = initial.model.DAN.state_dict(), plain.model.DAN.state_dict()
    for name, value in dan.state_dict().items():
        if name.split(".")[0] not in ("fc", "bn"):
            assert torch.equal(found[name], value), name
    for place in range(4, 9):
        name = f"cat_head{place}.sa.conv1x1.0.weight"
        assert torch.equal(found[name], random[name])
    units = (initial.model.action_unit_heads()[0], plain.model.action_unit_heads()[0])
    assert torch.equal(*(head.sa.conv1x1[0].weight for head in units))
    assert any("expression heads 0 to 3" in part for part in initial.loaded)
    assert any("expression heads 4 to 8" in part for part in initial.random)
    assert any("action-unit heads 0 to 8" in part for part in initial.random)


def test_dans_classes_are_put_into_aff_wild2s_order(tmp_path: Path, images: Tensor) -> None:
    dan, file = make_dan(), tmp_path / "affecnet8.pth"
    torch.save({"model_state_dict": dan.state_dict()}, file)
    model = initial_network(file, 4, seed=0).model.eval()
    with torch.no_grad():
        theirs, ours = logits(dan, images, 4), logits(model.DAN, images, 4)
    for place, name in enumerate(EXPRESSIONS):
        if name != "other":
            torch.testing.assert_close(ours[:, place], theirs[:, AFFECTNET.index(name)])
    # The order of the published files, by their own names.
    short = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    assert [name[:3] for name in AFFECTNET] == [name[:3] for name in short]
    untouched = initial_network(None, 4, seed=0).model.DAN
    assert torch.equal(model.DAN.fc.weight[-1], untouched.fc.weight[-1]), "contempt is not other"


@pytest.mark.parametrize("classes", [7, 8])
def test_the_classifier_of_a_dan_is_not_used(tmp_path: Path, images: Tensor, classes: int) -> None:
    """It affects no output."""
    file = tmp_path / "dan.pth"
    torch.save({"model_state_dict": make_dan(classes=classes).state_dict()}, file)
    initial = initial_network(file, 4, seed=0)
    assert {"fc.weight", "fc.bias", "bn.weight"} <= set(initial.unused)
    assert not any("fc" in part for part in (*initial.loaded, *initial.random))
    assert "not used: 7 tensors: fc.weight, fc.bias, bn.weight, ..." in initial.summary()[-1]
    model = initial.model.eval()
    with torch.inference_mode():
        before = model(images[:1])
        model.DAN.fc.weight.fill_(1e6)
        assert torch.equal(model(images[:1]), before)


@pytest.mark.parametrize("form", ["state_dict", "bare", "module.", "old"])
def test_a_trunk_goes_into_the_trunk(tmp_path: Path, images: Tensor, form: str) -> None:
    trunk, file = resnet18(weights=None).eval(), tmp_path / "resnet18_msceleb.pth"
    state = dict(trunk.state_dict())
    if form == "old":
        state = {name: value for name, value in state.items() if "num_batches" not in name}
    if form == "module.":
        state = {form + name: value for name, value in state.items()}
    torch.save(state if form == "bare" else {"epoch": 1, "state_dict": state}, file)
    initial = initial_network(file, 2, seed=0)
    with torch.no_grad():
        theirs = nn.Sequential(*list(trunk.children())[:-2])(images)
        assert torch.equal(initial.model.DAN.features.eval()(images), theirs)
    assert initial.loaded == ("trunk",)
    assert not any("trunk" in part for part in initial.random)


def test_an_mtl_dan_is_taken_whole(tmp_path: Path, images: Tensor) -> None:
    network, file = make_network(2), tmp_path / "m.safetensors"
    save_mtl_dan(file, network, {})
    initial = initial_network(file, 2, seed=0)
    assert torch.equal(initial.model.eval()(images), network(images))
    assert (initial.loaded, initial.random) == (("everything",), ())
    assert all(p.requires_grad for p in initial.model.parameters())
    with pytest.raises(InputError, match="give `heads` 2"):
        initial_network(file, 3, seed=0)


def test_a_file_of_none_of_the_kinds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    torch.save({"encoder.weight": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"expected a DAN .*ResNet18.*MTL-DAN.*encoder\.weight"):
        initial_network(file, 2, seed=0)
    torch.save(resnet34(weights=None).state_dict(), file)
    with pytest.raises(InputError, match=r"does not fit ResNet18: .* keys unexpected"):
        initial_network(file, 2, seed=0)
    state = resnet18(weights=None).state_dict()
    del state["layer1.0.conv1.weight"]
    torch.save(state, file)
    with pytest.raises(InputError, match=r"ResNet18: 1 keys missing: layer1\.0\.conv1\.weight"):
        initial_network(file, 2, seed=0)
    state = make_dan().state_dict()
    torch.save(state, file)
    with pytest.raises(InputError, match=r"a DAN of 4 heads, .* give `heads` 4 or more"):
        initial_network(file, 2, seed=0)
    del state["cat_head3.sa.conv1x1.0.weight"]
    torch.save(state, file)
    with pytest.raises(InputError, match=r"does not fit DAN: 1 keys missing: cat_head3\.sa"):
        initial_network(file, 9, seed=0)
    with pytest.raises(InputError, match="no such weight file"):
        initial_network(tmp_path / "none.pth", 2, seed=0)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "x.pth"
    torch.save({"state_dict": Trap(mark)}, file)
    with pytest.raises(InputError, match="could run code"):
        initial_network(file, 2, seed=0)
    file.write_bytes(pickle.dumps(Trap(mark), protocol=2))
    with pytest.raises(InputError, match="could run code"):
        initial_network(file, 2, seed=0)
    assert not mark.exists()


def test_random_parts_follow_from_the_seed() -> None:
    one, two, other = (initial_network(None, 1, seed).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["fc1.weight"], other["fc1.weight"])
