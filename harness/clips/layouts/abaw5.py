"""The layout `abaw5`: Hume-Reaction as ABAW 5 releases it."""

from pathlib import Path

from harness.clips.folder import VIDEO_SUFFIXES
from harness.clips.layouts.data_info import read_data_info
from harness.clips.layouts.files import join_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.table import SPLITS, ClipTable


def _recognise(folder: Path) -> bool:
    return (folder / "data_info.csv").is_file()


def _read(folder: Path, options: LayoutOptions) -> ClipTable:
    labels = read_data_info(folder / "data_info.csv")
    videos = {split: folder / split / "mp4" for split in SPLITS}
    sounds = [folder / split / "wav" for split in SPLITS]
    return join_files(folder, labels, videos, "video", VIDEO_SUFFIXES, sounds=sounds)


ABAW5 = Layout(
    name="abaw5",
    description="the release of Hume-Reaction for ABAW 5: labels and videos",
    form=("data_info.csv", "{train,val,test}/mp4/<id>.mp4"),
    sign="data_info.csv",
    origin="ABAW5",
    recognise=_recognise,
    read=_read,
)
