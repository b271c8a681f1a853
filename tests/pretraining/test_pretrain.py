"""Pretraining: it learns, repeats, continues to the same numbers, and shares work exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from typer.testing import CliRunner

from harness.encoders.mtl_dan.checkpoints import (
    load_mtl_dan,
    read_metadata,
    save_mtl_dan,
    weights_fingerprint,
)
from harness.encoders.mtl_dan.preprocessing import normalise
from harness.encoders.registry import encoder_of
from harness.errors import InputError
from harness.pretrain import app
from harness.pretraining import training as pretraining
from harness.pretraining.annotations import AnnotatedFaces, Annotations, read_annotated_faces
from harness.pretraining.augmentation import Augmentation, augment
from harness.pretraining.config import PretrainConfig
from harness.pretraining.curves import Curves
from harness.pretraining.evaluation import evaluate
from harness.pretraining.faces import Labels, Pictures, shuffled
from harness.pretraining.initial import initial_network
from harness.pretraining.multitask import ClassWeights, LossWeights, seen
from harness.pretraining.scores import Details, Scores, details, score
from harness.pretraining.training import Epoch, Trained, loss_terms, pretrain
from tests.faces import write_faces, write_tables
from tests.networks import make_network

CPU = torch.device("cpu")
SMALL = PretrainConfig(heads=1, input_size=32, epochs=2, batch_size=16, learning_rate=1e-3)
COMMAND = ["--heads", "1", "--input-size", "32", "--batch-size", "16", "--learning-rate", "1e-3"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="session")
def faces(folder: Path) -> AnnotatedFaces:
    return read_annotated_faces(folder)


def train(
    faces: AnnotatedFaces, out: Path, config: PretrainConfig = SMALL, **options: object
) -> Trained:
    initial = initial_network(None, config.heads, config.seed)
    return pretrain(faces, initial, config, out, device=CPU, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def unbroken(faces: AnnotatedFaces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "m.safetensors"
    train(faces, out)
    return out


def same_weights(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_result_says_how_it_was_made(unbroken: Path, faces: AnnotatedFaces) -> None:
    found = read_metadata(unbroken)
    for name, value in {"heads": "1", "input_size": "32", "epochs": "2", "seed": "0"}.items():
        assert found[name] == value
    assert found["data"] == faces.fingerprint
    assert found["init"] == "random weights random"
    scores = Scores.from_dict(json.loads(found["scores"]))
    assert float(found["p_mtl"]) == pytest.approx(scores.p_mtl, abs=1e-4)
    model = load_mtl_dan(unbroken)
    pictures = Pictures(faces.val.images, 32)
    again = evaluate(model, pictures, faces.val, device=CPU)
    assert again.p_mtl == pytest.approx(scores.p_mtl, abs=1e-5)
    assert not (unbroken.parent / "m.training" / "checkpoint.pt").exists()


def test_workers_and_memory_change_no_number(
    tmp_path: Path, faces: AnnotatedFaces, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "MEMORY_LIMIT", 0)
    out = tmp_path / "m.safetensors"
    train(faces, out, workers=2)
    assert same_weights(out, unbroken)


def test_a_broken_run_continues_to_the_same_numbers(
    tmp_path: Path, faces: AnnotatedFaces, unbroken: Path
) -> None:
    out, told = tmp_path / "m.safetensors", list[str]()

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(faces, out, on_epoch=stop)
    assert not out.exists(), "what exists is complete"
    again = train(faces, out, tell=told.append)
    assert told == ["continues after epoch 1 of 2"]
    assert same_weights(out, unbroken)
    assert read_metadata(out) == read_metadata(unbroken)
    assert train(faces, out, tell=told.append) == again
    assert "is complete" in told[-1]


def test_one_cycle_rises_falls_and_continues(tmp_path: Path, faces: AnnotatedFaces) -> None:
    config, told = replace(SMALL, schedule="one-cycle", epochs=3), list[Epoch]()

    def stop(epoch: Epoch) -> None:
        told.append(epoch)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(faces, tmp_path / "m.safetensors", config, on_epoch=stop)
    train(faces, tmp_path / "m.safetensors", config, on_epoch=told.append)
    train(faces, tmp_path / "whole.safetensors", config)
    assert same_weights(tmp_path / "m.safetensors", tmp_path / "whole.safetensors")
    rates = [epoch.learning_rate for epoch in told]
    assert rates[1] == rates[2], "the second epoch again"
    assert rates[0] < rates[3] < rates[1] <= 1e-3


def test_the_best_epoch_is_kept(tmp_path: Path, faces: AnnotatedFaces) -> None:
    out, told = tmp_path / "m.safetensors", list[Epoch]()
    # Far too fast, so that the last epoch is not the best.
    config = replace(SMALL, epochs=4, learning_rate=0.03, gamma=1.0)
    trained = train(faces, out, config, on_epoch=told.append)
    best = max(told, key=lambda epoch: epoch.scores.p_mtl)
    assert (trained.epoch, trained.scores) == (best.number, best.scores)
    assert read_metadata(out)["epoch"] == str(best.number)
    kept = evaluate(load_mtl_dan(out), Pictures(faces.val.images, 32), faces.val, device=CPU)
    assert kept.p_mtl == pytest.approx(best.scores.p_mtl, abs=1e-5)


def test_files_of_another_pretraining_are_not_touched(
    tmp_path: Path, faces: AnnotatedFaces, unbroken: Path
) -> None:
    with pytest.raises(InputError, match=r"another pretraining \(seed 0, now 1\); give another"):
        train(faces, unbroken, replace(SMALL, seed=1))
    weights = LossWeights(arousal=2.0)
    with pytest.raises(InputError, match=r"loss\.arousal 1\.0, now 2\.0"):
        train(faces, unbroken, replace(SMALL, loss=weights))
    out = tmp_path / "m.safetensors"
    checkpoint = tmp_path / "m.training" / "checkpoint.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"damaged.*remove .* to start again"):
        train(faces, out)
    with pytest.raises(InputError, match=r"name ending in \.safetensors"):
        train(faces, tmp_path / "m.pth")


def test_settings_that_do_not_fit_the_data_are_refused(
    tmp_path: Path, faces: AnnotatedFaces
) -> None:
    with pytest.raises(InputError, match="`batch_size` 64: train has 48 faces"):
        train(faces, tmp_path / "m.safetensors", replace(SMALL, batch_size=64))
    with pytest.raises(InputError, match="epoch 1: the loss is not finite; lower `learning_rate`"):
        train(faces, tmp_path / "m.safetensors", replace(SMALL, learning_rate=1e30))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = read_annotated_faces(write_faces(tmp_path))
    faces.train.images[3].write_bytes(b"no image")
    if workers:
        monkeypatch.setattr(pretraining, "MEMORY_LIMIT", 0)
    with pytest.raises(InputError) as error:
        train(faces, tmp_path / "m.safetensors", workers=workers)
    assert str(error.value).startswith(f"{faces.train.images[3]}: not a readable image")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains(tmp_path: Path, faces: AnnotatedFaces, precision: str) -> None:
    told: list[Epoch] = []
    config = replace(SMALL, precision=precision, epochs=1)
    train(faces, tmp_path / "m.safetensors", config, on_epoch=told.append)
    assert all(np.isfinite(list(told[0].terms.values())))
    tensors = load_file(tmp_path / "m.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float32, torch.int64}


@pytest.mark.slow
def test_pretraining_learns(tmp_path: Path) -> None:
    faces = read_annotated_faces(write_faces(tmp_path, train=400, val=80))
    # Sides and corners carry labels here.
    unmoved = Augmentation(flip=0, crop=1, jitter=0.1, erase=0)
    config = replace(SMALL, epochs=4, schedule="one-cycle", augmentation=unmoved)
    told: list[Epoch] = []
    trained = train(faces, tmp_path / "m.safetensors", config, on_epoch=told.append)
    # The best constants: one class, every unit on, no concordance.
    valid = faces.val.expression >= 0
    constant = np.zeros((len(faces.val), 22), dtype=np.float32)
    constant[:, np.bincount(faces.val.expression[valid]).argmax()] = 1
    constant[:, 8:20] = 1
    chance = score(constant, faces.val).p_mtl
    assert trained.scores.p_mtl > chance + 0.7
    assert sum(told[-1].terms.values()) < sum(told[0].terms.values())


def test_scores_are_the_challenges() -> None:
    truth, guess = np.array([[0, 1, 1, 2], [0, 1, 2, 2]])
    outputs = np.zeros((4, 22), dtype=np.float32)
    outputs[np.arange(4), guess] = 1
    outputs[:, 8] = [0.9, 0.1, 0.5, 0.51]
    outputs[:, -2:] = [[0.0, 0.1], [0.5, 0.2], [1.0, 0.3], [-1.0, 0.4]]
    units = np.zeros((4, 12), dtype=np.float32)
    units[:, 0] = [1, 1, np.nan, 1]
    ratings = outputs[:, -2:].copy()
    ratings[3] = np.nan
    found = score(outputs, Annotations((Path(),) * 4, ratings, truth, units, (), ""))
    assert found.expression_f1[:3] == pytest.approx([1, 2 / 3, 2 / 3])
    assert found.action_unit_f1[:2] == pytest.approx([2 * 2 / (3 + 2), 0])
    assert found.concordance == pytest.approx([1, 1])
    assert found.p_mtl == pytest.approx((1 + 4 / 3) / 8 + 0.8 / 12 + 1)
    assert Scores.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert len(found.rows()) == 22


def test_augmentation_follows_from_the_seed_alone() -> None:
    picture = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    transforms = Augmentation(erase=1.0).transforms(32)
    before = torch.get_rng_state()
    one, two, other = (augment(picture, transforms, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert (one.shape, one.dtype) == (picture.shape, torch.uint8)
    assert Augmentation(flip=0, crop=1, jitter=0, erase=0).transforms(32) == ()
    mirrored = augment(picture, Augmentation(1, 1, 0, 0).transforms(32), 0)
    assert torch.equal(mirrored, picture.flip(-1))


def test_each_epoch_changes_pictures_and_order(faces: AnnotatedFaces) -> None:
    pictures = Pictures(faces.train.images, 32, Augmentation(), seed=0)

    def epoch(number: int) -> tuple[Tensor, Tensor]:
        batches = list(shuffled(pictures, number, 16, 0, CPU))
        return torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])

    (first, order), (again, same), (second, another) = epoch(1), epoch(1), epoch(2)
    assert torch.equal(first, again)
    assert torch.equal(order, same)
    assert order.sort().values.tolist() == list(range(48))
    assert not torch.equal(order, another)
    assert not torch.equal(first[order.argsort()], second[another.argsort()])


def test_curves_open_in_tensorboard_and_have_no_doubles(
    tmp_path: Path, faces: AnnotatedFaces
) -> None:
    out, told = tmp_path / "m.safetensors", list[Epoch]()
    curves = Curves(tmp_path / "m.training")

    def stop(epoch: Epoch) -> None:
        curves(epoch)
        if epoch.number == 2:
            raise KeyboardInterrupt

    config = replace(SMALL, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(faces, out, config, on_epoch=stop)
    curves.close()
    curves = Curves(tmp_path / "m.training")

    def go_on(epoch: Epoch) -> None:
        curves(epoch)
        told.append(epoch)

    train(faces, out, config, on_epoch=go_on)
    curves.close()
    events = EventAccumulator(str(tmp_path / "m.training")).Reload()
    assert [event.step for event in events.Scalars("P_MTL")] == [1, 2, 3]
    assert events.Scalars("P_MTL")[-1].value == pytest.approx(told[-1].scores.p_mtl)
    names = set(events.Tags()["scalars"])
    assert {
        "learning_rate",
        "loss/expression",
        "expression_F1/anger",
        "action_unit_F1/AU12",
    } < names
    rates = [event.value for event in events.Scalars("learning_rate")]
    assert rates == pytest.approx([1e-3, 0.55e-3, 0.55**2 * 1e-3])


def test_missing_tensorboard_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(InputError, match=r"reaction-harness\[pretrain\]"):
        Curves(tmp_path)


def test_training_on_expressions_alone(tmp_path: Path) -> None:
    """Other losses are masked, and the scores say which tasks were seen."""
    folder = write_tables(tmp_path / "faces")
    faces, told = read_annotated_faces(folder), list[Epoch]()
    config = replace(SMALL, epochs=1)
    initial = initial_network(None, 1, 0)
    before = {name: value.clone() for name, value in initial.model.state_dict().items()}
    out = tmp_path / "m.safetensors"
    trained = pretrain(faces, initial, config, out, device=CPU, on_epoch=told.append)
    after = load_file(out)
    for name in ("fc2.weight", "fc3.weight"):  # action units; valence and arousal
        assert torch.equal(after[name], before[name]), name
    assert not torch.equal(after["fc1.weight"], before["fc1.weight"])
    assert {k for k, v in told[0].terms.items() if v} <= {"expression", "expression_heads"}
    assert trained.scores.p_mtl == pytest.approx(np.mean(trained.scores.expression_f1))
    assert set(trained.scores.means()) == {"expression F1"}
    assert "P_MTL of expression F1 alone" in told[0].summary()
    assert {measure for measure, _, _ in trained.scores.rows()} == {"expression F1"}
    again = pretrain(faces, initial, config, out, device=CPU)
    assert again.details.confusion.tolist() == trained.details.confusion.tolist()
    assert again.scores.rows() == trained.scores.rows()


def test_labels_that_are_nowhere_are_not_scored() -> None:
    units = np.ones((4, 12), dtype=np.float32)
    units[:, 3] = np.nan
    ratings = np.full((4, 2), np.nan, dtype=np.float32)
    truth = Annotations((Path(),) * 4, ratings, np.array([0, 1, 1, -1]), units, (), "")
    outputs = np.ones((4, 22), dtype=np.float32)
    found, made_of = score(outputs, truth), details(outputs, truth)
    assert found.means() == {"expression F1": 0.5 / 8, "action unit F1": 1.0}
    assert "AU6" not in {label for _, label, _ in found.rows()}
    assert found.to_dict()["action_unit_f1"][3] is None
    assert made_of.confusion[:2, 0].tolist() == [1, 2]
    assert made_of.support("expression F1", "anger") == "2 of 3"
    assert made_of.support("action unit F1", "AU1") == "4 of 4"
    assert Details.from_dict(json.loads(json.dumps(made_of.to_dict()))).rated == 0


@pytest.mark.parametrize(("f1", "concordance", "collapsed"), [
    ((0.2, *(0.0,) * 7), (0.0, 0.0), True),
    ((0.2, 0.1, *(0.0,) * 6), (0.0, 0.0), False),
    ((0.2, *(0.0,) * 7), (0.2, 0.1), False),
])  # fmt: skip
def test_a_collapsed_training_is_recognised(
    f1: tuple[float, ...], concordance: tuple[float, ...], collapsed: bool
) -> None:
    assert Scores(f1, (0.5,) * 12, concordance).collapsed == collapsed


def test_action_units_alone_do_not_tell_whether_a_training_has_collapsed() -> None:
    nan = float("nan")
    assert not Scores((nan,) * 8, (0.9,) * 12, (nan,) * 2).collapsed
    assert Scores((nan,) * 8, (0.9,) * 12, (0.0, 0.0)).collapsed


def test_the_command_scores_a_file(tmp_path: Path, folder: Path, unbroken: Path) -> None:
    line = ["--data", str(folder), "--evaluate", str(unbroken), "--workers", "0"]
    done = CliRunner().invoke(app, [*line, "--json"])
    assert done.exit_code == 0, done.output
    content, stored = json.loads(done.stdout), read_metadata(unbroken)
    own = json.loads(stored["scores"])
    for name in ("expression_f1", "action_unit_f1", "concordance"):
        assert content[name] == pytest.approx(own[name], abs=1e-5)
    assert content["confusion"] == json.loads(stored["details"])["confusion"]
    shown = CliRunner().invoke(app, line).output
    for said in ("P_MTL", "AU26", "arousal", "labelled and predicted", "happiness"):
        assert said in shown
    for wrong in (["--data", str(folder)], [*line, "--out", "m.safetensors"]):
        assert CliRunner().invoke(app, wrong).exit_code == 2


def test_weights_of_the_same_content_have_one_fingerprint(
    tmp_path: Path, faces: AnnotatedFaces, unbroken: Path
) -> None:
    metadata, again = read_metadata(unbroken), tmp_path / "again.safetensors"
    for _ in range(5):  # the library writes metadata in random order
        save_mtl_dan(again, load_mtl_dan(unbroken), dict(reversed(metadata.items())))
        assert weights_fingerprint(again) == weights_fingerprint(unbroken)
    save_mtl_dan(again, load_mtl_dan(unbroken), metadata | {"input_size": "64"})
    assert weights_fingerprint(again) != weights_fingerprint(unbroken)
    changed = load_mtl_dan(unbroken)
    changed.fc1.bias[0] += 1
    save_mtl_dan(again, changed, metadata)
    assert weights_fingerprint(again) != weights_fingerprint(unbroken)


def test_the_command_prints_scores(tmp_path: Path, folder: Path) -> None:
    arguments = ["--data", str(folder), "--out", str(tmp_path / "m.safetensors"), *COMMAND]
    arguments += ["--epochs", "1", "--workers", "0"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    for said in ("train: 48 faces", "initial weights: random weights", "random: trunk", "epoch 1:",
                 "P_MTL", "anger", "AU26", "arousal", "tensorboard --logdir",
                 "Page: ", "Next: python -m harness.pretrain --data"):  # fmt: skip
        assert said in done.output
    again = CliRunner().invoke(app, [*arguments, "--json"])
    content = json.loads(again.stdout)
    assert content["epoch"] == 1
    assert len(content["expression_f1"]) == 8
    refused = CliRunner().invoke(app, [*arguments, "--precision", "int8"])
    assert refused.exit_code == 2, "wrong usage"


@pytest.mark.slow
def test_the_command_exports_what_it_trained(tmp_path: Path, folder: Path) -> None:
    out, onnx = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    line = ["--data", str(folder), *COMMAND, "--epochs", "1", "--workers", "0"]
    wrong = CliRunner().invoke(app, [*line, "--out", str(out), "--export", str(out)])
    assert "expected a name that ends with .onnx" in str(wrong.exception)
    assert not out.exists(), "nothing is trained for it"
    evaluated = CliRunner().invoke(app, [*line, "--evaluate", str(out), "--export", str(onnx)])
    assert evaluated.exit_code == 2
    done = CliRunner().invoke(app, [*line, "--out", str(out), "--export", str(onnx)])
    assert f"ONNX: {onnx}" in done.output, done.output
    trained, exported = (encoder_of(file) for file in (out, onnx))
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected, found = (encoder.load()(images) for encoder in (trained, exported))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return ["-m", "harness.pretrain", "--data", str(folder), "--out", str(out), *COMMAND, *more]


# On the CPU also where there is a GPU: two processes need two, and its sums are not repeatable.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.slow
def test_a_killed_command_continues_to_the_same_numbers(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "killed.safetensors"
    line = [sys.executable, *command(folder, out, "--epochs", "4", "--json")]
    checkpoint = tmp_path / "killed.training" / "checkpoint.pt"
    process = subprocess.Popen(line, env=ONE_THREAD, stdout=subprocess.DEVNULL)
    while not checkpoint.exists():
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    continued = subprocess.run(line, env=ONE_THREAD, capture_output=True, check=True)
    whole = tmp_path / "whole.safetensors"
    line = [sys.executable, *command(folder, whole, "--epochs", "4", "--json")]
    unbroken = subprocess.run(line, env=ONE_THREAD, capture_output=True, check=True)
    one, two = json.loads(continued.stdout), json.loads(unbroken.stdout)
    assert one | {"out": ""} == two | {"out": ""}
    assert same_weights(out, whole)


@pytest.mark.slow
def test_two_runs_at_once_share_one_result(tmp_path: Path, folder: Path) -> None:
    line = [sys.executable, *command(folder, tmp_path / "m.safetensors", "--epochs", "2", "--json")]
    both = [
        subprocess.Popen(line, env=ONE_THREAD, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    one, two = (process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert json.loads(one) == json.loads(two)


@pytest.mark.slow
def test_two_processes_score_as_one(tmp_path: Path, folder: Path, faces: AnnotatedFaces) -> None:
    out = tmp_path / "m.safetensors"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    line = [*torchrun, *command(folder, out, "--epochs", "2", "--json", "--workers", "0")]
    done = subprocess.run(line, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (said,) = [row for row in done.stdout.splitlines() if row.startswith("{")]
    alone = evaluate(load_mtl_dan(out), Pictures(faces.val.images, 32), faces.val, device=CPU)
    found = Scores.from_dict(json.loads(said))
    for (_, of, one), (_, _, two) in zip(found.rows(), alone.rows(), strict=True):
        assert one == pytest.approx(two, abs=1e-5), of


def share_of_two(rank: int, meeting: str, folder: str, out: str) -> None:
    """One of two processes: gradients of the shared loss and the scores of all faces."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    gradients, scores = gradients_and_scores(read_annotated_faces(Path(folder)), rank, 2)
    for gradient in gradients:
        dist.all_reduce(gradient)
    if rank == 0:
        torch.save({"gradients": gradients, "scores": scores.to_dict()}, out)
    dist.destroy_process_group()


