"""A picture's bytes inside a larger file, such as a tar: read by position, so that nothing before it is touched."""

from __future__ import annotations

import functools
import os
from io import FileIO
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.data.images.opening import UnreadableError

MOST_OPEN = 256  # files that a process keeps open: most systems allow 1,024


class Piece(NamedTuple):
    """Where the bytes of a picture lie.

    Attributes:
        path: of the file, absolute.
        start: its first byte.
        size: number of bytes.
        changed: when the file last changed as its index was made, in nanoseconds since 1970.
    """

    path: bytes
    start: int
    size: int
    changed: int


class Small(NamedTuple):
    """Where the pixels of a small picture lie.

    Attributes:
        path: of a file of pixels; its content never changes.
        start: of the first pixel, in bytes.
        height: in pixels.
        width: in pixels.
    """

    path: bytes
    start: int
    height: int
    width: int


def pixels_at(small: Small) -> npt.NDArray[np.uint8]:
    """The pixels of a picture (H, W, 3), mapped: only what is used of them is read."""
    end = small.start + 3 * small.height * small.width
    pixels: npt.NDArray[np.uint8] = _mapped(small.path)[small.start : end].reshape(small.height, small.width, 3)
    return pixels


@functools.lru_cache(maxsize=4)
def _mapped(path: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(np.memmap(os.fsdecode(path), mode="c", dtype=np.uint8))  # torch warns of what it may not write


def read_piece(piece: Piece, most: int) -> bytes:
    """The bytes of a picture; several threads may read at once.

    Args:
        piece: where they lie.
        most: bytes that a picture may have.

    Raises:
        UnreadableError: the file is gone, has changed since, or ends too early; an empty picture, or one too large.
    """
    if not 0 < piece.size <= most:
        raise UnreadableError("an empty file" if piece.size == 0 else f"{piece.size:,} bytes")
    try:
        file = _opened(piece.path, piece.changed)
        content = os.pread(file.fileno(), piece.size, piece.start)
        while 0 < len(content) < piece.size:  # a network's file system may give less at once
            more = os.pread(file.fileno(), piece.size - len(content), piece.start + len(content))
            if not more:
                break
            content += more
    except OSError as error:
        raise UnreadableError(error.strerror or type(error).__name__) from error
    if len(content) != piece.size:
        raise UnreadableError("its tar was cut off while it was read")
    return content


@functools.lru_cache(maxsize=MOST_OPEN)
def _opened(path: bytes, changed: int) -> FileIO:
    """The file, which is closed once nobody uses it and others took its place here."""
    file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115  # bytes; it stays open
    if os.fstat(file.fileno()).st_mtime_ns != changed:
        file.close()
        raise UnreadableError("its tar has changed since it was indexed")
    return file
