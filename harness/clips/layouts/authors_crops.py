"""The layout `authors-crops`: Hume-Reaction as cropped by the authors of the method."""

from pathlib import Path

from harness.clips.layouts.data_info import read_data_info
from harness.clips.layouts.files import join_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.table import SPLITS, ClipTable


def _recognise(folder: Path) -> bool:
    return (folder / "Crop_data").is_dir()


def _read(folder: Path, options: LayoutOptions) -> ClipTable:
    labels = read_data_info(folder / "Data" / "data_info.csv")
    faces = {split: folder / "Crop_data" / split for split in SPLITS}
    return join_files(folder, labels, faces, "images", None)


AUTHORS_CROPS = Layout(
    name="authors-crops",
    description="the authors' crops of Hume-Reaction: a folder of face images a clip",
    form=("Data/data_info.csv", "Crop_data/{train,val,test}/<id>/"),
    sign="Crop_data",
    origin="the authors'",
    recognise=_recognise,
    read=_read,
)
