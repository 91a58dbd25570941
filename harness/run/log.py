"""What a run says: to the terminal where a command runs it, and to `log.txt` in its folder. No torch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("cnn_zoo")


class _LogFile(logging.FileHandler):
    """`log.txt`; what goes wrong with it is an error like any other."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Raise it, where logging would print a traceback and go on."""
        raise


class _Console(logging.Handler):
    """Prints to whatever standard output and error are at the time, so that lines appear above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        file = sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        print(self.format(record), file=file, flush=True)


def speak() -> None:
    """Print lines to the terminal from here on; a library says nothing, unless its user configures logging."""
    log.handlers, log.propagate = [_Console()], False
    log.setLevel(logging.INFO)


@contextmanager
def spoken(aloud: bool) -> Iterator[None]:
    """Lines inside go to the terminal, or they do not."""
    before = log.handlers, log.propagate, log.level
    if aloud:
        speak()
    try:
        yield
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])


def speaks() -> bool:
    """Whether lines go to the terminal."""
    return any(isinstance(handler, _Console) for handler in log.handlers)


def only_errors() -> None:
    """Say what went wrong, and nothing else: another process of the same run says the rest."""
    errors = logging.StreamHandler()
    errors.setLevel(logging.ERROR)
    log.handlers, log.propagate = [errors], False


def write_to(folder: Path) -> None:
    """Write lines to `log.txt` in this folder, too."""
    log.setLevel(logging.INFO)
    log.addHandler(_LogFile(folder / "log.txt", encoding="utf-8"))


def stop_writing() -> None:
    """Close `log.txt`."""
    for handler in [handler for handler in log.handlers if isinstance(handler, _LogFile)]:
        log.removeHandler(handler)
        handler.close()
