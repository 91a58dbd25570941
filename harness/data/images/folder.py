"""A folder of classes, indexed: `root/<class>/<image>`, its names in NumPy arrays, kept between runs.

An index holds no Python object for each image, so that forked workers share its memory and 1.28 million names load in
tens of milliseconds. It is kept by the process and in the user's cache, with the time of change of every folder that
was read: a file that came, went or was renamed changes its folder's, and the index is made anew.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.data.images.pieces import Piece, Small
from harness.errors import UserError
from harness.run.bar import counted
from harness.run.files import atomic
from harness.run.printable import printable as as_line

EXTENSIONS = (
    *(
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".bmp",
        ".gif",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
        ".tif",
        ".tiff",
    ),
    *(".webp", ".avif", ".jp2", ".j2k", ".dds", ".ico", ".pcx", ".sgi", ".tga"),
)
INDEX_VERSION = 6
SETTLED = 2_000_000_000  # nanoseconds: what changed so shortly before it was read may yet change unnoticed
TICK = 50_000_000  # nanoseconds: the same within a process, where the file system's clock counts parts of seconds
MOST_KNOWN = 8  # indices that a process keeps

Place = bytes | Piece | Small  # where an image lies: in a file of its own, in part of one, decoded in part of one
Facts = npt.NDArray[np.int64]


def line_of_others(place: str | Path, count: int, such_as: str) -> str:
    """A line about files of a folder that are passed by, since their names do not end like an image's."""
    heic = ", a HEIC picture, which JPEG or PNG would replace" if such_as.lower().endswith((".heic", ".heif")) else ""
    return (
        f"{place}: {count:,} file{'s are' if count > 1 else ' is'} passed by, such as {such_as}{heic}: names of images "
        f"end in {' '.join(EXTENSIONS)}"
    )


@dataclass(frozen=True, eq=False)
class Folder:
    """The images under a folder, in order of class folder and name; equal to itself alone.

    Attributes:
        root: the folder.
        classes: names of the class folders, sorted by their bytes; empty for a flat folder of images.
        directories: paths relative to `root` of all folders that hold images or could, bytes.
        until: int64, how many images lie in each of these folders and those before it.
        class_of: int32, position of each of these folders' class in `classes`; -1 for `root` itself.
        names: uint8, the names of all files one behind the other.
        ends: (N,), where each name ends, of the smallest type that can say it.
        others: path relative to `root` of the first file that is not called like an image, and of how many it is one;
            empty, and 0, where there is none; hidden ones are not counted.
    """

    root: Path
    classes: tuple[str, ...]
    directories: npt.NDArray[np.bytes_]
    until: npt.NDArray[np.int64]
    class_of: npt.NDArray[np.int32]
    names: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.unsignedinteger[Any]]
    others: tuple[str, int]

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def label(self) -> npt.NDArray[np.signedinteger[Any]]:
        """int32 or int64 (N,), position of each image's class in `classes`; -1 for one that lies in `root` itself."""
        return np.repeat(self.class_of, np.diff(self.until, prepend=0))

    def name(self, position: int) -> bytes:
        """Path of an image relative to `root`."""
        start = self.ends[position - 1] if position else 0
        directory: bytes = self.directories[self.until.searchsorted(position, side="right")]
        return os.path.join(directory, self.names[start : self.ends[position]].tobytes())  # noqa: PTH118  # bytes

    def path(self, position: int) -> bytes:
        """Where an image lies, for a person."""
        return os.path.join(os.fsencode(self.root), self.name(position))  # noqa: PTH118

    def place(self, position: int) -> bytes | Piece:
        """Where an image lies, for what reads it."""
        return self.path(position)

    def pieces(self, positions: npt.NDArray[np.signedinteger[Any]]) -> list[Piece] | None:
        """The parts of larger files that these images are; None for images that are files."""
        return None

    def size(self, position: int) -> int:
        """Bytes of an image; -1 for one that cannot be asked."""
        try:
            return os.stat(self.path(position)).st_size  # noqa: PTH116
        except OSError:
            return -1

    def facts(self, names: Sequence[bytes], positions: npt.NDArray[np.signedinteger[Any]]) -> Facts:
        """Size in bytes and two times of change in nanoseconds of each image, int64 (N, 3); -1 for one without.

        The first time is that of the content, which programs can set, the other that of the file, which they cannot.

        Args:
            names: of the images, relative to `root`.
            positions: of the same images, (N,).
        """
        return ask_for_facts(self.root, names)

    def every_name(self) -> Iterator[bytes]:
        """The paths of all images relative to `root`, in order; of many, faster than one by one."""
        pool, start, position = self.names.tobytes(), 0, 0
        for directory, until in zip(self.directories.tolist(), self.until.tolist(), strict=True):
            before = directory + b"/" if directory else b""
            for end in self.ends[position:until].tolist():
                yield before + pool[start:end]
                start = end
            position = until


