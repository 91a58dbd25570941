"""Pictures in tars of WebDataset, indexed: read by their position, in the order of a folder that held the same names.

An index lies beside its tars, or in the user's cache where it may not be written. It holds size and time of change of
each tar: one that came, went or changed makes it anew. A tar that this program packed has a picture's name in a form
that WebDataset reads: `member_of`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.images import tars
from harness.data.images.folder import SETTLED, TICK, Facts, Folder, cache_file, names_of, printable
from harness.data.images.mapped import Mapped, read_arrays, write_arrays
from harness.data.images.pieces import Piece
from harness.errors import UserError
from harness.run.bar import counted
from harness.run.files import atomic

INDEX_VERSION = 1
INDEX_ENDING = ".index"
TWIN = b"%00"  # in a key; no file's name holds this byte

Integers = npt.NDArray[np.int64]
Stamps = tuple[tuple[str, int, int], ...]  # of tars: path relative to their folder, size, nanoseconds since 1970


@dataclass(frozen=True, eq=False)
class Shards(Folder):
    """The pictures of some tars; `root` names them for a person and is no folder, `classes` are in label order.

    Attributes:
        labels: int64 (N,), position of each picture's class in `classes`.
        tars: absolute paths of the tars.
        stamps: int64 (T, 2), size and time of change of each.
        tar_of: (N,), which of them a picture lies in.
        starts: int64 (N,), its first byte there.
        sizes: int64 (N,), number of its bytes.
    """

    labels: Integers
    tars: tuple[bytes, ...]
    stamps: Integers
    tar_of: npt.NDArray[np.int32]
    starts: Integers
    sizes: Integers

    @property
    def label(self) -> Integers:
        """int64 (N,), position of each picture's class in `classes`."""
        return self.labels

    def path(self, position: int) -> bytes:
        """The tar, and the picture's name in the data set."""
        return os.path.join(self.tars[self.tar_of[position]], self.name(position))  # noqa: PTH118  # bytes

    def place(self, position: int) -> Piece:
        """The picture's bytes in its tar."""
        tar = int(self.tar_of[position])
        return Piece(self.tars[tar], int(self.starts[position]), self.size(position), int(self.stamps[tar, 1]))

    def pieces(self, positions: npt.NDArray[np.signedinteger[Any]]) -> list[Piece]:
        """The bytes of these pictures."""
        return [self.place(position) for position in positions.tolist()]

    def size(self, position: int) -> int:
        """Bytes of a picture."""
        return int(self.sizes[position])

    def facts(self, names: Sequence[bytes], positions: npt.NDArray[np.signedinteger[Any]]) -> Facts:
        """Sizes of the pictures, and the time of change of their tars, twice: int64 (N, 3)."""
        changed = self.stamps[self.tar_of[positions], 1]
        return np.stack((self.sizes[positions], changed, changed), axis=1)


def member_of(name: bytes, twin: int) -> bytes:
    """What a picture is called in a tar: up to the first dot behind the last slash, it is the picture's alone.

    Args:
        name: of the picture.
        twin: how many pictures before it are called the same but for the ending.
    """
    folder, slash, base = name.rpartition(b"/")
    stem, dot, ending = base.rpartition(b".")
    return folder + slash + stem.replace(b"%", b"%25").replace(b".", b"%2E") + TWIN * twin + dot + ending


def name_of(member: bytes) -> bytes:
    """The picture's name, from what `member_of` made of it."""
    folder, slash, base = member.rpartition(b"/")
    return folder + slash + base.replace(TWIN, b"").replace(b"%2E", b".").replace(b"%25", b"%")


def stamps_of(root: Path, paths: Sequence[Path]) -> Stamps:
    """What tells tars under `root` from others."""
    facts = [(path, path.stat()) for path in paths]
    return tuple((str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns) for path, stat in facts)


@functools.lru_cache(maxsize=8)
def index_shards(root: Path, called: str, stamps: Stamps, packed: bool) -> Shards:
    """The index of tars: the one that is kept, if they have not changed since, or a new one.

    Args:
        root: their folder, absolute.
        called: name of the set that they make up, such as `train`.
        stamps: of the tars, at least one.
        packed: whether names are those that `member_of` makes.

    Raises:
        UserError: a tar that is damaged, or no tar of labelled pictures.
    """
    beside, cached = root / f"{called}{INDEX_ENDING}", cache_file(f"shards-{called}", root)
    for path in (beside, cached):
        kept = read_arrays(path)
        if kept is not None and _fits(kept, stamps, packed):
            return _shards(root, called, stamps, kept)
    started, made = time.time_ns(), _scan(root, called, stamps, packed)
    last = max(changed for _, _, changed in stamps)
    if last < started - (TICK if last % 10**9 else SETTLED):
        for path in (beside, cached):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic(path) as file:
                    write_arrays(file, made.facts, made.arrays)
            except OSError:  # a folder that may not be written, or a full disk
                continue
            break
    return _shards(root, called, stamps, made)


