"""What a run writes down of a user's own pictures: how they were divided, and which are on two sides at once.

An evaluation of the run looks there, and reports on none that it has learnt from. A picture is known by its content,
which a thread reads beside the training: until that is done, `split.csv` lacks its last column.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np

from harness.data.images.digests import digests_of
from harness.data.images.folder import Facts, line_of_others, printable
from harness.data.images.image_files import ImageFiles
from harness.data.sources.splits import Split, Splits
from harness.errors import UserError
from harness.evaluation.plausibility import FORCE
from harness.run.files import csv_text, read_rows, read_table, write_text
from harness.run.interruption import Interruption
from harness.run.log import log
from harness.training.unreadable import UnreadableImages

SPLIT_FILE = "split.csv"
DUPLICATES_FILE = "duplicates.csv"
DUPLICATES = ("image", "split", "same_as", "its_split")
COLUMNS = ["image", "class", "split", "bytes", "sha256"]
KNOWN_UNREAD = 4  # of the columns
MOST_DIGITS = 19  # of the bytes of a picture
SHOWN = 20  # classes in a line
LOOK_EVERY = 0.2  # seconds between two looks at whether the run is to stop


class Picture(NamedTuple):
    """What is known of a picture before it is read: its id, its class, the name of its split, its file's size."""

    image: str
    label: str
    split: str
    bytes: int


@dataclass(frozen=True)
class Pictures:
    """All pictures of a run, split by split.

    Attributes:
        splits: each with its name.
        places: the folder of each split, absolute: to start workers, the process leaves its own for a moment.
        names: of the files of each split, relative to its folder.
        facts: of the files of each split.
    """

    splits: list[tuple[str, ImageFiles]]
    places: list[Path]
    names: list[list[bytes]]
    facts: list[Facts]

    @classmethod
    def of(cls, splits: Splits) -> Pictures:
        """Those of a run; every file is asked for its size, and none is read."""
        named = [(field.name, getattr(splits, field.name)) for field in fields(splits)]
        in_files = [(name, images) for name, images in named if isinstance(images, ImageFiles)]
        every = {images.folder: list(images.folder.every_name()) for _, images in in_files}
        names = [[every[images.folder][at] for at in images.positions.tolist()] for _, images in in_files]
        facts = [images.folder.facts(some, images.positions) for (_, images), some in zip(in_files, names, strict=True)]
        return cls(in_files, [images.folder.root.absolute() for _, images in in_files], names, facts)

    def __len__(self) -> int:
        return sum(map(len, self.names))

    def listed(self, class_names: Sequence[str]) -> Iterator[Picture]:
        """What is known of each at once."""
        for (split, images), names, facts in zip(self.splits, self.names, self.facts, strict=True):
            sizes, labels = facts[:, 0].tolist(), images.labels.tolist()
            for name, label, size in zip(names, labels, sizes, strict=True):
                yield Picture(f"{images.prefix}/{printable(name)}", class_names[label], split, size)

    def read(self, stop: threading.Event) -> list[str]:
        """SHA-256 of every picture in hexadecimal digits; of one that cannot be read, and has no twin, of its path.

        The digest is empty where the reading was stopped before; the cache keeps the others.
        """
        contents: list[list[str]] = [[] for _ in self.splits]
        for place in set(self.places):
            here = [number for number, other in enumerate(self.places) if other == place]
            names = [name for number in here for name in self.names[number]]
            facts = np.concatenate([self.facts[number] for number in here])
            known = [self.splits[number][1] for number in here]
            pieces = known[0].folder.pieces(np.concatenate([images.positions for images in known]))
            digests = iter(digests_of(place, names, facts, keep=True, stopped=stop.is_set, pieces=pieces))
            for number in here:
                images = self.splits[number][1]
                contents[number] = [
                    _of_path(images, index) if digest is None else digest
                    for index, digest in zip(range(len(images)), digests)  # noqa: B905  # the rest is the next split's
                ]
        return [content for split in contents for content in split]


