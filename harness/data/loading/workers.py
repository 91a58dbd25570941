"""Processes that turn files into uint8 batches: how many, and what each does.

A worker is sent what it needs with each batch, names and random draws, and holds no index of the data set: nothing in
it grows, however it was started. It decodes in one thread, into a few batches of shared memory that it uses in turns:
making new ones took a twentieth of its time.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from harness.config.facts import Preprocessing
from harness.data.images.augmentation import Operations, own_generator
from harness.data.images.decode import Pixels, pixels_of
from harness.data.images.folder import Place
from harness.data.images.geometry import (
    GRID,
    centre_crop,
    grid_crop,
    random_resized_crop,
    random_scale_crop,
    six_crop,
    whole,
)
from harness.data.images.opening import UnreadableError
from harness.data.loading.loader import Unreadable
from harness.errors import UserError
from harness.run.interruption import SIGNALS

MOST_WORKERS = 16  # of one device: more would hold gigabytes of batches in flight
PREFETCH = 2  # batches that each worker works ahead

Positions = npt.NDArray[np.int64]


class OperationDraws(NamedTuple):
    """What random operations on n images need.

    Attributes:
        seeds: int64 (n,), of all that torchvision draws for an image.
        mirrored: bool (n,), images that are mirrored before.
    """

    seeds: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.bool_]


class Request(NamedTuple):
    """What a worker is asked for.

    Attributes:
        indices: positions in the split (n,).
        places: of the n images.
        draws: float64 (n, `DRAWS` or `SCALE_DRAWS`), uniform in [0, 1), of a random crop; None for an evaluation.
        operations: what random operations need; None if there are none.
        size: side of the windows in pixels; None: that of the network's input.
    """

    indices: Positions
    places: Sequence[Place]
    draws: npt.NDArray[np.float64] | None
    operations: OperationDraws | None = None
    size: int | None = None


class Decoded(NamedTuple):
    """What a worker gives back.

    Attributes:
        images: uint8 (m, V, size, size, 3), V windows of each image that could be read, or all their pixels (P,), whole
            image after whole image; a worker overwrites them once the next batch was asked for.
        indices: positions in the split (m,).
        unreadable: the n - m others.
        sizes: of whole images, int64 (m, S, 2), height and width at each scale; None for windows.
    """

    images: torch.Tensor
    indices: Positions
    unreadable: list[Unreadable]
    sizes: Positions | None = None


class _BatchMemory:
    """Memory for the batches of one worker, used in turns: as many as it may work ahead, and the one in use."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []
        self.turn = 0

    def next(self, shape: tuple[int, ...]) -> torch.Tensor:
        """uint8 of this shape, its content whatever was there."""
        if torch.utils.data.get_worker_info() is None:
            return torch.empty(shape, dtype=torch.uint8)
        if not self.batches or shape[0] > len(self.batches[0]):
            self.batches = []  # all of them are shared, or none is there
            batches = [torch.empty(shape, dtype=torch.uint8) for _ in range(PREFETCH + 1)]
            for batch in batches:
                batch.share_memory_()  # type: ignore[no-untyped-call]
            self.batches = batches
        self.turn = (self.turn + 1) % len(self.batches)
        return self.batches[self.turn][: shape[0]]


