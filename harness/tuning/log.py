"""The log file of a search."""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import optuna

#: Loggers with handlers of their own, which write to the terminal.
_LOUD = ("ray", "ray.tune", "ray.data", "optuna")
_PACKAGES = ("torch", "optuna", "ray", "numpy", "pyarrow", "sqlalchemy")


@contextmanager
def logged(folder: Path, secrets: tuple[str, ...] = ()) -> Iterator[Path]:
    """Sends the log records of this process to a new file in `folder` alone.

    Args:
        secrets: texts, such as the URL of a database, that are replaced by ***.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"{now}-{os.getpid()}.log"
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(_Blotting(secrets))
    optuna.logging.disable_default_handler()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    root = logging.getLogger()
    loud = [logging.getLogger(name) for name in _LOUD]
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for logger in loud:
        logger.addHandler(handler)
        logger.propagate = False
    logging.captureWarnings(True)
    packages = " ".join(f"{name} {version(name)}" for name in _PACKAGES)
    logging.getLogger(__name__).info("python %s %s", platform.python_version(), packages)
    try:
        yield path
    finally:
        logging.captureWarnings(False)
        root.setLevel(before)
        for logger in (root, *loud):
            logger.removeHandler(handler)
        handler.close()


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Skips a line that cannot be written: the results then fail in the same way, with an
        error."""


class _Blotting(logging.Formatter):
    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = [secret for secret in secrets if secret]

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
