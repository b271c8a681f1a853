"""`data_info.csv`: the labels of Hume-Reaction as they are released."""

from os import PathLike

from harness.clips.csv_file import read_csv
from harness.clips.labels import Labels, labels_of
from harness.clips.table import EMOTIONS


def read_data_info(file: str | PathLike[str]) -> Labels:
    """Ids, splits and the seven emotions, found by name in any order; raw ratings are scaled."""
    return labels_of(
        file,
        read_csv(file),
        id_column="File_ID",
        split_column="Split",
        target_names=EMOTIONS,
        raw_ratings=True,
    )
