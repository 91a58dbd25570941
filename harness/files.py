"""Writing so that a process killed at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it takes the place of `path` only when everything is on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with atomic(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a dictionary of plain values, one key a line."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
