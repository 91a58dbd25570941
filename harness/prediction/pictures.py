"""From words on a command line to image files: files, folders, patterns, and `-` for paths on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import IO

from harness.data.images.folder import EXTENSIONS
from harness.errors import UserError


def find_images(words: Sequence[str], stdin: IO[bytes]) -> list[bytes]:
    """The files that are meant, in order; one that does not exist is among them, and turns out to be unreadable.

    A file is taken whatever its name. Of a folder, and those inside it, every file that is called like an image is
    taken, in order of names; hidden ones, and links to folders, are passed by.

    Args:
        words: files, folders, patterns such as `photos/*.jpg` or `**/*.png`, or `-`.
        stdin: where `-` reads paths from: one a line, or with a NUL behind each as `find -print0` writes them.

    Raises:
        UserError: nothing was found.
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
    """What a pattern matches; the word itself if it is none, or matches nothing."""
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    return sorted(glob.glob(word, recursive=True)) or [word]  # noqa: PTH207


def _files(path: bytes) -> list[bytes]:
    """The images under a folder; a folder inside it that cannot be read is listed instead of them."""
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
