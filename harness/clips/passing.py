"""Which errors are of the machine at that time instead of the file."""

import errno
from pathlib import Path

from harness.clips.folder import entries

# Of a network's file system, or of a machine at its limits.
_PASSING = (errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE)
# FFmpeg gives these for damaged files, too.
_DOUBTFUL = (errno.EIO, errno.ENOMEM)


def may_pass(error: BaseException, path: Path) -> bool:
    """Whether an error in reading a file or folder, or a cause of it, may be gone later."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number in _PASSING:
            return True
        if number in _DOUBTFUL:
            of_ffmpeg = type(cause).__module__.startswith("av.")
            return not (of_ffmpeg and _is_readable(path))
        cause = cause.__cause__
    return False


def _is_readable(path: Path) -> bool:
    """Whether all bytes of a file, or of the files of a folder, can be read."""
    try:
        for file in entries(path) if path.is_dir() else [path]:
            with file.open("rb") as content:
                while content.read(1 << 20):
                    pass
    except OSError:
        return False
    return True
