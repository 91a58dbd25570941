"""Keep standard output and error working: after their reader is gone, and where their encoding lacks a sign."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any, TextIO

SPELT = {"±": "+/-", "…": "..."}
ERRORS = "cnn_zoo"  # name of the handler of what an encoding lacks


def _spelt(error: UnicodeError) -> tuple[str, int]:
    """Spell the signs that an encoding lacks: `+/-` for ±; any other one stands as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELT.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(ERRORS, _spelt)


def fitting(text: str, stream: TextIO | None) -> str:
    """Return text as the stream's encoding can show it, which may be longer; a table is made of this."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, ERRORS).decode(encoding)


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


def prepare_streams() -> None:
    """Let `sys.stdout` and `sys.stderr` raise neither `BrokenPipeError` nor `UnicodeEncodeError`.

    log.txt keeps every line as it is.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: `>&-`
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
        elif stream.isatty():
            stream.reconfigure(errors=ERRORS)
        else:
            stream.flush()
            raw = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
            kept = {"encoding": stream.encoding, "line_buffering": stream.line_buffering}
            setattr(sys, name, io.TextIOWrapper(raw, errors=ERRORS, **kept))
