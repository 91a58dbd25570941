"""A user's mistake, told in one line."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

EXIT_CODE = 2


class UserError(ValueError):
    """What is wrong, where, and what to do. The scripts print it as one line and exit with `EXIT_CODE`."""


class StoppedError(Exception):
    """The run was told to stop, and did; the scripts print the message and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def file_error(error: OSError) -> str:
    """What the system would not do with which file, and what to do about it."""
    what = f"{error.filename or 'a file'}: {error.strerror or error}"
    if isinstance(error, FileNotFoundError) and error.filename and not Path(error.filename).parent.exists():
        return f"{Path(error.filename).parent}: this folder is gone; was it removed or renamed? Put it back and go on"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}; make room, and go on"
    if error.errno == errno.ENAMETOOLONG:
        return f"{what}; choose a shorter one"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{what}; choose a place where you may write"
    return what


def memory_error(error: RuntimeError) -> str | None:
    """What to do where memory was full, on a GPU or off it; None for an error of another kind."""
    said = str(error)
    if "out of memory" not in said and "can't allocate memory" not in said:
        return None
    return (
        "the memory of the device is full: a smaller recipe.batch_size, protocol.batch_size or network needs less, and "
        "so does recipe.precision=bf16-mixed"
    )


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choices most like `word`, or all of them when none is: `lenet5, lenet4`."""
    known = sorted(choices)
    return ", ".join(difflib.get_close_matches(word, known, n=3, cutoff=0.3) or known) or "nothing"
