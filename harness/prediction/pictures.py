"""Find the image files that words on a command line name: files, folders, patterns, and `-` for standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import IO, NamedTuple

from harness.data.images.folder import EXTENSIONS, line_of_others, printable
from harness.errors import UserError


class Found(NamedTuple):
    """Files that words name.

    Attributes:
        images: paths in order. A file that does not exist can be among them, and turns out to be unreadable later.
        others: for each folder with files that are not called like an image, a line about those that are passed by.
    """

    images: list[bytes]
    others: list[str]


def find_images(words: Sequence[str], stdin: IO[bytes]) -> Found:
    """Find the files that the words name, in order.

    A file that is named itself is taken whatever its name. In a folder and the folders inside it, every file whose name
    ends like an image's is taken, in the order of names; hidden files and links to folders are skipped.

    Args:
        words: files, folders, patterns such as `photos/*.jpg` or `**/*.png`, or `-`.
        stdin: where `-` reads paths from: one a line, or each with a NUL behind it, as `find -print0` writes them.

    Raises:
        UserError: no file was found.
    """
    found = Found([], [])
    for word in words:
        if word == "-":
            content = stdin.read()
            paths = content.split(b"\0") if b"\0" in content else content.splitlines()
        else:
            paths = _matching(os.fsencode(os.path.expanduser(word)))  # noqa: PTH111  # paths are bytes here
        for path in filter(None, paths):
            _add(path, found)
    if not found.images:
        raise UserError(f"{' '.join(words)}: no image found; names of images in folders end in {', '.join(EXTENSIONS)}")
    return found


def _matching(word: bytes) -> list[bytes]:
    """Return what a pattern matches, or the word itself if it is no pattern or matches nothing."""
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    return sorted(glob.glob(word, recursive=True)) or [word]  # noqa: PTH207


def _add(path: bytes, found: Found) -> None:
    """Add a file, or the images under a folder; a folder inside it that cannot be read stands for its images."""
    if not os.path.isdir(path):  # noqa: PTH112
        found.images.append(path)
        return
    others: list[bytes] = []

    def unreadable(error: OSError) -> None:
        found.images.append(os.fsencode(error.filename))

    for folder, inside, names in os.walk(path, onerror=unreadable):
        inside[:] = sorted(name for name in inside if not name.startswith(b"."))
        for name in sorted(name for name in names if not name.startswith(b".")):
            (found.images if _is_image(name) else others).append(os.path.join(folder, name))  # noqa: PTH118
    if others:
        such_as = printable(os.path.relpath(others[0], path))
        found.others.append(line_of_others(printable(path), len(others), such_as))


def _is_image(name: bytes) -> bool:
    return os.path.splitext(os.fsdecode(name))[1].lower() in EXTENSIONS  # noqa: PTH122
