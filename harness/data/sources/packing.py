"""Pack a data set into tars of WebDataset that `data=shards` reads: the same pictures, names, classes and splits."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.config.data import DataConfig, FolderConfig
from harness.data.images.folder import TICK, printable
from harness.data.images.image_files import ImageFiles
from harness.data.images.pieces import Piece
from harness.data.images.shards import member_of
from harness.data.sources import shards
from harness.data.sources.folder import Part
from harness.data.sources.shards_at_url import FACTS_FILE
from harness.data.sources.splits import Split
from harness.data.sources.table import DIVIDED, describe, load, load_test
from harness.errors import UserError
from harness.run.bar import counted
from harness.run.files import PARTIAL, sha256_of_file, write_json

MEMBER = 2048  # bytes of a tar that a picture and its label need at most beside the picture, their names short


class Pack(NamedTuple):
    """Pictures that become the tars of one set.

    Attributes:
        prefix: begins their ids.
        names: N names of picture files, in order.
        labels: N positions in the class names.
        content: of a picture, by its position.
        bytes: of all pictures, about.
    """

    prefix: str
    names: Sequence[bytes]
    labels: Sequence[int]
    content: Callable[[int], bytes]
    bytes: int


def pack(config: DataConfig, out: Path, tar_bytes: int) -> dict[str, int]:
    """Pack all splits of a data set into a new folder, read it back, and count.

    Within a set pictures follow each other in an order that mixes the classes, for programs that read tars from front
    to end; `data=shards` goes by their names.

    Args:
        config: of the data set.
        out: folder that must not exist.
        tar_bytes: of pictures, after which another tar begins.

    Returns:
        How many pictures each set has.

    Raises:
        UserError: the folder exists, the disk is too small, a picture cannot be read, or one has several labels.
    """
    if out.exists():
        raise UserError(f"{out}: exists; name a new folder for the tars")
    class_names, as_viewed, packs = _packs(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(one.bytes + MEMBER * len(one.names) for one in packs.values())
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise UserError(f"{out.parent}: the tars need {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free")
    partial = out.with_name(f".{out.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir()
    try:
        for name, one in packs.items():
            _write(partial, name, one, tar_bytes)
        sets = {name: {"images": len(one.names), "prefix": one.prefix} for name, one in packs.items()}
        facts = {"schema": shards.SCHEMA, "version": shards.VERSION, "source": config.name, "as_viewed": as_viewed}
        tars = {path.name: _told(path) for path in sorted(partial.glob("*.tar"))}
        write_json(partial / FACTS_FILE, {**facts, "sets": sets, "tars": tars, "class_names": list(class_names)})
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    time.sleep(2 * TICK / 1e9)  # an index of files that have only just changed would not be kept
    return shards.read_back(out)


def _told(path: Path) -> dict[str, object]:
    """What tells a copy of a tar, fetched from a URL, from a damaged one."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def _packs(config: DataConfig) -> tuple[tuple[str, ...], bool, dict[str, Pack]]:
    """Class names, whether pictures are decoded as a viewer shows them, and all sets by name."""
    if config.name in DIVIDED:
        assert isinstance(config, FolderConfig)
        parts = DIVIDED[config.name].divide(dataclasses.replace(config, folds=None, fold=0))
        together: dict[str, list[Part]] = {}
        for part in (parts.train, parts.validation, parts.test):
            if len(part):
                together.setdefault(part.prefix, []).append(part)
        as_viewed = DIVIDED[config.name].as_viewed(config)
        joined = {_set_of(prefix): _of_parts(some) for prefix, some in together.items()}
        return parts.class_names, as_viewed, joined
    known = describe(config)
    whole = dataclasses.replace(config, validation=0)
    splits: dict[str, Split] = {"test": load_test(whole)}
    if known.train:
        both = load(whole)
        splits = {"train": both.train, "test": both.test}
    test = splits["test"]
    if isinstance(test, ImageFiles) and test.prefix.rpartition("/")[2] == "val":
        splits["val"] = splits.pop("test")
    return known.class_names, False, {name: _of_split(config, split) for name, split in splits.items()}


def _set_of(prefix: str) -> str:
    return prefix.rpartition("/")[2].casefold() if "/" in prefix else shards.UNDIVIDED


def _of_parts(parts: Sequence[Part]) -> Pack:
    """The images of parts of one folder, in its order."""
    folder, positions = parts[0].folder, np.concatenate([part.positions for part in parts])
    order = np.argsort(positions)
    labels = np.concatenate([part.labels for part in parts])[order]
    split = ImageFiles.labelled(folder, positions[order], labels, parts[0].prefix)
    return _of_files(split)


def _of_split(config: DataConfig, split: Split) -> Pack:
    if isinstance(split, ImageFiles):
        if split.answers is not None:
            raise UserError(f"data={config.name}: its pictures have several right answers each, and a tar holds one")
        return _of_files(split)
    (prefix,) = {name.rpartition("/")[0] for name in split.ids}  # a source in memory calls its images PREFIX/NUMBER
    names = [os.fsencode(f"{name.rpartition('/')[2]}.png") for name in split.ids]

    def content(index: int) -> bytes:
        from PIL import Image

        pixels, file = split.images[index].movedim(0, -1).numpy(), io.BytesIO()  # (H, W, C)
        Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
        return file.getvalue()

    return Pack(prefix, names, split.labels.tolist(), content, split.images.numel())


def _of_files(split: ImageFiles) -> Pack:
    def content(index: int) -> bytes:
        place = split.folder.place(int(split.positions[index]))
        try:
            if isinstance(place, Piece):
                with open(place.path, "rb") as file:  # noqa: PTH123  # bytes
                    return os.pread(file.fileno(), place.size, place.start)
            with open(place, "rb") as file:  # noqa: PTH123  # bytes
                return file.read()
        except OSError as error:
            raise UserError(f"{printable(split.path(index))}: cannot be read ({error.strerror})") from error

    names = [split.name(index) for index in range(len(split))]
    size = sum(max(0, split.size_of(index)) for index in range(len(split)))
    return Pack(split.prefix, names, split.labels.tolist(), content, size)


def _write(folder: Path, name: str, pictures: Pack, tar_bytes: int) -> None:
    """The tars of a set."""
    members = _members(pictures.names)
    mixed = sorted(range(len(members)), key=lambda index: hashlib.sha256(members[index]).digest())
    number, tar, written = 0, None, 0
    try:
        with counted(f"packing {name}", len(members), "pictures") as count:
            for index in mixed:
                content = pictures.content(index)
                if tar is None or written + len(content) > tar_bytes:
                    if tar is not None:
                        tar.close()
                    path = folder / f"{name}-{number:06d}.tar"
                    tar = tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape")  # noqa: SIM115
                    number, written = number + 1, 0
                _add(tar, members[index], content)
                _add(tar, _key(members[index]) + b".cls", b"%d" % pictures.labels[index])
                written += len(content)
                count(1)
    finally:
        if tar is not None:
            tar.close()


def _members(names: Sequence[bytes]) -> list[bytes]:
    """What each picture is called in its tar: up to the first dot, no other is called the same."""
    seen: dict[bytes, int] = {}

    def member(name: bytes) -> bytes:
        key = _key(member_of(name, 0))
        seen[key] = seen.get(key, -1) + 1
        return member_of(name, seen[key])

    return [member(name) for name in names]


def _key(member: bytes) -> bytes:
    folder, slash, base = member.rpartition(b"/")
    return folder + slash + base.partition(b".")[0]


def _add(tar: tarfile.TarFile, name: bytes, content: bytes) -> None:
    member = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))
