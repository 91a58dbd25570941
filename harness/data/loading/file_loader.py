"""Loaders over images in files: decoded by workers, then flipped and normalised on the device, a batch at a time.

Random operations on single images come after the flip, so workers do both where a recipe has them.

They keep the contract of `harness.data.loading.loader`: the same images and pixels for any number of workers and
devices.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from harness.config.facts import Preprocessing
from harness.config.recipe import RecipeConfig
from harness.data.images.augmentation import operations
from harness.data.images.geometry import DRAWS, SCALE_DRAWS
from harness.data.images.image_files import ImageFiles
from harness.data.images.pixels import Normalise
from harness.data.loading import stateless
from harness.data.loading.finish import Finish
from harness.data.loading.loader import Batch, Loader, Unreadable
from harness.data.loading.order import EvalOrder, Start, TrainOrder
from harness.data.loading.stateless import Stream
from harness.data.loading.workers import (
    Again,
    Decoded,
    OperationDraws,
    PictureDecoder,
    Request,
    WindowDecoder,
    decoding,
)


class FileLoader(Loader):
    """Asks worker processes for the windows of each batch, or for whole images.

    Args:
        split: the images.
        order: which of them make which batch.
        decoder: what a worker does.
        workers: processes that decode.
        device: that uses the batches.
    """

    def __init__(
        self,
        split: ImageFiles,
        order: TrainOrder | EvalOrder,
        decoder: WindowDecoder | PictureDecoder,
        workers: int,
        device: torch.device | str,
    ) -> None:
        super().__init__(order, device)
        self.split = split
        self.decoder = decoder.decoder
        self.workers = workers
        self.normalise = Normalise(decoder.preprocessing, device)
        self.start = Start(0, 0)  # of the iteration that the requests are for
        self.decoded = decoding(decoder, Again(self._requests), workers, pinned=self.device.type == "cuda")

    def batches(self) -> Iterator[Batch]:
        """Decoded by workers, finished on the device."""
        self.start = start = self.order.start()
        for chosen, decoded in zip(self.order.chosen(start), self.decoded, strict=True):
            if not decoded.unreadable:
                yield self.finished(start, decoded, chosen.keys, chosen.global_size)
                continue
            rows = self._rows(chosen.indices, decoded)
            batch = self.finished(start, decoded, chosen.keys[rows], chosen.global_size)
            yield batch._replace(rows=rows.to(self.device))

    @abstractmethod
    def finished(self, start: Start, decoded: Decoded, keys: torch.Tensor, global_size: int) -> Batch:
        """What is left to do on the device; draws for the images are functions of `keys`, int64 (m,)."""

    def _rows(self, indices: torch.Tensor, decoded: Decoded) -> torch.Tensor:
        """Rows, among images int64 (n,), of those that could be read, int64 (m,), on the CPU."""
        unreadable = torch.tensor([image for image, _ in decoded.unreadable])
        return torch.isin(indices, unreadable, invert=True).nonzero()[:, 0]

    def draws(self, start: Start, keys: torch.Tensor) -> npt.NDArray[np.float64] | None:
        """Of the windows of images with these keys, int64 (n,); None for those of an evaluation."""
        return None

    def operation_draws(self, start: Start, keys: torch.Tensor) -> OperationDraws | None:
        """Of the random operations on images with these keys, int64 (n,); None if there are none."""
        return None

    def size_at(self, epoch: int) -> int | None:
        """Side of the windows of an epoch; None for that of the network's input."""
        return None

    def _requests(self) -> Iterator[Request]:
        start, size = self.start, self.size_at(self.start.epoch)
        for chosen in self.order.chosen(start):
            places = [self.split.place(index) for index in chosen.indices.tolist()]
            draws = (self.draws(start, chosen.keys), self.operation_draws(start, chosen.keys))
            yield Request(chosen.indices.numpy(), places, *draws, size)


