"""A terminal that nobody looks at."""

from __future__ import annotations

import os
import pty
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unseen_terminal() -> Iterator[None]:
    """Standard output and error are a terminal that nobody looks at, so that bars are drawn as for a person."""
    reader, writer = pty.openpty()
    threading.Thread(target=_drain, args=(reader,), daemon=True).start()
    before = sys.stdout, sys.stderr
    with os.fdopen(writer, "w") as terminal:
        sys.stdout = sys.stderr = terminal
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def _drain(reader: int) -> None:
    try:
        while os.read(reader, 65536):
            pass
    except OSError:
        os.close(reader)
