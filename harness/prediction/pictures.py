"""Find the image files that words on a command line name: files, folders, patterns, and `-` for standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import IO

from harness.data.images.folder import EXTENSIONS
from harness.errors import UserError


def find_images(words: Sequence[str], stdin: IO[bytes]) -> list[bytes]:
    """Find the files that the words name, in order.

    A file that is named itself is taken whatever its name. In a folder and the folders inside it, every file whose name
    ends like an image's is taken, in the order of names; hidden files and links to folders are skipped.

    Args:
        words: files, folders, patterns such as `photos/*.jpg` or `**/*.png`, or `-`.
        stdin: where `-` reads paths from: one a line, or each with a NUL behind it, as `find -print0` writes them.

    Returns:
        Paths. A file that does not exist is among them, and turns out to be unreadable later.

    Raises:
        UserError: no file was found.
    """
    found: list[bytes] = []
    for word in words:
        if word == "-":
            content = stdin.read()
            paths = content.split(b"\0") if b"\0" in content else content.splitlines()
        else:
            paths = _matching(os.fsencode(os.path.expanduser(word)))  # noqa: PTH111  # paths are bytes here
        found += [file for path in paths if path for file in _files(path)]
    if not found:
        raise UserError(f"{' '.join(words)}: no image found; names of images in folders end in {', '.join(EXTENSIONS)}")
    return found


def _matching(word: bytes) -> list[bytes]:
    """Return what a pattern matches, or the word itself if it is no pattern or matches nothing."""
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    return sorted(glob.glob(word, recursive=True)) or [word]  # noqa: PTH207


def _files(path: bytes) -> list[bytes]:
    """Return the images under a folder; a folder inside it that cannot be read stands for its images."""
    if not os.path.isdir(path):  # noqa: PTH112
        return [path]
    found: list[bytes] = []

    def unreadable(error: OSError) -> None:
        found.append(os.fsencode(error.filename))

    for folder, inside, names in os.walk(path, onerror=unreadable):
        inside[:] = sorted(name for name in inside if not name.startswith(b"."))
        found.extend(os.path.join(folder, name) for name in sorted(names) if _is_image(name))  # noqa: PTH118
    return found


def _is_image(name: bytes) -> bool:
    return not name.startswith(b".") and os.path.splitext(os.fsdecode(name))[1].lower() in EXTENSIONS  # noqa: PTH122
