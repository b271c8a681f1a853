"""The entries of a folder that count as data, and which of them are films or sounds."""

from collections.abc import Sequence
from pathlib import Path

from harness.clips.table import some

#: Suffixes of films, in lower case. Of two films with one name, the earlier suffix is read.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2"),  # phones
    *(".mkv", ".webm", ".ogv"),  # browsers
    *(".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".vob", ".dv", ".mxf"),  # cameras
    *(".avi", ".wmv", ".asf", ".flv"),
)
#: Suffixes of sound files, in lower case. Of two files with one name, the earlier suffix is read.
SOUND_SUFFIXES = (
    *(".wav", ".flac", ".aif", ".aiff", ".caf"),
    *(".m4a", ".mka", ".ogg", ".oga", ".opus", ".mp3", ".aac", ".wma"),
)
#: A file in the folder of a feature set that lists the columns that are features, one a line.
COLUMN_LIST = "columns.txt"
# In lower case: what Windows, macOS and network storage put into folders of media.
_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir")


def entries(folder: Path) -> list[Path]:
    """Files and subfolders in order of their names.

    Names that begin with a dot (such as AppleDouble's `._clip.mp4`) and files of operating systems
    are left out, and so is COLUMN_LIST, which has a reader of its own.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in (*_SYSTEM, COLUMN_LIST)
    )


def unread(paths: Sequence[Path], suffixes: Sequence[str]) -> list[str]:
    """Lines that count and name entries which are not read; none if there are none.

    Args:
        suffixes: of the files that are read.
    """
    files = [path.name for path in paths if not path.is_dir()]
    folders = [path.name for path in paths if path.is_dir()]
    lines = []
    if files:
        lines.append(f"{len(files)} files are not read: {some(files)} (read: {' '.join(suffixes)})")
    if folders:
        lines.append(f"{len(folders)} subfolders are not read: {some(folders)}")
    return lines
