"""A cache of a training split's pictures, `data.cache=256`: resized once to that shorter edge, uint8, in one file.

Workers of all processes map the file into memory and cut their crops out of it: nothing is decoded again. It lies in
the user's cache, under a name that is a hash of all that made it. A build that was killed goes on where it stopped. An
evaluation never sees these pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from harness.config.facts import Preprocessing
from harness.data.images.decode import decode, read
from harness.data.images.folder import Place, cache_file
from harness.data.images.image_files import ImageFiles
from harness.data.images.mapped import read_arrays, write_arrays
from harness.data.images.opening import UnreadableError
from harness.data.images.pieces import Small
from harness.data.loading.workers import Again, PictureDecoder, Request, decoding, workers_at_hand
from harness.errors import UserError
from harness.run.bar import counted
from harness.run.files import atomic
from harness.run.log import log
from harness.run.machine import available_cores, shared_memory

CACHE_VERSION = 1  # of how pictures are made small; another way gets another number
BATCH = 32  # pictures that a worker makes at once
SAFE = 2**26  # bytes after which what was made is on the disk
SAMPLED = 64  # pictures from which the room that all need is estimated
MARGIN = 1.05  # of that room

Sizes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class SmallFiles(ImageFiles):
    """Images of a training split that are read from the cache; those that could not be read there, from their files.

    Attributes:
        pixels: path of the file of all pixels.
        sizes: int32 (N, 2), height and width of each; 0 for one that could not be read.
        starts: int64 (N,), where the pixels of each begin.
    """

    pixels: bytes = b""
    sizes: Sizes = dataclasses.field(default_factory=lambda: np.zeros((0, 2), dtype=np.int32))
    starts: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Of all pixels."""
        return int(_starts(self.sizes)[-1])

    def place(self, index: int) -> Place:
        """Where the pixels of one image lie."""
        height, width = self.sizes[index].tolist()
        return Small(self.pixels, int(self.starts[index]), height, width) if height else super().place(index)


def make_small(split: ImageFiles, size: int, decoder: str, interpolation: str, workers: int | None) -> SmallFiles:
    """The same images, read from the cache, which is made or finished first.

    Args:
        split: the images; whoever asks for the same ones, in another process as well, waits for the first.
        size: shorter edge in pixels; smaller pictures stay as they are.
        decoder: `fast` or `pil`.
        interpolation: `bilinear` or `bicubic`.
        workers: processes that decode; None: as many as there are cores.

    Raises:
        UserError: too little room on the disk, or no place that can be written.
    """
    folder = _place(split, size, decoder, interpolation)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            sizes = _finished(folder)
            if sizes is None:
                made = PictureDecoder(
                    _preprocessing(size, interpolation), decoder, [size], split.as_viewed, larger=False
                )
                sizes = _build(split, folder, made, workers)
    except OSError as error:
        raise UserError(
            f"data.cache={size}: {error.filename or folder} cannot be written ({error.strerror or error}); "
            "XDG_CACHE_HOME names another place for caches"
        ) from error
    known = {field.name: getattr(split, field.name) for field in dataclasses.fields(ImageFiles)}
    return SmallFiles(**known, pixels=os.fsencode(folder / "pixels"), sizes=sizes, starts=_starts(sizes)[:-1])


def _preprocessing(size: int, interpolation: str) -> Preprocessing:
    return Preprocessing(3, size, size, interpolation, (0.0,) * 3, (1.0,) * 3)


def _place(split: ImageFiles, size: int, decoder: str, interpolation: str) -> Path:
    """The folder of the cache, by all that its content depends on."""
    names = list(split.folder.every_name())
    facts = split.folder.facts([names[position] for position in split.positions.tolist()], split.positions)
    how = f"{CACHE_VERSION} {size} {decoder} {interpolation} {split.as_viewed} {split.listing()} "
    digest = hashlib.sha256(how.encode() + np.ascontiguousarray(facts[:, :2]).tobytes()).hexdigest()
    return cache_file("index", split.folder.root).parent / f"small-{size}-{digest[:32]}"


def _starts(sizes: Sizes) -> npt.NDArray[np.int64]:
    """Where the pixels of each picture begin, and where the last end, int64 (N + 1,)."""
    return np.concatenate(([0], sizes.astype(np.int64).prod(axis=1).cumsum() * 3))