@dataclass(frozen=True)
class WindowDecoder(Dataset[Decoded]):
    """Turns requests into windows: it decodes, crops and resizes.

    Attributes:
        preprocessing: sizes, unless a request has its own, and interpolation.
        decoder: `fast` or `pil`.
        ten_crop: whether an evaluation takes the six windows of ten views instead of the middle.
        scales: shorter edges at each of which an evaluation takes a grid of windows instead of the middle.
        crop_area: of a random crop.
        crop_aspect: of a random crop.
        memory: of the process that uses it.
        as_viewed: whether the pixels are those that a viewer shows.
        resize_range: of the shorter edge before a random crop, which then has no random area.
        operations: on each window of training; None for none.
    """

    preprocessing: Preprocessing
    decoder: str
    ten_crop: bool = False
    crop_area: Sequence[float] = ()
    crop_aspect: Sequence[float] = ()
    memory: _BatchMemory = field(default_factory=_BatchMemory)
    as_viewed: bool = False
    resize_range: Sequence[int] = ()
    operations: Operations | None = None
    scales: Sequence[int] = ()

    @property
    def count(self) -> int:
        """Windows of an image."""
        return GRID**2 * len(self.scales) or (6 if self.ten_crop else 1)

    def __getitem__(self, request: Request) -> Decoded:
        """Decode one batch."""
        if request.operations is None:
            return self._decoded(request)
        with own_generator():
            return self._decoded(request)

    def _decoded(self, request: Request) -> Decoded:
        size = request.size or self.preprocessing.size
        images = self.memory.next((len(request.places), self.count, size, size, 3))
        rows = images.numpy()
        kept: list[int] = []
        unreadable = []
        for row, place in enumerate(request.places):
            try:
                pixels = pixels_of(place, self.decoder, self.as_viewed)
            except UnreadableError as error:
                unreadable.append(Unreadable(int(request.indices[row]), str(error)))
            else:
                rows[len(kept)] = self._windows(pixels, request, row)
                kept.append(row)
        return Decoded(images[: len(kept)], request.indices[kept], unreadable)

    def _windows(self, pixels: Pixels, request: Request, row: int) -> Pixels:
        if request.draws is None and self.scales:
            return grid_crop(pixels, self.preprocessing, self.scales, self.decoder)
        if request.draws is None:
            return (six_crop if self.ten_crop else centre_crop)(pixels, self.preprocessing, self.decoder)
        window = self._random_window(pixels, request.draws[row], request.size)
        if request.operations is None or self.operations is None:
            return window
        seed, mirrored = int(request.operations.seeds[row]), bool(request.operations.mirrored[row])
        upright = window[0, :, ::-1] if mirrored else window[0]
        return self.operations(np.ascontiguousarray(upright), seed)[None]

    def _random_window(self, pixels: Pixels, draws: npt.NDArray[np.float64], size: int | None) -> Pixels:
        preprocessing = self.preprocessing
        if size is not None:
            preprocessing = dataclasses.replace(preprocessing, size=size)
        if self.resize_range:
            return random_scale_crop(pixels, draws, preprocessing, self.resize_range, self.decoder)
        crop = (self.crop_area, self.crop_aspect)
        return random_resized_crop(pixels, draws, preprocessing, *crop, self.decoder)


@dataclass(frozen=True)
class PictureDecoder(Dataset[Decoded]):
    """Turns requests into whole images: it decodes each once, and resizes it to every scale.

    Attributes:
        preprocessing: interpolation, and the input's size, which is the least shorter edge.
        decoder: `fast` or `pil`.
        scales: shorter edges in pixels.
        as_viewed: whether the pixels are those that a viewer shows.
        memory: of the process that uses it.
        larger: whether pictures whose shorter edge is less than a scale are resized to it; otherwise they stay as they
            are.
    """

    preprocessing: Preprocessing
    decoder: str
    scales: Sequence[int]
    as_viewed: bool = False
    memory: _BatchMemory = field(default_factory=_BatchMemory)
    larger: bool = True

    def __getitem__(self, request: Request) -> Decoded:
        """Decode one batch."""
        kept: list[int] = []
        pictures: list[Pixels] = []
        unreadable = []
        for row, place in enumerate(request.places):
            try:
                pixels = pixels_of(place, self.decoder, self.as_viewed)
                pictures += self.pictures(pixels)
            except UnreadableError as error:
                unreadable.append(Unreadable(int(request.indices[row]), str(error)))
            else:
                kept.append(row)
        images, end = self.memory.next((sum(picture.size for picture in pictures) or 1,)), 0  # there is no empty memory
        for picture in pictures:
            images.numpy()[end : end + picture.size] = picture.reshape(-1)
            end += picture.size
        sizes = np.array([picture.shape[:2] for picture in pictures], dtype=np.int64)
        return Decoded(images, request.indices[kept], unreadable, sizes.reshape(len(kept), len(self.scales), 2))

    def pictures(self, pixels: Pixels) -> list[Pixels]:
        """The picture at each scale."""
        if not self.larger:
            edge = min(pixels.shape[:2])
            return [pixels if edge <= scale else self._at(pixels, scale) for scale in self.scales]
        return [self._at(pixels, scale) for scale in self.scales]

    def _at(self, pixels: Pixels, scale: int) -> Pixels:
        return whole(pixels, self.preprocessing, scale, self.decoder)


