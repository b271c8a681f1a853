"""Which face detector, and at what size? `python -m tests.benchmarks.faces`

Photographs of scikit-image, spoiled as webcams do: distance, tilt, light, blur, a covered mouth;
100 small faces and 100 pictures of none from the LFW subset; photographs without people. A face
counts as found where the box overlaps the drawn one by more than 0.3 of their union. dlib's HOG
takes part where dlib-bin is installed; it is not needed by anything else.

Measured (2 cores of an AMD EPYC, one thread a detector):

    detector          webcam of 22   LFW of 100   false of 117     ms a frame
    CenterFace, 320             22          100              0            7.3
    CenterFace, 224             22          100              0            3.4
    CenterFace, 160             21           99              0            2.3
    dlib HOG, 640               16           92              0           18.5
    dlib HOG, 320               14           93              0            6.2

So CenterFace at 224: as good as at 320 for half the time. dlib loses every face that is tilted
by 45 degrees, half covered, overexposed or strongly blurred.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from rich.console import Console
from rich.table import Table
from skimage import data
from torchvision.ops import box_iou

from harness.clips import faces
from tests.photographs import person

Picture = NDArray[np.uint8]
#: A picture -> the boxes of its faces (k, 4).
Found = Callable[[Picture], NDArray[np.float32]]
HEIGHT = 480


def webcams() -> Iterator[tuple[Picture, NDArray[np.float32]]]:
    """22 pictures of one person and the box of her face in each."""
    for share in (0.7, 0.5, 0.35, 0.25, 0.18, 0.15):
        yield person(HEIGHT, share)
    for tilt in (-45, -30, -15, 15, 30, 45, 90):
        yield person(HEIGHT, 0.4, tilt=tilt)
    picture, face = person(HEIGHT, 0.4)
    image = Image.fromarray(picture)
    for light in (0.08, 0.2, 0.5, 1.6, 2.5):
        yield np.array(ImageEnhance.Brightness(image).enhance(light)), face
    for radius in (3, 6, 10):
        yield np.array(image.filter(ImageFilter.GaussianBlur(radius))), face
    left, top, right, bottom = face.astype(int).tolist()
    picture[(top + bottom) // 2 : bottom + 20, left:right] = (40, 60, 160)
    yield picture, face


def small_pictures(rows: slice) -> Iterator[Picture]:
    """Of the LFW subset, 25 pixels a side, enlarged before a grey wall."""
    for values in data.lfw_subset()[rows]:
        image = Image.fromarray((values * 255).astype(np.uint8)).convert("RGB")
        picture = np.full((HEIGHT, 640, 3), 128, np.uint8)
        picture[140:340, 220:420] = np.asarray(image.resize((200, 200), Image.Resampling.BICUBIC))
        yield picture


def without_people() -> Iterator[Picture]:
    """Photographs that show nobody."""
    names = ["chelsea", "coffee", "rocket", "coins", "page", "text", "brick", "grass", "gravel",
             "clock", "hubble_deep_field", "immunohistochemistry", "moon", "retina", "cell",
             "colorwheel", "logo"]  # fmt: skip
    for name in names:
        picture = np.asarray(getattr(data, name)())
        picture = np.stack([picture] * 3, -1) if picture.ndim == 2 else picture[..., :3]
        yield np.ascontiguousarray(picture, dtype=np.uint8)


def detectors() -> dict[str, Found]:
    """What is compared."""
    found: dict[str, Found] = {}
    for side in (320, 224, 160):
        faces.DETECTION_SIDE = side
        found[f"CenterFace, {side}"] = at_side(faces.load_detector(), side)
    if importlib.util.find_spec("dlib"):
        hog = importlib.import_module("dlib").get_frontal_face_detector()
        for side in (640, 320):
            found[f"dlib HOG, {side}"] = dlib_at(hog, side)
    return found


def at_side(detector: Found, side: int) -> Found:
    """The harness's detector, with its size set before each call."""

    def detect(picture: Picture) -> NDArray[np.float32]:
        faces.DETECTION_SIDE = side
        return detector(picture)

    return detect


def dlib_at(hog: Callable[..., list[object]], side: int) -> Found:
    """dlib's detector on a copy whose longer side is `side`."""

    def detect(picture: Picture) -> NDArray[np.float32]:
        scale = side / max(picture.shape[:2])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
        boxes = [[b.left(), b.top(), b.right(), b.bottom()] for b in hog(small, 0)]  # type: ignore[attr-defined]
        return np.array(boxes, np.float32).reshape(-1, 4) / np.float32(scale)

    return detect


def hits(detect: Found) -> int:
    """Webcam pictures whose face is found."""
    count = 0
    for picture, face in webcams():
        overlaps = box_iou(torch.from_numpy(detect(picture)), torch.from_numpy(face[None]))
        count += bool(len(overlaps)) and float(overlaps.max()) > 0.3
    return count


def milliseconds(detect: Found) -> float:
    """The median time of a webcam picture."""
    picture, _ = person(HEIGHT, 0.4)
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        detect(picture)
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) * 1e3


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    nothing = [*without_people(), *small_pictures(slice(100, 200))]
    table = Table(
        "detector", "webcam of 22", "LFW of 100", f"false of {len(nothing)}", "ms a frame"
    )
    for name, detect in detectors().items():
        lfw = sum(len(detect(picture)) > 0 for picture in small_pictures(slice(0, 100)))
        false = sum(len(detect(picture)) > 0 for picture in nothing)
        table.add_row(name, str(hits(detect)), str(lfw), str(false), f"{milliseconds(detect):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