def _finished(folder: Path) -> Sizes | None:
    """The sizes of all pictures; None if they are not all there."""
    index, pixels = read_arrays(folder / "index"), folder / "pixels"
    if index is None or not pixels.is_file():
        return None
    sizes: Sizes = index.arrays["sizes"]
    return sizes if pixels.stat().st_size == _starts(sizes)[-1] else None


def _build(split: ImageFiles, folder: Path, made: PictureDecoder, workers: int | None) -> Sizes:
    """Make what is missing, in order: a file of pixels, and one of sizes, which tells how far the first is whole."""
    pixels, journal = folder / "pixels", folder / "sizes"
    with pixels.open("ab") as pixel_file, journal.open("ab") as journal_file:
        done = _whole(pixel_file, journal_file)
        _check_room(split, folder, made, done)
        log.info(f"making small pictures of {len(split) - done:,} images, once: {folder}")
        if workers is None:
            batch_bytes = 3 * BATCH * made.scales[0] ** 2 * 4 // 3
            workers = workers_at_hand(available_cores(), 1, False, batch_bytes, shared_memory())
        requests = Again(lambda: _requests(split, done))
        with counted("making small pictures", len(split), "pictures") as count:
            count(done)
            unsafe, rows = 0, list[Sizes]()
            for decoded in decoding(made, requests, workers, pinned=False):
                assert decoded.sizes is not None
                sizes = np.zeros((len(decoded.indices) + len(decoded.unreadable), 2), dtype=np.int32)
                first = min([*decoded.indices.tolist(), *(bad.image for bad in decoded.unreadable)])
                sizes[decoded.indices - first] = decoded.sizes[:, 0]
                pixel_file.write(decoded.images.numpy()[: int(_starts(sizes)[-1])].data)
                rows.append(sizes)
                unsafe += int(_starts(sizes)[-1])
                if unsafe > SAFE:
                    _make_safe(pixel_file, journal_file, rows)
                    unsafe, rows = 0, []
                count(len(sizes))
            _make_safe(pixel_file, journal_file, rows)
    whole: Sizes = np.fromfile(journal, dtype=np.int32).reshape(-1, 2)
    with atomic(folder / "index") as file:
        write_arrays(file, {"version": CACHE_VERSION}, {"sizes": whole})
    journal.unlink()
    return whole


def _make_safe(pixel_file: IO[bytes], journal_file: IO[bytes], rows: list[Sizes]) -> None:
    """First the pixels are on the disk, then what tells of them."""
    pixel_file.flush()
    os.fsync(pixel_file.fileno())
    for sizes in rows:
        journal_file.write(sizes.tobytes())
    journal_file.flush()
    os.fsync(journal_file.fileno())


def _whole(pixel_file: IO[bytes], journal_file: IO[bytes]) -> int:
    """Cut both files back to the pictures that are whole in both; how many these are."""
    with open(journal_file.name, "rb") as file:  # noqa: PTH123  # an open file's name
        content = file.read()
    sizes: Sizes = np.frombuffer(content[: len(content) // 8 * 8], dtype=np.int32).reshape(-1, 2)
    starts, there = _starts(sizes), os.fstat(pixel_file.fileno()).st_size
    done = int(starts.searchsorted(there, side="right")) - 1
    pixel_file.truncate(int(starts[done]))
    journal_file.truncate(8 * done)
    return done


def _requests(split: ImageFiles, done: int) -> Iterator[Request]:
    for first in range(done, len(split), BATCH):
        indices = np.arange(first, min(first + BATCH, len(split)))
        yield Request(indices, [split.place(index) for index in indices.tolist()], None)


def _check_room(split: ImageFiles, folder: Path, made: PictureDecoder, done: int) -> None:
    """Raise `UserError` if the disk has too little room for what is missing, judged by some pictures."""
    sampled = np.linspace(done, len(split) - 1, min(SAMPLED, len(split) - done)).astype(int).tolist()
    found = []
    for index in sampled:
        try:
            picture = decode(read(split.place(index)), made.decoder, made.as_viewed)
            found.append(sum(one.size for one in made.pictures(picture)))
        except UnreadableError:
            continue
    needed = MARGIN * float(np.mean(found or [0])) * (len(split) - done)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"data.cache={made.scales[0]}: needs about {needed / 1e9:,.1f} GB in {folder.parent}, where "
            f"{free / 1e9:,.1f} GB are free; a smaller data.cache needs less, and XDG_CACHE_HOME names another place"
        )
