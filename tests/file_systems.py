"""A library to preload, which plays file systems without locks, links or flushes of folders."""

import shutil
import subprocess
from pathlib import Path

#: Variables of the environment, each of which takes one ability away.
LACKS = ("NO_FLOCK", "NO_SYMLINK", "NO_FOLDER_FSYNC", "NO_FSYNC")
_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
static int lacks(const char *what, int error) {
    if (!getenv(what)) return 0;
    errno = error;
    return 1;
}
int flock(int fd, int operation) {
    if (lacks("NO_FLOCK", ENOSYS)) return -1;
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, operation);
}
int symlink(const char *target, const char *path) {
    if (lacks("NO_SYMLINK", EPERM)) return -1;
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "symlink"))(target, path);
}
int fsync(int fd) {
    struct stat found;
    if (!fstat(fd, &found) && S_ISDIR(found.st_mode) && lacks("NO_FOLDER_FSYNC", EINVAL)) return -1;
    if (!fstat(fd, &found) && S_ISREG(found.st_mode) && lacks("NO_FSYNC", EIO)) return -1;
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""


def compiled(folder: Path) -> Path | None:
    """The library, in an existing folder; None: there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(_SOURCE)
    line = [compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(list(map(str, line)), check=True)
    return library
