"""One folder of images in, its sampled RGB frames out. The images are faces cropped before."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.clips.folder import entries, unread
from harness.clips.passing import may_pass
from harness.errors import InputError, printable
from harness.pictures import IMAGE_SUFFIXES, read_picture
from harness.sampling import Sampler, Samplers, Sampling

# A number, also in scientific notation, or numbers that dots or commas join.
_NUMBER = re.compile(r"([0-9]+(?:[.,][0-9]+)*(?:e[-+][0-9]{1,3}(?![0-9]))?)")
# Words before the number of a face: frame_det_00_000001 (OpenFace), 12_face_1, person1_frame12.
_FACE = re.compile(r"(det|face|faceid|person|track|subject)[ _.#-]*$")
_EXAMPLES = 3
# More people are seldom in a clip. Minutes and seconds have fewer values than this.
_MOST_FACES, _MINUTE = 4, 60

#: The texts between the numbers of a name, and the numbers.
_Name = tuple[tuple[str, ...], tuple[Decimal, ...]]


def image_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder in order of the numbers in their names, and what is doubtful.

    Numbers may be decimal: 0.25.jpg comes before 0.5.jpg, and 9.jpg before 10.jpg. Where names
    have a number of the face, as those of OpenFace (frame_det_01_000007.bmp), frames are in order,
    and of several faces in a frame the one with the most images is kept, of equal ones the first.

    Returns:
        the files, and a line for each of these problems: entries that are not read, images of
        several faces, names of several forms, several names with one number.
    """
    found = entries(folder)
    files = [path for path in found if _is_image(path)]
    names = _parsed([path.stem for path in files])
    problems = unread([path for path in found if not _is_image(path)], IMAGE_SUFFIXES)
    faces = _faces(names)
    if faces:
        names = [
            (texts, numbers[: faces.place] + numbers[faces.place + 1 :]) for texts, numbers in names
        ]
        if len(set(names)) < len(names):  # a frame shows several
            kept = [place for place, face in enumerate(faces.numbers) if face == faces.main]
            problems.append(
                f"images of {len(set(faces.numbers))} faces; the {len(kept)} of face {faces.main} "
                f"are read, {len(files) - len(kept)} of others are not"
            )
            files, names = [files[place] for place in kept], [names[place] for place in kept]
    order = sorted(range(len(files)), key=lambda place: (_key(names[place]), files[place].name))
    files, names = [files[place] for place in order], [names[place] for place in order]
    return files, problems + _doubts(files, names)