class Again:
    """Requests that can be iterated again and again, from a function that makes an iterator."""

    def __init__(self, iterate: Callable[[], Iterator[Request]]) -> None:
        self.iterate = iterate

    def __iter__(self) -> Iterator[Request]:
        return self.iterate()


class _Decoding(DataLoader[Decoded]):
    """A loader that tells in a line what its workers die of."""

    def __iter__(self) -> Iterator[Decoded]:  # type: ignore[override]  # an iterator is enough
        """Decode.

        Raises:
            UserError: no memory that workers could share is left, or a worker was killed.
        """
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            said = str(error)
            if "shared memory" in said or "Bus error" in said:
                raise UserError(
                    "the memory that worker processes share (/dev/shm) is full: trainer.workers=0 decodes without it, "
                    "and fewer workers or smaller batches need less of it"
                ) from error
            if re.search(r"DataLoader worker .* (exited unexpectedly|is killed by signal)", said):
                raise UserError(
                    "a worker process that decodes images was killed: did the machine run out of memory? Try fewer "
                    "trainer.workers, or smaller batches"
                ) from error
            raise


def decoding(
    decoder: WindowDecoder | PictureDecoder, requests: Iterable[Request], workers: int, pinned: bool
) -> DataLoader[Decoded]:
    """Decode the requests, in their order, by worker processes; by this process if there are none.

    Each iteration starts its own and ends them: what they cost is nothing beside an epoch, and none is left behind.

    Args:
        decoder: what is done.
        requests: iterated anew in each epoch.
        workers: processes.
        pinned: whether batches come in memory that a GPU can read by itself.
    """
    return _Decoding(
        decoder,
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_unchanged,  # otherwise arrays become tensors, and every tensor is sent by a file of its own
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pinned,
        worker_init_fn=_begin,
        multiprocessing_context=_clean_processes() if workers else None,
        generator=torch.Generator(),  # otherwise it would draw from the global one
    )


def _clean_processes() -> BaseContext:
    """Starts workers from a process without threads, which has loaded what they need.

    A copy of this process, torch's default, can hang for ever: it also copies a lock that one of the threads of torch's
    process group holds at that moment, and which nobody in the copy gives back. Ctrl-C, which reaches every process of
    a terminal, and the signals with which a scheduler warns every process of a job are for the main one alone.
    """
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "hydra"])
    here = os.open(".", os.O_RDONLY)
    os.chdir(Path(__file__).parents[3])  # the process looks there first for what it loads
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # which they and the workers inherit
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # it unblocks some
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.fchdir(here)
        os.close(here)
    return context


def _unchanged(decoded: Any) -> Any:
    return decoded


def _begin(_: int) -> None:
    """Let the run's main process say when this worker ends, and end with it."""
    threading.Thread(target=_end_with_main, daemon=True).start()
    if not hasattr(signal, "sigwaitinfo"):  # on a Mac
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what the main process does with it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return
    threading.Thread(target=_end_if_main_says_so, daemon=True).start()


def _end_with_main() -> None:
    """End this worker once the main process is gone: one that is killed tells nobody.

    torch looks after the process that started the workers, which is another.
    """
    main = multiprocessing.parent_process()
    assert main is not None
    multiprocessing.connection.wait([main.sentinel])
    os._exit(1)


def _end_if_main_says_so() -> None:
    """End this worker at a SIGTERM of the main process; a scheduler's goes to all, and the main process answers it."""
    main = multiprocessing.parent_process()
    assert main is not None
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main.pid:
        pass
    os._exit(0)


def workers_at_hand(cores: int, devices: int, on_cpu: bool, batch_bytes: int, memory: int) -> int:
    """How many workers each device gets: its share of the cores, as far as their batches fit into shared memory.

    Args:
        cores: of this machine.
        devices: that share them.
        on_cpu: whether the network runs on the cores as well: decoding is then the smaller part by far.
        batch_bytes: of one device's uint8 batch.
        memory: bytes for the batches of all devices; half of it is used.
    """
    wanted = 1 if on_cpu else max(1, min(MOST_WORKERS, cores // devices))
    return min(wanted, memory // 2 // (devices * batch_bytes * (PREFETCH + 1)))
