"""A user's mistake, told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_CODE = 2


class UserError(ValueError):
    """What is wrong, where, and what to do. The scripts print it as one line and exit with `EXIT_CODE`."""


class StoppedError(Exception):
    """The run was told to stop, and did; the scripts print the message and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choices most like `word`, or all of them when none is: `lenet5, lenet4`."""
    known = sorted(choices)
    return ", ".join(difflib.get_close_matches(word, known, n=3, cutoff=0.3) or known) or "nothing"
