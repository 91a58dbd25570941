"""Errors that a user can cause, as one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

EXIT_CODE = 2


class UserError(ValueError):
    """A user's mistake: what is wrong, where, and what to do. The scripts print it and exit with `EXIT_CODE`."""


class StoppedError(Exception):
    """A signal has stopped the run; the scripts print the message and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def file_error(error: OSError) -> str:
    """Return a line about an error of the file system: the file, what is wrong, and what to do."""
    what = f"{error.filename or 'a file'}: {error.strerror or error}"
    if isinstance(error, FileNotFoundError) and error.filename and not Path(error.filename).parent.exists():
        return f"{Path(error.filename).parent}: this folder is gone; was it removed or renamed? Put it back and go on"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}; make room, and go on"
    if error.errno == errno.ENAMETOOLONG:
        return f"{what}; choose a shorter name"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{what}; choose a place where you may write"
    return what


def memory_error(error: RuntimeError) -> str | None:
    """Return a line that says what to do if memory is full, on a GPU or a CPU; None for any other error."""
    said = str(error)
    if "out of memory" not in said and "can't allocate memory" not in said:
        return None
    return (
        "the memory of the device is full: while training, trainer.accumulate=2 (or 4, 8, ...) computes each batch in "
        "so many parts and keeps the recipe, and recipe.precision=bf16-mixed needs less, too; in an evaluation, a "
        "smaller protocol.batch_size needs less, and with protocol=dense and multi_scale_dense smaller protocol.scales"
    )


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the choices that are most like `word`, or all if none is like it: `lenet5, lenet4`."""
    known = sorted(choices)
    return ", ".join(difflib.get_close_matches(word, known, n=3, cutoff=0.3) or known) or "nothing"
