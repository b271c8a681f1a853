"""Two data folders that say the same in two ways give equal features."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from harness.clips.layouts import read_clips
from harness.dataset import Specification, Stream
from harness.pretraining.annotations import read_annotated_faces
from harness.pretraining.faces import Pictures
from harness.sampling import EVERY
from harness.streams.extraction import Extractor, extract, sources
from harness.streams.store import FeatureStore
from tests.commands import command
from tests.faces import write_faces
from tests.networks import save_tiny, small
from tests.pictures import pattern, save_16_bit, save_turned
from tests.trees import plain_tree
from tests.videos import make_streams, repacked, set_matrix, write_lossless

FRAMES = 5
Pixels = NDArray[np.uint8]


def grey(k: int) -> Pixels:
    """Image k of every folder of images: grey, so that all forms can hold it."""
    return np.repeat(pattern(32, 40, k)[:, :, :1], 3, axis=2)


def by_name(names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for k, name in enumerate(names.split()):
            Image.fromarray(grey(k)).save(folder / name, **_lossless(name))

    return write


def _lossless(name: str) -> dict[str, bool]:
    return {"lossless": True} if name.endswith("webp") else {}


def turned(orientation: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for k in range(FRAMES):
            save_turned(folder / f"{k}.png", grey(k), orientation)

    return write


def with_junk(folder: Path) -> None:
    by_name("0.png 1.png 2.png 3.png 4.png")(folder)
    for name in ("._0.png", "._1.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\26\7 not a picture")


def in_16_bits(folder: Path) -> None:
    for k in range(FRAMES):
        save_16_bit(folder / f"{k}.png", grey(k)[:, :, 0].astype(np.uint16) * 257)


def opaque(folder: Path) -> None:
    for k in range(FRAMES):
        Image.fromarray(grey(k)).convert("RGBA").save(folder / f"{k}.png")


def with_palette(folder: Path) -> None:
    for k in range(FRAMES):
        image = Image.fromarray(grey(k)[:, :, 0], "P")
        image.putpalette([value for value in range(256) for _ in range(3)])
        image.save(folder / f"{k}.png")


IMAGES: dict[str, Callable[[Path], None]] = {
    "plain": by_name("0.png 1.png 2.png 3.png 4.png"),
    **{f"exif{orientation}": turned(orientation) for orientation in range(2, 9)},
    "seconds": by_name("0.png 0.25.png 0.5.png 0.75.png 1.png"),
    "unpadded": by_name("f8.png f9.png f10.png f11.png f100.png"),
    "many-formats": by_name("0.png 1.bmp 2.webp 3.tif 4.PNG"),
    "junk": with_junk,
    "sixteen-bits": in_16_bits,
    "opaque": opaque,
    "palette": with_palette,
}

# What a display matrix does to the stored picture; the stored one that is shown as `shown`.
MATRICES: dict[str, tuple[tuple[float, float, float, float], Callable[[Pixels], Pixels]]] = {
    "plain": ((1, 0, 0, 1), lambda shown: shown),
    "hflip": ((-1, 0, 0, 1), lambda shown: shown[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda shown: shown[::-1]),
    "rot180": ((-1, 0, 0, -1), lambda shown: shown[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda shown: np.rot90(shown)),
    "counterclockwise": ((0, -1, 1, 0), lambda shown: np.rot90(shown, -1)),
    "transpose": ((0, 1, 1, 0), lambda shown: shown.transpose(1, 0, 2)),
    "transverse": ((0, -1, -1, 0), lambda shown: np.rot90(shown, 2).transpose(1, 0, 2)),
}


# Films by name: the container and the matrix. AVI and MPEG-TS hold no matrix.
FILMS = {
    **{name: ("mp4", name) for name in MATRICES},
    **{f"{name}-{form}": (form, name) for form in ("mov", "mkv") for name in MATRICES},
}


def write_images(root: Path) -> None:
    for name, write in IMAGES.items():
        (root / "frames" / name).mkdir(parents=True)
        write(root / "frames" / name)


def write_films(root: Path) -> None:
    (root / "clips").mkdir(parents=True)
    for name, (form, turn) in FILMS.items():
        matrix, stored = MATRICES[turn]
        frames = [np.ascontiguousarray(stored(pattern(32, 48, k))) for k in range(FRAMES)]
        film = set_matrix(write_lossless(root / "clips" / f"{name}.mp4", frames), matrix)
        if form != "mp4":
            repacked(film, form)
            film.unlink()


class Pixelwise(nn.Module):
    """A network whose output is its input, so that equal features mean equal pictures."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stream]:
    """The features of both kinds of clips, by kind."""
    home = tmp_path_factory.mktemp("twins")
    features = {}
    for kind, write, names in (
        ("images", write_images, list(IMAGES)),
        ("video", write_films, list(FILMS)),
    ):
        write(home / kind)
        rows = [f"{name},{'val' if k == 1 else 'train'},0.{k % 10}" for k, name in enumerate(names)]
        (home / kind / "clips.csv").write_text("\n".join(["clip_id,split,joy", *rows]) + "\n")
        clips = read_clips(home / kind)
        store = FeatureStore(home / f"{kind}-store", Specification("pixels", {}, (), 3 * 32 * 32))
        extractor = Extractor([small(Pixelwise(), size=32)], torch.device("cpu"))
        extract(clips, lambda extractor=extractor: extractor, [store], [EVERY])
        keys = list(zip(clips.clip_ids, sources(clips), strict=True))
        assert store.problems(keys) == {}
        features[kind] = store.load(keys, EVERY)
    return features


