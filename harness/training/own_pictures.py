"""What a run writes down of a user's own pictures: how they were divided, and which are on two sides at once.

An evaluation of the run looks there, and reports on none that it has learnt from.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import lightning as L

from harness.data.images.decode import UnreadableError, read
from harness.data.images.folder import EXTENSIONS
from harness.data.images.image_files import ImageFiles
from harness.data.sources.splits import Split, Splits
from harness.errors import UserError
from harness.evaluation.meaning import FORCE
from harness.run.files import write_text
from harness.run.folder import log
from harness.run.machine import available_cores
from harness.training.unreadable import UnreadableImages

SPLIT_FILE = "split.csv"
DUPLICATES_FILE = "duplicates.csv"
COLUMNS = ["image", "class", "split", "bytes", "sha256"]
SHOWN = 20  # classes in a line


class Division(L.Callback):
    """Writes them before training starts, and when it goes on.

    Args:
        folder: of the run.
        splits: of images in files.
        class_names: in label order.
    """

    def __init__(self, folder: Path, splits: Splits, class_names: Sequence[str]) -> None:
        self.folder = folder
        self.splits = splits
        self.class_names = class_names

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write and warn."""
        if trainer.is_global_zero:
            write_division(self.folder, self.splits, self.class_names)


def watch_files(folder: Path, splits: Splits, class_names: Sequence[str]) -> list[Division | UnreadableImages]:
    """What a run on images in files has beside others; of a user's own, their division is written down."""
    if not (isinstance(splits.train, ImageFiles) and isinstance(splits.validation, ImageFiles)):
        return []
    unreadable = UnreadableImages(folder, splits.train, splits.validation)
    return [Division(folder, splits, class_names), unreadable] if splits.train.as_viewed else [unreadable]


def write_division(folder: Path, splits: Splits, class_names: Sequence[str]) -> None:
    """Write which image is in which split, say which classes there are, and warn of pictures that are in two.

    Args:
        folder: of the run.
        splits: of images in files.
        class_names: in label order.

    Raises:
        UserError: the run began with another division.
    """
    pictures = read_pictures(splits)
    rows = [(p.image, class_names[p.label], p.split, p.bytes, p.sha256) for p in pictures]
    table, file = [COLUMNS, *(list(map(str, row)) for row in rows)], folder / SPLIT_FILE
    before = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8")))) if file.exists() else []
    if before and before != [row[: len(before[0])] for row in table]:  # which may be older, and have fewer columns
        raise UserError(
            f"{file}: the pictures are not those that this run began with, or lie in other folders; put them back, or "
            "start a new run"
        )
    write_text(file, _csv(table))
    log.info(f"classes: {', '.join(class_names[:SHOWN])}{', ...' if len(class_names) > SHOWN else ''}")
    for split in {split.folder.root: split for _, split in _named(splits)}.values():
        warn_of_others(split)
    twice = duplicates(pictures)
    if twice:
        write_text(folder / DUPLICATES_FILE, _csv([("image", "split", "same_as", "its_split"), *twice]))
        image, where, other, elsewhere = twice[0]
        log.warning(
            f"the same picture in two splits: {len(twice):,} times, such as {image} in {where}, which is {other} in "
            f"{elsewhere}; this makes the error rate too good; {folder / DUPLICATES_FILE} lists them"
        )


def warn_of_others(split: Split) -> None:
    """Say how many files in the folders of classes, or among those, are passed by."""
    if isinstance(split, ImageFiles) and split.folder.others[1]:
        such_as, count = split.folder.others
        log.warning(
            f"{split.folder.root}: {count:,} file{'s are' if count > 1 else ' is'} passed by, such as {such_as}: names "
            f"of images end in {' '.join(EXTENSIONS)}"
        )


def check_unseen(run: Path, split: Split) -> None:
    """Refuse to report on pictures that a run was trained on or selected by: its folder may have changed since.

    A picture is known by its content; only those of a size that the run has seen are read.

    Args:
        run: its folder.
        split: that is to be reported on.

    Raises:
        UserError: naming the first.
    """
    if not (run / SPLIT_FILE).is_file() or not isinstance(split, ImageFiles):
        return
    with (run / SPLIT_FILE).open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        used = {
            row["sha256"]: int(row["bytes"]) for row in rows if row["split"] != "test" and rows.fieldnames == COLUMNS
        }
    sizes = set(used.values())
    alike = [index for index in range(len(split)) if split.size_of(index) in sizes]
    seen = [split.id_of(index) for index in alike if _digest(split.path(index)) in used]
    if seen:
        raise UserError(
            f"{run / SPLIT_FILE}: {len(seen):,} of the {len(split):,} pictures to report on are ones that the run was "
            f"trained on or selected by, such as {seen[0]}; did the folder change, or is it divided otherwise?{FORCE}"
        )


class Picture(NamedTuple):
    """One of a split: its id, the position of its class, the name of the split, and its file's size and content."""

    image: str
    label: int
    split: str
    bytes: int
    sha256: str


def read_pictures(splits: Splits) -> list[Picture]:
    """All of them, split by split; every file is read once, by as many threads as there are cores."""
    named = [(name, split, index) for name, split in _named(splits) for index in range(len(split))]
    log.info(f"reading {len(named):,} pictures once, to know them again")
    with ThreadPoolExecutor(available_cores()) as threads:
        digests = threads.map(_digest, [split.path(index) for _, split, index in named])
        return [
            Picture(split.id_of(index), int(split.labels[index]), name, split.size_of(index), digest)
            for (name, split, index), digest in zip(named, digests, strict=True)
        ]


def duplicates(pictures: Sequence[Picture]) -> list[tuple[str, str, str, str]]:
    """Pictures of the validation and the test split whose content is that of one in another split before them.

    Returns:
        Id and split of the picture, and of the other one.
    """
    first: dict[str, Picture] = {}
    found = []
    for picture in pictures:
        other = first.setdefault(picture.sha256, picture)
        if other.split != picture.split:
            found.append((picture.image, picture.split, other.image, other.split))
    return sorted(found)


def _named(splits: Splits) -> list[tuple[str, ImageFiles]]:
    named = [(field.name, getattr(splits, field.name)) for field in fields(splits)]
    return [(name, split) for name, split in named if isinstance(split, ImageFiles)]


def _digest(path: bytes) -> str:
    """SHA-256 of a file; of one that cannot be read, and has no twin, its name."""
    try:
        content = read(path)
    except UnreadableError:
        content = path
    return hashlib.sha256(content).hexdigest()


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