def gradients_and_scores(
    faces: AnnotatedFaces, rank: int, count: int
) -> tuple[list[Tensor], Scores]:
    # Frozen norms: theirs are the one thing that processes on CPUs do not share.
    model = make_network(2).requires_grad_(True)
    pictures = Pictures(faces.train.images, 32)
    places = torch.arange(rank, 24, count)
    images = normalise(torch.stack([pictures[int(place)][0] for place in places]), 32)
    weights = ClassWeights(torch.arange(1.0, 9.0), torch.full((12,), 2.0))
    out = seen(model.branches(images))
    terms = loss_terms(out, places, Labels.of(faces.train, CPU), 2, weights)
    used = [model.fc1.weight, model.fc2.weight, model.fc3.weight, model.DAN.features[0].weight]
    gradients = list(torch.autograd.grad(terms.sum(), used))
    return gradients, evaluate(model, Pictures(faces.val.images, 32), faces.val, device=CPU)


@pytest.mark.slow
def test_two_processes_have_the_gradient_and_the_scores_of_one(
    tmp_path: Path, folder: Path, faces: AnnotatedFaces
) -> None:
    out = tmp_path / "shared.pt"
    mp.spawn(share_of_two, (str(tmp_path / "meeting"), str(folder), str(out)), nprocs=2)
    shared = torch.load(out, weights_only=True)
    gradients, scores = gradients_and_scores(faces, 0, 1)
    for one, two in zip(gradients, shared["gradients"], strict=True):
        assert (one - two).norm() < 1e-3 * one.norm()
    for ours, theirs in zip(scores.rows(), Scores.from_dict(shared["scores"]).rows(), strict=True):
        assert ours[2] == pytest.approx(theirs[2], abs=1e-5)