class TrainFileLoader(FileLoader):
    """Shuffled and augmented batches; every epoch is a pure function of (seed, epoch).

    Args:
        split: the images.
        preprocessing: of the network.
        recipe: batch size and augmentation.
        decoder: `fast` or `pil`.
        workers: processes that decode.
        seed: of the run.
        position: tells how many batches of the run are done; read when an epoch starts.
        device: that uses the batches.
        rank: of this device among `devices`.
        devices: how many share a batch.
        max_batches: of an epoch; None for all.
    """

    order: TrainOrder

    def __init__(
        self,
        split: ImageFiles,
        preprocessing: Preprocessing,
        recipe: RecipeConfig,
        *,
        decoder: str,
        workers: int,
        seed: int,
        position: Callable[[], int],
        device: torch.device | str = "cpu",
        rank: int = 0,
        devices: int = 1,
        max_batches: int | None = None,
    ) -> None:
        order = TrainOrder(
            len(split),
            recipe.batch_size,
            seed=seed,
            position=position,
            rank=rank,
            devices=devices,
            max_batches=max_batches,
            pairs=recipe.mixes,
            repeats=recipe.repeats,
        )
        windows = WindowDecoder(
            preprocessing,
            decoder,
            crop_area=recipe.crop_area,
            crop_aspect=recipe.crop_aspect,
            as_viewed=split.as_viewed,
            resize_range=recipe.resize_range,
            operations=operations(recipe),
        )
        super().__init__(split, order, windows, workers, device)
        self.seed = seed
        self.recipe = recipe
        self.preprocessing = preprocessing
        self.mirror = recipe.flip
        self.draws_of_window = SCALE_DRAWS if recipe.resize_range else DRAWS
        self.has_operations = windows.operations is not None
        self.finish = Finish(self.normalise, recipe, preprocessing, seed)

    def draws(self, start: Start, keys: torch.Tensor) -> npt.NDArray[np.float64]:
        """Of random crops: pure functions of (seed, epoch, key)."""
        return stateless.uniform(self.draws_of_window, self.seed, start.epoch, Stream.WINDOW, keys).numpy()

    def operation_draws(self, start: Start, keys: torch.Tensor) -> OperationDraws | None:
        """Of random operations, and of the flips before them: pure functions of (seed, epoch, key)."""
        if not self.has_operations:
            return None
        seeds = stateless.bits(self.seed, start.epoch, Stream.OPERATIONS, keys)
        mirrored = self.mirrored(start, keys) & self.mirror
        return OperationDraws(seeds.numpy(), mirrored.numpy())

    def mirrored(self, start: Start, keys: torch.Tensor) -> torch.Tensor:
        """Which images with keys int64 (n,) are mirrored, if any are: bool (n,)."""
        return stateless.integers(2, self.seed, start.epoch, Stream.FLIP, keys).bool()

    def size_at(self, epoch: int) -> int:
        """Side of the random crops of an epoch."""
        return self.recipe.size_at(epoch, self.preprocessing.size)

    def preprocessing_at(self, size: int) -> Preprocessing:
        """The same for windows of another side."""
        return dataclasses.replace(self.preprocessing, size=size)

    def finished(self, start: Start, decoded: Decoded, keys: torch.Tensor, global_size: int) -> Batch:
        """Mirror, unless the workers have done so, and normalise."""
        images = _on(self.device, decoded)[:, 0]  # (n, C, H, W)
        indices = torch.from_numpy(decoded.indices)
        return self.complete(start, images, indices, keys, global_size, tuple(decoded.unreadable))

    def complete(
        self,
        start: Start,
        images: torch.Tensor,
        indices: torch.Tensor,
        keys: torch.Tensor,
        global_size: int,
        unreadable: tuple[Unreadable, ...] = (),
    ) -> Batch:
        """Make a batch of random crops, uint8 (n, C, H, W) on the device."""
        if self.mirror and not self.has_operations:
            mirrored = self.mirrored(start, keys).nonzero()[:, 0].to(self.device, non_blocking=True)
            images[mirrored] = images[mirrored].flip(-1)  # a third of the time of torch.where over all
        labels = self.split.labels[indices].to(self.device, non_blocking=True)
        finished = self.finish(images, start.epoch, keys)
        return Batch(finished, labels, indices, global_size, unreadable, keys=keys)


class EvalFileLoader(FileLoader):
    """Every image of a split exactly once, in order, unaugmented; device r of R takes images r, r + R, ...

    Every device yields as many batches; the last ones may hold no image.

    Args:
        split: the images.
        preprocessing: of the network.
        batch_size: images of a batch on this device.
        ten_crop: ten views of each image instead of the middle: batches of (n, 10, C, H, W).
        decoder: `fast` or `pil`.
        workers: processes that decode.
        device: that uses the batches.
        rank: of this device among `devices`.
        devices: how many share the split.
        scales: S shorter edges in pixels, at each of which there are 50 views of each image instead of the middle:
            batches of (n, 50 S, C, H, W); empty for none.
    """

    def __init__(
        self,
        split: ImageFiles,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        ten_crop: bool,
        decoder: str,
        workers: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        devices: int = 1,
        scales: Sequence[int] = (),
    ) -> None:
        order = EvalOrder(len(split), batch_size, rank=rank, devices=devices)
        windows = WindowDecoder(preprocessing, decoder, ten_crop, as_viewed=split.as_viewed, scales=scales)
        super().__init__(split, order, windows, workers, device)
        self.views = mirrored_too if scales else ten_views if ten_crop else None

    def finished(self, start: Start, decoded: Decoded, keys: torch.Tensor, global_size: int) -> Batch:
        """Normalise; of the windows of ten or more crops, make the views."""
        windows = _on(self.device, decoded)
        if self.views is not None:
            views = self.views(windows)
            flat = self.normalise(views.flatten(0, 1))
            images = flat.reshape(*views.shape[:2], *flat.shape[1:])
        else:
            images = self.normalise(windows[:, 0])
        indices = torch.from_numpy(decoded.indices)
        labels = self.split.labels[indices].to(self.device, non_blocking=True)
        return Batch(images, labels, indices.to(self.device), global_size, tuple(decoded.unreadable))


def ten_views(windows: torch.Tensor) -> torch.Tensor:
    """The six windows of `six_crop`, (n, 6, C, H, W), as the ten views of torchvision's TenCrop, (n, 10, C, H, W)."""
    corners_and_middle, mirrored = windows[:, :5], windows[:, [1, 0, 3, 2, 5]].flip(-1)
    return torch.cat((corners_and_middle, mirrored), 1)


def mirrored_too(windows: torch.Tensor) -> torch.Tensor:
    """Windows (n, V, C, H, W), and each mirrored: (n, 2 V, C, H, W)."""
    return torch.cat((windows, windows.flip(-1)), 1)


def _on(device: torch.device, decoded: Decoded) -> torch.Tensor:
    """The windows on the device, uint8 (n, V, C, H, W), channels last in memory."""
    return decoded.images.to(device, non_blocking=True).movedim(-1, -3)
