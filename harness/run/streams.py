"""Keep standard output and error working after their reader is gone, such as `head -3` behind a pipe."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class _Pipe(io.FileIO):
    """A file descriptor that discards what is written once nobody reads it any more."""

    def write(self, data: Any, /) -> int:
        """Write the bytes, or discard them; return their number."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(data))


def survive_closed_pipes() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that raise no `BrokenPipeError`; log.txt keeps every line."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: `>&-`
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
        elif not stream.isatty():
            stream.flush()
            raw = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
            kept = {"encoding": stream.encoding, "errors": stream.errors, "line_buffering": stream.line_buffering}
            setattr(sys, name, io.TextIOWrapper(raw, **kept))