def rows_of(found: Stream, row: int) -> NDArray[np.float32]:
    return found.values[found.offsets[row] : found.offsets[row + 1]]


@pytest.mark.parametrize("name", list(IMAGES)[1:])
def test_images_that_say_the_same_give_equal_features(found: dict[str, Stream], name: str) -> None:
    plain, other = (rows_of(found["images"], list(IMAGES).index(n)) for n in ("plain", name))
    assert len(plain) == FRAMES
    np.testing.assert_array_equal(other, plain)


@pytest.mark.parametrize("name", list(FILMS)[1:])
def test_films_that_say_the_same_give_equal_features(found: dict[str, Stream], name: str) -> None:
    plain, other = (rows_of(found["video"], list(FILMS).index(n)) for n in ("plain", name))
    assert len(plain) == FRAMES
    np.testing.assert_array_equal(other, plain)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_annotated_faces_are_upright_for_pretraining(tmp_path: Path, orientation: int) -> None:
    """The same pixels, stored turned; both ways that a training holds them."""
    faces = read_annotated_faces(write_faces(tmp_path, 16, 8))
    upright = Pictures(faces.train.images, 32)
    upright.hold()
    for file in faces.train.images:
        pixels = np.asarray(Image.open(file))
        # A PNG's content under the same name: no loss, and the content decides.
        save_turned(file.with_suffix(".png"), pixels, orientation).rename(file)
    read = Pictures(faces.train.images, 32)
    held = Pictures(faces.train.images, 32)
    held.hold()
    for place in range(len(upright)):
        expected = upright[place][0]
        assert torch.equal(read[place][0], expected)
        assert torch.equal(held[place][0], expected)


@pytest.mark.slow
def test_the_command_reports_what_it_chose_and_left_out(tmp_path: Path) -> None:
    """Lines on the terminal, for films and for images, and the same in the csv of clip issues."""
    films, images = tmp_path / "films", tmp_path / "images"
    write_films(films)
    write_images(images)
    for root, names in ((films, list(FILMS)), (images, list(IMAGES))):
        rows = [f"{name},{'val' if k == 1 else 'train'},0.{k % 10}" for k, name in enumerate(names)]
        (root / "clips.csv").write_text("\n".join(["clip_id,split,joy", *rows]) + "\n")
    make_streams(films / "clips" / "plain.mp4", [(48, 32), (96, 64)], 1)
    (films / "clips" / "more").mkdir()
    (films / "clips" / "notes.txt").touch()
    (images / "frames" / "plain" / "9.gif").write_bytes(b"GIF89a")
    (images / "frames" / "seconds" / "cover.jpg").touch()
    weights = save_tiny(tmp_path / "net.safetensors")
    expected = {
        films: (
            "1 files are not read: notes.txt",
            "1 subfolders are not read: more",
            "1 clips have problems: plain (",
            "holds 2 video streams; stream 1 (96 x 64 pixels) is read",
        ),
        images: (
            "2 clips have problems: plain (",
            "1 files are not read: 9.gif",
            "the image names have 2 forms (0.png, cover.jpg)",
        ),
    }
    for root, lines in expected.items():
        given = ["--data", root, "--weights", weights, "--crop", "none", "--stride", 1]
        done = command("extract", *given, "--results", tmp_path / "results")
        assert done.returncode == 0, done.stderr
        for line in lines:
            assert line in done.stdout
        listed = (tmp_path / "results" / ".cache" / f"{root.name}-gaps.csv").read_text()
        assert "plain," in listed
        assert command("extract", *given, "--strict", "--results", tmp_path).returncode == 1