class Division(L.Callback):
    """Writes the division before training starts, and when it goes on; reads the pictures beside the training.

    Args:
        folder: of the run.
        splits: of images in files.
        class_names: in label order.
        interruption: of the run, which waits for nothing once it is to stop.
    """

    def __init__(
        self, folder: Path, splits: Splits, class_names: Sequence[str], interruption: Interruption | None = None
    ) -> None:
        self.folder = folder
        self.splits = splits
        self.class_names = class_names
        self.interruption = interruption
        self._pictures: list[Picture] = []
        self._before: list[str] = []  # their contents, as far as the run knew them already
        self._stop = threading.Event()
        self._reading: Future[list[str]] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, and start to read."""
        if trainer.is_global_zero:
            self.begin()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Finish as soon as everything is read."""
        if self._reading is not None and self._reading.done():
            self.finish()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Finish before the epoch's checkpoint is written, unless the run is to stop."""
        while self._reading is not None and not wait([self._reading], LOOK_EVERY).done:
            if self.interruption is not None and self.interruption.received is not None:
                return
        self.finish()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Finish before anything is reported; also after a run with nothing left to train."""
        self.finish()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop reading; what was read is kept."""
        self.stop()

    def begin(self) -> None:
        """Write which image is in which split, say which classes there are, and start to read the pictures.

        Raises:
            UserError: the run began with another division.
        """
        pictures = Pictures.of(self.splits)
        self._pictures = list(pictures.listed(self.class_names))
        self._before = self._contents_before()
        if not all(self._before):
            self._write(self._before)
        log.info(f"classes: {', '.join(self.class_names[:SHOWN])}{', ...' if len(self.class_names) > SHOWN else ''}")
        for split in {images.folder.root: images for _, images in pictures.splits}.values():
            warn_of_others(split)
        log.info(f"reading {len(pictures):,} pictures once, to know them again")
        thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._reading = thread.submit(pictures.read, self._stop)
        thread.shutdown(wait=False)  # it takes no other task

    def finish(self) -> None:
        """Wait until every picture is read; write down their contents, and warn of those that are in two splits.

        Raises:
            UserError: the run began with pictures of another content.
        """
        if self._reading is None:
            return
        reading, self._reading = self._reading, None
        contents = reading.result()
        if any(before not in ("", now) for before, now in zip(self._before, contents, strict=True)):
            raise self._of_others()
        if self._before != contents:
            self._write(contents)
        twice = duplicates(self._pictures, contents)
        if twice:
            rows = ((picture.image, picture.split, other.image, other.split) for picture, other in twice)
            write_text(self.folder / DUPLICATES_FILE, csv_text(DUPLICATES, rows))
            log.warning(f"{_of_duplicates(twice)}; {self.folder / DUPLICATES_FILE} lists them")
        self._pictures, self._before = [], []  # a million of them are hundreds of megabytes

    def stop(self) -> None:
        """Read no further."""
        if self._reading is not None:
            self._stop.set()
            wait([self._reading])

    def _contents_before(self) -> list[str]:
        """What the run's own file says of each picture's content; empty where it says nothing."""
        file = self.folder / SPLIT_FILE
        lines = read_rows(file) if file.exists() else []
        if not lines:
            return [""] * len(self._pictures)
        columns = min(len(lines[0]), KNOWN_UNREAD)  # an older file may have fewer
        now = [COLUMNS, *(list(map(str, picture)) for picture in self._pictures)]
        if [line[:columns] for line in lines] != [row[:columns] for row in now]:
            raise self._of_others()
        return [line[KNOWN_UNREAD] if len(line) > KNOWN_UNREAD else "" for line in lines[1:]]

    def _of_others(self) -> UserError:
        return UserError(
            f"{self.folder / SPLIT_FILE}: the pictures are not those that this run began with, or lie in other "
            "folders; put them back, or start a new run"
        )

    def _write(self, contents: Sequence[str]) -> None:
        rows = ((*picture, content) for picture, content in zip(self._pictures, contents, strict=True))
        write_text(self.folder / SPLIT_FILE, csv_text(COLUMNS, rows))


