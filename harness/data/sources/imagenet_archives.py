"""The official archives of ImageNet (ILSVRC 2012), unpacked into folders of classes and counted."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from harness.data.images.folder import index_folder
from harness.data.sources.imagenet import IMAGENET_CLASSES, truth_labels
from harness.errors import UserError
from harness.run.printable import say

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def unpack_train(archive: Path, train: Path) -> None:
    """Unpack an archive of archives, one a class, into `train/<wnid>/`; skip classes that are complete."""
    with _opened(archive) as classes:
        for member in classes:
            wnid = PurePosixPath(member.name).name.removesuffix(".tar")
            if wnid not in IMAGENET_CLASSES:
                raise UserError(f"{archive}: {member.name} is not the archive of one of the 1,000 classes")
            _name(archive, member)
            if (train / wnid).exists():
                continue
            unfinished = train / f".{wnid}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            with _opened(archive, _content(archive, classes, member)) as images:
                for image in images:
                    _write(archive, images, image, unfinished / _name(archive, image))
            unfinished.rename(train / wnid)
            say(f"train/{wnid}")


def unpack_val(archive: Path, devkit: Path, val: Path) -> None:
    """Unpack a flat archive into `val/<wnid>/`, by the development kit's ground truth; skip files that are there."""
    labels = _labels(devkit, val.parent)
    with _opened(archive) as images:
        for image in images:
            match = VAL_NAME.fullmatch(_name(archive, image))
            if match is None or not 0 < int(match[1]) <= len(labels):
                raise UserError(f"{archive}: {image.name} is not a validation image")
            target = val / IMAGENET_CLASSES[labels[int(match[1]) - 1]] / match[0]
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(archive, images, image, target)


def _labels(devkit: Path, root: Path) -> list[int]:
    with _opened(devkit) as files:
        for wanted in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat"):
            inside = f"ILSVRC2012_devkit_t12/data/{wanted}"
            try:
                member = files.getmember(inside)
            except KeyError as error:
                raise UserError(f"{devkit}: {inside} is not in it") from error
            target = root / inside
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(devkit, files, member, target)
    data = root / "ILSVRC2012_devkit_t12" / "data"
    try:
        labels: list[int] = truth_labels(data / "ILSVRC2012_validation_ground_truth.txt", data / "meta.mat").tolist()
    except UserError as error:
        raise UserError(f"{error}; delete that folder, and download {devkit} again") from error
    return labels


def verify(split: Path, expected: int) -> None:
    """Count the images of a split and its classes.

    Raises:
        UserError: too few or too many.
    """
    found = index_folder(split)
    missing = sorted(set(IMAGENET_CLASSES) - set(found.classes))
    if len(found) != expected or missing or len(found.classes) != len(IMAGENET_CLASSES):
        raise UserError(
            f"{split}: {len(found):,} images of {len(found.classes):,} classes instead of {expected:,} of "
            f"{len(IMAGENET_CLASSES):,}{'; without ' + ', '.join(missing[:3]) if missing else ''}; is an archive whole?"
        )
    say(f"{split}: {len(found):,} images of {len(found.classes):,} classes")


@contextmanager
def _opened(path: Path, file: IO[bytes] | None = None) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path) if file is None else tarfile.open(fileobj=file) as archive:
            yield archive
    except FileNotFoundError as error:
        raise UserError(f"{path}: cannot be read as an archive ({error})") from error
    except UserError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise UserError(f"{path}: damaged, or no archive; download it again") from error


def _name(path: Path, member: tarfile.TarInfo) -> str:
    """The last part of a member's path, which must not lead anywhere else."""
    parts = PurePosixPath(member.name).parts
    if not parts or parts[0] == "/" or ".." in parts or parts[-1].startswith("."):
        raise UserError(
            f"{path}: it holds {member.name!r}, a path that leads out of its folder or hides a file; no official "
            "archive has such: download it again"
        )
    return parts[-1]


def _content(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """The content of a member that is a file by itself: a link would give another's, and a sparse one any size."""
    content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        kind = "a link" if member.issym() or member.islnk() else "a sparse file" if member.issparse() else "no file"
        raise UserError(f"{path}: {member.name!r} is {kind}; no official archive has such: download it again")
    return content


def _write(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write the content of a member of the archive at `path` beside its place, then put it there."""
    unfinished = target.with_name(f".{target.name}")
    with _content(path, archive, member) as content, unfinished.open("wb") as file:
        shutil.copyfileobj(content, file)
    unfinished.rename(target)