def sampled_images(
    folder: Path, strides: Sequence[int], skip: frozenset[int] = frozenset()
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yields (index, picture) as `timed_images` for every image whose place is a multiple of a
    stride and not in `skip`."""
    sampler = Sampler(map(Sampling, strides), skip)
    return ((index, picture) for index, _, picture in timed_images(folder, sampler))


def timed_images(
    folder: Path, sampler: Sampler | Samplers
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yields (index, second, picture) for every image that is to be read.

    Args and yields as `harness.clips.video.timed_frames`; strides count images. Names with a
    decimal number state its time in seconds, as 0.25.jpg does; other times are not known.

    Raises:
        InputError: the folder is missing or holds no image. After the last picture: some images
            cannot be read, which costs no other, or `image_files` found problems.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    files, problems = image_files(folder)
    if not files:
        nothing = f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)})"
        raise InputError("; ".join([nothing, *problems]))
    failed: list[InputError] = []
    for index, (file, second) in enumerate(zip(files, image_times(files), strict=True)):
        if not sampler.reads(index, second):
            continue
        try:
            picture = read_picture(file)
        except InputError as error:
            failed.append(error)
            continue
        yield index, second, picture
    lines = [str(error) for error in failed[:1]]
    if len(failed) > 1:
        lines.append(f"{folder}: {len(failed) - 1} more images cannot be read")
    lines += [f"{folder}: {problem}" for problem in problems]
    if lines:
        raise InputError("; ".join(lines)) from next(
            (error for error in failed if may_pass(error, folder)), None
        )


def image_times(files: Sequence[Path]) -> list[float]:
    """The times that the names of images state, which are in order; NaN where they state none.

    Whole numbers count frames. Names have one form, with one number that differs.
    """
    names = _parsed([file.stem for file in files])
    times = [float(numbers[0]) for _, numbers in names if len(numbers) == 1]
    stated = (
        len(times) == len(set(times)) == len(files)
        and len({texts for texts, _ in names}) == 1
        and not all(time.is_integer() for time in times)
    )
    return times if stated else [nan] * len(files)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _parsed(stems: Sequence[str]) -> list[_Name]:
    """Splits names into texts and numbers.

    A dot or comma within a number is a decimal point, unless the digits behind it show that it
    separates two integers, as in 1.9 and 1.10.
    """
    parts = [_NUMBER.split(stem.casefold()) for stem in stems]
    runs = [run for name in parts for run in name[1::2]]
    behind = [run.partition("e")[0].replace(",", ".").split(".") for run in runs]
    # Written decimals have equally many digits, or no zero at the end.
    digits = [run[1] for run in behind if len(run) == 2]
    decimal = len({len(d) for d in digits}) < 2 or not any(
        len(d) > 1 and d.endswith("0") for d in digits
    )
    return [
        (tuple(name[::2]), tuple(n for run in name[1::2] for n in _numbers(run, decimal)))
        for name in parts
    ]


def _numbers(run: str, decimal: bool) -> list[Decimal]:
    parts = run.replace(",", ".").split(".")
    if len(parts) < 3 and (decimal or len(parts) == 1):
        return [Decimal(".".join(parts))]
    return [Decimal(part) for part in parts]


@dataclass(frozen=True)
class _Faces:
    """The numbers of faces in the names of images: the place among the numbers of a name, the face
    of each image, and the one with the most images."""

    place: int
    numbers: tuple[Decimal, ...]
    main: Decimal


def _faces(names: Sequence[_Name]) -> _Faces | None:
    """The number that stands behind a word for faces, where names also have a number of the frame;
    None if there is none, or only one face.

    A number with as many values as there are frames counts frames, as in face_0001.jpg.
    """
    forms = {(texts, len(numbers)) for texts, numbers in names}
    if len(forms) != 1 or len(names[0][1]) < 2:
        return None
    for place, text in enumerate(names[0][0][:-1]):
        faces = tuple(numbers[place] for _, numbers in names)
        frames = {numbers[:place] + numbers[place + 1 :] for _, numbers in names}
        if _FACE.search(text) and 1 < len(set(faces)) < len(frames):
            main = min(set(faces), key=lambda face: (-faces.count(face), face))
            return _Faces(place, faces, main)
    return None


def _key(name: _Name) -> list[tuple[str, Decimal]]:
    texts, numbers = name
    # Texts first: names of one form stay together.
    return [(text, Decimal(0)) for text in texts] + [("", number) for number in numbers]


def _doubts(files: Sequence[Path], names: Sequence[_Name]) -> list[str]:
    """What makes the order doubtful. Files and names are in order."""
    doubts = []
    forms: dict[object, str] = {}
    for file, (texts, numbers) in zip(files, names, strict=True):
        # Names without any number are of one form.
        forms.setdefault((texts, len(numbers)) if numbers else None, file.name)
    if len(forms) > 1:
        examples = ", ".join(map(printable, itertools.islice(forms.values(), _EXAMPLES)))
        doubts.append(
            f"the image names have {len(forms)} forms ({examples}); each form is ordered by "
            "itself, rename the images if that is wrong"
        )
    pairs = itertools.pairwise(zip(files, names, strict=True))
    doubts += _doubtful_numbers(files, names)
    twins = [(a, b) for (a, one), (b, other) in pairs if one == other and one[1]]
    if twins:
        a, b = (printable(file.name) for file in twins[0])
        doubts.append(
            f"{len(twins)} images have the number of the one before ({a} and {b}); "
            "both are read, remove one if they are the same frame"
        )
    return doubts


def _doubtful_numbers(files: Sequence[Path], names: Sequence[_Name]) -> list[str]:
    """A line if one of two numbers may be that of the face: it has few values, each in several
    frames. Minutes and seconds, which are below 60, are no such numbers."""
    if len({(texts, len(numbers)) for texts, numbers in names}) != 1:
        return []
    columns = [set(values) for values in zip(*(numbers for _, numbers in names), strict=True)]
    varying = [values for values in columns if len(values) > 1]
    if len(varying) != 2 or len(files) <= max(map(len, varying)):
        return []
    first, last = varying
    few_first = len(first) <= _MOST_FACES and max(last) >= _MINUTE
    if not few_first and len(last) > _MOST_FACES:
        return []
    return [
        f"two numbers vary in the image names ({printable(files[0].name)} to "
        f"{printable(files[-1].name)}); if one is that of the face, keep the images of one face"
    ]