def watch_files(
    folder: Path, splits: Splits, class_names: Sequence[str], interruption: Interruption
) -> list[Division | UnreadableImages]:
    """What a run on images in files has beside others; of a user's own, their division is written down."""
    if not (isinstance(splits.train, ImageFiles) and isinstance(splits.validation, ImageFiles)):
        return []
    unreadable = UnreadableImages(folder, splits.train, splits.validation)
    if not splits.train.as_viewed:
        return [unreadable]
    return [Division(folder, splits, class_names, interruption), unreadable]


def _of_path(images: ImageFiles, index: int) -> str:
    return hashlib.sha256(images.path(index)).hexdigest()


def duplicates(pictures: Sequence[Picture], contents: Sequence[str]) -> list[tuple[Picture, Picture]]:
    """Pictures of the validation and the test split whose content is that of one in another split before them.

    Returns:
        Each with that other one.
    """
    first: dict[str, Picture] = {}
    pairs = ((picture, first.setdefault(content, picture)) for picture, content in zip(pictures, contents, strict=True))
    return sorted((picture, other) for picture, other in pairs if other.split != picture.split)


def _of_duplicates(twice: Sequence[tuple[Picture, Picture]]) -> str:
    """A line about pictures in two splits; those with two labels come first, since one of the two is wrong."""
    wrong = [pair for pair in twice if pair[0].label != pair[1].label]
    picture, other = (wrong or twice)[0]
    line = (
        f"the same picture in two splits: {'once' if len(twice) == 1 else f'{len(twice):,} times'}, such as "
        f"{picture.image} in {picture.split}, which is {other.image} in {other.split}"
    )
    if len(wrong) < len(twice):
        line += "; this makes the error rate too good"
    return f"{line}; {len(wrong):,} of them with two labels, one of which is wrong" if wrong else line


def warn_of_others(split: Split) -> None:
    """Say how many files in the folders of classes, or among those, are passed by."""
    if isinstance(split, ImageFiles) and split.folder.others[1]:
        such_as, count = split.folder.others
        log.warning(line_of_others(split.folder.root, count, such_as))


def read_division(file: Path) -> dict[str, int]:
    """Size in bytes of each picture that a run is trained on or selected by, by its SHA-256; empty of an older run."""
    rows = read_table(file, COLUMNS[:KNOWN_UNREAD])
    if rows and list(rows[0]) != COLUMNS:
        return {}
    if not all(row["bytes"].isdecimal() and len(row["bytes"]) <= MOST_DIGITS for row in rows):
        raise UserError(f"{file}: damaged: bytes must be whole numbers")
    return {row["sha256"]: int(row["bytes"]) for row in rows if row["split"] != "test"}


def check_unseen(run: Path, split: Split) -> None:
    """Refuse to report on pictures that a run was trained on or selected by: its folder may have changed since.

    A picture is known by its content; only those of a size that the run has seen are read.

    Args:
        run: its folder.
        split: that is to be reported on.

    Raises:
        UserError: naming the first, or the run was stopped before it had read its pictures.
    """
    file = run / SPLIT_FILE
    if not file.is_file() or not isinstance(split, ImageFiles):
        return
    used = read_division(file)
    if "" in used:
        raise UserError(
            f"{file}: the run was stopped before it had read its pictures, so nothing tells whether those to report on "
            f"are among them; let it go on first: python train.py resume='{run}'{FORCE}"
        )
    names = [split.name(index) for index in range(len(split))]
    facts = split.folder.facts(names, split.positions)
    alike = np.flatnonzero(np.isin(facts[:, 0], list(used.values())))
    pieces = split.folder.pieces(split.positions[alike])
    some = [names[index] for index in alike]
    contents = digests_of(split.folder.root, some, facts[alike], keep=False, pieces=pieces)
    seen = [split.id_of(index) for index, content in zip(alike.tolist(), contents, strict=True) if content in used]
    if seen:
        raise UserError(
            f"{file}: {len(seen):,} of the {len(split):,} pictures to report on are ones that the run was "
            f"trained on or selected by, such as {seen[0]}; did the folder change, or is it divided otherwise?{FORCE}"
        )