def ask_for_facts(root: Path, names: Sequence[bytes]) -> Facts:
    """Facts of files, as `Folder.facts` gives them."""
    base = os.fsencode(root)

    def facts(name: bytes) -> tuple[int, int, int]:
        try:
            found = os.stat(os.path.join(base, name))  # noqa: PTH116, PTH118  # bytes
        except OSError:
            return -1, -1, -1
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    return np.array([facts(name) for name in names], dtype=np.int64).reshape(-1, 3)


def names_of(places: Sequence[tuple[bytes, Sequence[bytes]]]) -> dict[str, Any]:
    """The attributes `directories`, `until`, `names` and `ends` of a `Folder`.

    Args:
        places: each folder with the names of its images, in order.
    """
    pool, lengths = bytearray(), []
    for _, images in places:
        pool += b"".join(images)
        lengths.append(np.array([len(image) for image in images], dtype=np.int64))
    return {
        "directories": np.array([directory for directory, _ in places]),
        "until": np.cumsum([len(images) for images in lengths]),
        "names": np.frombuffer(bytes(pool), dtype=np.uint8),
        "ends": np.concatenate(lengths).cumsum().astype(np.min_scalar_type(len(pool))),
    }


class _Index(NamedTuple):
    """An index, and whether it may be used again.

    Attributes:
        folder: the index.
        changed: when each of its folders last changed, in nanoseconds since 1970.
        settled: whether another change, from the scan on, would give each of them another time.
    """

    folder: Folder
    changed: list[int]
    settled: bool

    def holds(self) -> bool:
        """Whether no folder has changed since."""
        base = os.fsencode(self.folder.root)
        paths = (os.path.join(base, directory) for directory in self.folder.directories.tolist())  # noqa: PTH118
        try:
            return all(_changed(path) == before for path, before in zip(paths, self.changed, strict=True))
        except OSError:
            return False


_KNOWN: dict[tuple[Path, Path], _Index] = {}  # by working folder and root: this process scans a folder once


def index_folder(root: Path) -> Folder:
    """The index of a folder of classes: the one that this process or the cache has, if nothing has changed since.

    Raises:
        UserError: a folder that is missing, may not be read, or holds no class folder with an image.
    """
    place = (Path.cwd(), root)
    index = _KNOWN.pop(place, None)
    if index is None or not index.holds():
        index = _kept_or_new(root)
    if index.settled:
        _KNOWN[place] = index
        while len(_KNOWN) > MOST_KNOWN:
            del _KNOWN[next(iter(_KNOWN))]  # the one that was used the longest ago
    if not len(index.folder):
        raise UserError(f"{root}: no image in it; wanted {root.name}/CLASS/IMAGE, names in {', '.join(EXTENSIONS)}")
    return index.folder


def _kept_or_new(root: Path) -> _Index:
    cached = cache_file("index", root)
    index = _read_cache(root, cached)
    if index is None or not index.holds():
        started = time.time_ns()
        folder, changed = _scan(root)
        last = max(changed)
        index = _Index(folder, changed, settled=last < started - (TICK if last % 10**9 else SETTLED))
        if last < started - SETTLED:
            _write_cache(cached, folder, changed)
    return index