SPACE = """
[budget]
trials = 1
epochs = 2
[fixed]
hidden = 8
head_width = 8
stride = 1
[parameters.lr]
type = "float"
low = 0.01
high = 0.05
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ensemble on images, beside the network and the data; do not change it."""
    home = tmp_path_factory.mktemp("built")
    (home / "data").mkdir()
    weights = save_tiny(home / "net.safetensors")
    (home / "space.toml").write_text(SPACE)
    base = ["--results", home / "results", "--study", "s"]
    given = ["--data", plain_tree(home / "data", "frames"), "--weights", weights, "--crop", "none"]
    done = command("search", *given, "--space", home / "space.toml", *base)
    assert done.returncode == 0, done.stderr
    assert command("ensemble", "--top", 1, *base).returncode == 0
    return home / "results" / "s" / "ensembles" / "mean-top1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "names"), [(write_images, list(IMAGES)), (write_films, list(FILMS))]
)
def test_twins_give_equal_predictions_through_the_command(
    built: Path, tmp_path: Path, write: Callable[[Path], None], names: list[str]
) -> None:
    """A folder whose clips say the same in different ways."""
    write(tmp_path)
    rows = [f"{name},test,0.5" for name in names]
    (tmp_path / "clips.csv").write_text("\n".join(["clip_id,split,joy", *rows]) + "\n")
    home = built.parents[3]
    line = ["--ensemble", built, "--data", tmp_path, "--weights", home / "net.safetensors"]
    done = command("predict", *line, "--out", tmp_path / "p.csv", "--results", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert "clips have problems" not in done.stdout
    found = pd.read_csv(tmp_path / "p.csv", index_col="File_ID")
    assert len(found) == len(names)
    expected = found.loc[names[0]].to_numpy()
    # Batches are filled across clips; their sums differ by rounding.
    np.testing.assert_allclose(found, np.tile(expected, (len(names), 1)), atol=2e-5)
    stored = pd.read_csv(built / "predictions.csv", index_col="File_ID")
    assert abs(stored - expected).to_numpy().max() > 1e-3, "other clips have other predictions"


@pytest.mark.slow
def test_a_study_continues_with_copies_and_names_what_has_changed(
    built: Path, tmp_path: Path
) -> None:
    home = built.parents[3]
    results = shutil.copytree(home / "results", tmp_path / "results")
    data = shutil.copytree(home / "data", tmp_path / "data", copy_function=shutil.copyfile)
    base = ["--results", results, "--study", "s", "--space", home / "space.toml"]
    base += ["--data", data, "--weights", home / "net.safetensors", "--crop", "none"]
    done = command("search", *base)
    assert done.returncode == 0, done.stderr
    assert "Features: 0 clips computed (0 frames), 20 were stored" in done.stdout
    assert "The study is complete: 1 trials" in done.stdout
    shutil.copy(data / "frames" / "c3" / "1.png", data / "frames" / "c4" / "1.png")
    (data / "frames" / "c9").rename(data / "frames" / "c90")
    labels = (data / "clips.csv").read_text()
    (data / "clips.csv").write_text(labels.replace("c9,", "c90,"))
    done = command("search", *base)
    assert done.returncode == 1
    for change in ("1 clip renamed: c9 is now c90", "1 clip with other contents: c4"):
        assert change in done.stderr


def by_column(root: Path, names: list[str], kind: str) -> Path:
    """The clips of `plain_tree` with noise of other levels in each column, in the order of names;
    beside it, in csv files, a column `Zeit` if it is among the names."""
    root.mkdir()
    plain_tree(root, "features")
    for number, old in enumerate(sorted((root / "features").iterdir())):
        values = np.random.default_rng(number).normal((0, 5, 10), 1, (4, 3))
        table = pd.DataFrame(values, columns=["a", "b", "c"])
        table["Zeit"] = np.arange(4) / 25
        old.unlink()
        if kind == "npy":
            np.save(old, table[names].to_numpy())
        else:
            table[names].to_csv(old.with_suffix(".csv"), index=False)
    return root


@pytest.mark.slow
def test_columns_are_read_by_name_through_the_commands(tmp_path: Path) -> None:
    """`predict` leaves out what the study did; permuted columns without names are reported."""
    (tmp_path / "space.toml").write_text(SPACE)
    data, ensembles, printed = {}, {}, {}
    for kind, names in (("csv", ["Zeit", "a", "b", "c"]), ("npy", ["a", "b", "c"])):
        data[kind] = by_column(tmp_path / kind, names, kind)
        base = ["--results", tmp_path / "r", "--study", kind]
        space = ["--space", tmp_path / "space.toml"]
        done = command("search", *base, "--data", data[kind], *space)
        assert done.returncode == 0, done.stderr
        printed[kind] = done.stdout
        assert command("ensemble", *base, "--top", 1).returncode == 0
        ensembles[kind] = tmp_path / "r" / kind / "ensembles" / "mean-top1"
    assert "columns that are not used as features: Zeit (rises in every row of" in printed["csv"]
    assert "Zeit: rises in every row of every clip, as a counter or a time does" in printed["csv"]

    def predicted(kind: str, names: list[str]) -> tuple[str, str]:
        folder = data[kind] if names == [] else by_column(tmp_path / "".join(names), names, kind)
        out = folder / "p.csv"
        line = ["--ensemble", ensembles[kind], "--data", folder, "--out", out]
        done = command("predict", *line, "--results", tmp_path / "r")
        assert done.returncode == 0, done.stderr
        shutil.rmtree(folder / "features")
        return out.read_text(), done.stdout + done.stderr

    (plain, said), *others = [
        predicted("csv", names.split()) for names in ("", "Zeit c a b", "c b a", "c Zeit b a")
    ]
    assert "Zeit" in said
    assert [text for text, _ in others] == [plain] * 3
    assert "permuted?" not in predicted("npy", [])[1]
    assert "are the columns of these files permuted?" in predicted("npy", ["b", "c", "a"])[1]
