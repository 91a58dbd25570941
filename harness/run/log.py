"""The log of a run: its lines go to the terminal if a command runs it, and to `log.txt` in its folder. No torch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from harness.run.printable import printable

log = logging.getLogger("cnn_zoo")


def _made_printable(record: logging.LogRecord) -> bool:
    """Make each line fit to print, whatever the files are called that it tells of; a message is a line, or a list."""
    lines = record.msg if isinstance(record.msg, list) else [record.getMessage()]
    record.msg, record.args = "\n".join(line if line.isprintable() else printable(line) for line in lines), None
    return True


log.addFilter(_made_printable)


class _LogFile(logging.FileHandler):
    """Writes `log.txt`; a failing write raises like any other error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Raise the error; logging would print a traceback and go on."""
        raise


class _Console(logging.Handler):
    """Prints to the present standard output or error, or by what shows a progress bar, so that lines stand above it."""

    above: ClassVar[Callable[[str], None] | None] = None

    def emit(self, record: logging.LogRecord) -> None:
        if _Console.above is not None:
            _Console.above(self.format(record))
            return
        file = sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        print(self.format(record), file=file, flush=True)


def print_by(above: Callable[[str], None] | None) -> None:
    """Print log lines by this function as long as a progress bar is shown; None ends that."""
    _Console.above = above


@contextmanager
def spoken(aloud: bool) -> Iterator[None]:
    """Print log lines to the terminal inside if `aloud` is true; a library prints nothing unless its user says so."""
    before = log.handlers, log.propagate, log.level
    if aloud:
        log.handlers, log.propagate = [_Console()], False
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])


def speaks() -> bool:
    """Return whether log lines go to the terminal."""
    return any(isinstance(handler, _Console) for handler in log.handlers)


def only_errors() -> None:
    """Print only errors: another process of the same run prints everything else."""
    errors = logging.StreamHandler()
    errors.setLevel(logging.ERROR)
    log.handlers, log.propagate = [errors], False


def write_to(folder: Path) -> None:
    """Write log lines to `log.txt` in this folder, too."""
    log.setLevel(logging.INFO)
    log.addHandler(_LogFile(folder / "log.txt", encoding="utf-8"))


def stop_writing() -> None:
    """Close `log.txt`."""
    for handler in [handler for handler in log.handlers if isinstance(handler, _LogFile)]:
        log.removeHandler(handler)
        handler.close()