def printable(name: bytes) -> str:
    """A file's name as text that is one line of UTF-8 and differs for different names."""
    return as_line(name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace"))


def _scan(root: Path) -> tuple[Folder, list[int]]:
    """Read every folder, and when each last changed (nanoseconds since 1970)."""
    base = os.fsencode(root)
    top = _entries(base, b"")
    classes = [name for name, is_folder in top if is_folder]
    flat = (-1, b"", [name for name, is_folder in top if not is_folder])
    places = chain([flat], ((label, *place) for label, name in enumerate(classes) for place in _walk(base, name)))
    found: list[tuple[bytes, list[bytes]]] = []
    labels, changed = [], []
    such_as, others, read = "", 0, 0
    with counted(f"reading the names in {root}", len(classes), "folders of classes") as count:
        for label, directory, files in places:
            images = [name for name in files if _is_image(name)]
            found.append((directory, images))
            labels.append(label)
            changed.append(_changed(os.path.join(base, directory)))  # noqa: PTH118  # paths that are bytes
            if len(files) > len(images):
                others += len(files) - len(images)
                first = next(name for name in files if not _is_image(name))
                such_as = such_as or printable(os.path.join(directory, first))  # noqa: PTH118
            count(label - read)
            read = label
    class_names, class_of = tuple(map(printable, classes)), np.array(labels, dtype=np.int32)
    folder = Folder(root, class_names, **names_of(found), class_of=class_of, others=(such_as, others))
    return folder, changed


def _walk(base: bytes, directory: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """A folder and those inside it, each with the names of its files; links to folders are not followed."""
    found = _entries(base, directory, follow=False)
    yield directory, [name for name, is_folder in found if not is_folder]
    for name, is_folder in found:
        if is_folder:
            yield from _walk(base, os.path.join(directory, name))  # noqa: PTH118


def _entries(base: bytes, directory: bytes, follow: bool = True) -> list[tuple[bytes, bool]]:
    """What lies in a folder, hidden files apart, sorted: names, and whether they are folders."""
    path = os.path.join(base, directory)  # noqa: PTH118
    try:
        with os.scandir(path) as entries:
            found = (entry for entry in entries if not entry.name.startswith(b"."))
            return sorted((entry.name, entry.is_dir(follow_symlinks=follow)) for entry in found)
    except FileNotFoundError as error:
        raise UserError(f"{printable(path)}: there is no such folder") from error
    except NotADirectoryError as error:
        raise UserError(f"{printable(path)}: not a folder") from error
    except OSError as error:
        raise UserError(f"{printable(path)}: this folder cannot be read ({error.strerror})") from error


def _is_image(name: bytes) -> bool:
    return os.path.splitext(os.fsdecode(name))[1].lower() in EXTENSIONS  # noqa: PTH122


def _changed(path: bytes) -> int:
    return os.stat(path).st_mtime_ns  # noqa: PTH116


def cache_file(kind: str, root: Path) -> Path:
    """Where the user's cache keeps something of a folder: its `index`, or the `digests` of its files."""
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    return cache_folder() / f"{kind}-{digest}.npz"


def cache_folder() -> Path:
    """This program's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnn-zoo"


def _read_cache(root: Path, path: Path) -> _Index | None:
    """The kept index; None if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            content: Mapping[str, npt.NDArray[np.generic]] = {key: kept[key] for key in kept.files}
        if int(content["version"]) != INDEX_VERSION:
            return None
        arrays: Any = {key: content[key] for key in ("directories", "until", "class_of", "names", "ends")}
        others = (str(content["such_as"]), int(content["others"]))
        if str(content["checksum"]) != checksum_of(content):
            return None
        folder = Folder(root, tuple(content["classes"].tolist()), **arrays, others=others)
        return _Index(folder, content["changed"].tolist(), settled=True)
    except Exception:  # a damaged file can fail in any way while it is parsed
        return None


def checksum_of(content: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256 of a cache's arrays by name, but for the checksum: kinds, shapes and bytes."""
    digest = hashlib.sha256()
    for key in sorted(content.keys() - {"checksum"}):
        array = np.ascontiguousarray(content[key])
        digest.update(f"{key} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write_cache(path: Path, folder: Folder, changed: Sequence[int]) -> None:
    """Keep the index; a cache that cannot be written is done without."""
    arrays: dict[str, Any] = {
        "version": np.array(INDEX_VERSION),
        "changed": np.array(changed, dtype=np.int64),
        "classes": np.array(folder.classes, dtype=np.str_),
        "directories": folder.directories,
        "until": folder.until,
        "class_of": folder.class_of,
        "names": folder.names,
        "ends": folder.ends,
        "such_as": np.array(folder.others[0]),
        "others": np.array(folder.others[1]),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            np.savez(file, **arrays, checksum=np.array(checksum_of(arrays)))
    except OSError:
        return