def _fits(kept: Mapped, stamps: Stamps, packed: bool) -> bool:
    """Whether an index is of these tars."""
    wanted = {"version": INDEX_VERSION, "tars": [list(stamp) for stamp in stamps], "packed": packed}
    return wanted.items() <= kept.facts.items()


def _shards(root: Path, called: str, stamps: Stamps, index: Mapped) -> Shards:
    such_as, others = index.facts["others"]
    return Shards(
        root=root / f"{called}*.tar",
        classes=tuple(index.facts["classes"]),
        others=(such_as, others),
        tars=tuple(os.fsencode(root / path) for path, _, _ in stamps),
        stamps=np.array([[size, changed] for _, size, changed in stamps], dtype=np.int64),
        **index.arrays,
    )


def _scan(root: Path, called: str, stamps: Stamps, packed: bool) -> Mapped:
    """Read the headers of all tars."""
    samples: list[tuple[int, tars.Sample]] = []  # with the number of its tar
    such_as, passed = "", 0
    with counted(f"indexing {called}", sum(size for _, size, _ in stamps) >> 20, "MiB of tars") as count:
        for number, (path, _, _) in enumerate(stamps):
            tar = tars.scan(root / path, lambda size: count(size >> 20))
            samples += [(number, sample) for sample in tar.samples]
            passed += tar.passed
            such_as = such_as or printable(tar.others)
    if not samples:
        raise UserError(f"{root}: no labelled picture in {called}*.tar, such as {stamps[0][0]}")
    names = _unique([(_name(sample, packed), number) for number, sample in samples], stamps)
    order = sorted(range(len(samples)), key=lambda index: _rank(names[index]))
    texts = [sample.label for _, sample in samples]
    numbers = all(text.isdecimal() for text in set(texts))
    classes = sorted(set(texts), key=int) if numbers else sorted(set(texts), key=str.encode)
    label_of = {text: label for label, text in enumerate(classes)}
    places = _places([names[index] for index in order])
    arrays = {
        **names_of(places),
        "class_of": np.full(len(places), -1, dtype=np.int32),  # the label says it
        "labels": np.array([label_of[texts[index]] for index in order], dtype=np.int64),
        "tar_of": np.array([samples[index][0] for index in order], dtype=np.int32),
        "starts": np.array([samples[index][1].start for index in order], dtype=np.int64),
        "sizes": np.array([samples[index][1].size for index in order], dtype=np.int64),
    }
    facts = {
        "version": INDEX_VERSION,
        "tars": [list(stamp) for stamp in stamps],
        "packed": packed,
        "classes": classes,
        "others": [such_as, passed],
    }
    return Mapped(facts, arrays)


def _name(sample: tars.Sample, packed: bool) -> bytes:
    return name_of(sample.name) if packed else sample.name


def _unique(names: Sequence[tuple[bytes, int]], stamps: Stamps) -> list[bytes]:
    """Names of pictures, each given with its tar; where two are equal, all with the name of their tar before them."""
    plain = [name for name, _ in names]
    if len(set(plain)) == len(plain):
        return plain
    stems = [os.fsencode(path.removesuffix(".tar")) for path, _, _ in stamps]
    return [os.path.join(stems[number], name) for name, number in names]  # noqa: PTH118  # bytes


def _rank(name: bytes) -> bytes:
    """What sorts names as a folder's index does: within each folder its files, then its folders, by their bytes."""
    *folders, base = name.split(b"/")
    return b"".join(b"\1" + folder + b"\0" for folder in folders) + b"\0" + base


def _places(names: Sequence[bytes]) -> list[tuple[bytes, list[bytes]]]:
    """Every folder, those on the way to others among them, with the names in it; names are sorted by `_rank`."""
    places: dict[bytes, list[bytes]] = {b"": []}
    for name in names:
        folder, _, base = name.rpartition(b"/")
        if folder not in places:
            parts = folder.split(b"/")
            for length in range(1, len(parts) + 1):
                places.setdefault(b"/".join(parts[:length]), [])
        places[folder].append(base)
    return list(places.items())


def renamed(shards: Shards, class_names: tuple[str, ...], labels: Sequence[int]) -> Shards:
    """The same pictures with other classes: what was class k is `labels[k]` of `class_names`."""
    return dataclasses.replace(shards, classes=class_names, labels=np.array(labels, dtype=np.int64)[shards.labels])
