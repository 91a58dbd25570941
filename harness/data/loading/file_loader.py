"""Loaders over images in files: decoded by workers, then flipped and normalised on the device, a batch at a time.

They keep the contract of `harness.data.loader`: same images, same pixels, for any number of workers and devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from harness.config.facts import Preprocessing
from harness.config.recipe import RecipeConfig
from harness.data.images.geometry import DRAWS
from harness.data.images.image_files import ImageFiles
from harness.data.images.pixels import Normalise
from harness.data.loading import stateless
from harness.data.loading.loader import Batch
from harness.data.loading.stateless import Stream
from harness.data.loading.waiting import Waiting
from harness.data.loading.workers import Decoded, Request, Windows, decoding


class TrainFileLoader:
    """Shuffled and augmented batches; every epoch is a pure function of (seed, epoch).

    Args:
        split: the images.
        preprocessing: of the network.
        recipe: batch size, crop and flip.
        decoder: `fast` or `pil`.
        workers: processes that decode.
        seed: of the run.
        position: tells how many batches of the run are done; read when an epoch starts.
        device: that uses the batches.
        rank: of this device among `devices`.
        devices: how many share a batch.
        max_batches: of an epoch; None for all.
    """

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
        self.split = split
        self.batch_size = recipe.batch_size
        self.mirror = recipe.flip
        self.seed = seed
        self.position = position
        self.device = torch.device(device)
        self.rank = rank
        self.devices = devices
        self.normalise = Normalise(preprocessing, device)
        self.waiting = Waiting(device)
        self.workers = workers
        self.decoder = decoder
        batches = -(-len(split) // recipe.batch_size)
        self.batches = batches if max_batches is None else min(batches, max_batches)
        self.start = (0, 0)  # epoch and batch that the next iteration begins with
        crop = (recipe.crop_area, recipe.crop_aspect)
        windows = Windows(preprocessing, decoder, False, *crop, as_viewed=split.as_viewed)
        requests = _Iterable(self._requests)
        self.decoded = decoding(windows, requests, workers, pinned=self.device.type == "cuda")

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        self.start = divmod(self.position(), self.batches)
        self.waiting.reset()
        return self.waiting.over(self._batches())

    def _requests(self) -> Iterator[Request]:
        epoch, first = self.start
        order = stateless.order(self.seed, epoch, len(self.split))
        for number in range(first, self.batches):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size][self.rank :: self.devices]
            draws = stateless.uniform(DRAWS, self.seed, epoch, Stream.WINDOW, chosen).numpy()
            yield Request(chosen.numpy(), [self.split.path(index) for index in chosen.tolist()], draws)

    def _batches(self) -> Iterator[Batch]:
        epoch, first = self.start
        for number, decoded in enumerate(self.decoded, first):
            images = _on(self.device, decoded)[:, 0]  # (n, C, H, W)
            indices = torch.from_numpy(decoded.indices)
            if self.mirror:
                draws = stateless.integers(2, self.seed, epoch, Stream.FLIP, indices)
                mirrored = draws.nonzero()[:, 0].to(self.device, non_blocking=True)
                images[mirrored] = images[mirrored].flip(-1)  # a third of the time of torch.where over all
            labels = self.split.labels[indices].to(self.device, non_blocking=True)
            whole = min(self.batch_size, len(self.split) - number * self.batch_size)
            yield Batch(self.normalise(images), labels, indices, whole, tuple(decoded.unreadable))

    def state_dict(self) -> dict[str, int]:
        """Nothing: the trainer's global step says where an epoch goes on."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to do; its presence tells Lightning that this loader can start in the middle of an epoch."""


class EvalFileLoader:
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
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.ten_crop = ten_crop
        self.device = torch.device(device)
        self.share = torch.arange(len(split))[rank::devices]
        self.batches = -(-len(split) // (devices * batch_size))
        self.normalise = Normalise(preprocessing, device)
        self.waiting = Waiting(device)
        self.workers = workers
        windows = Windows(preprocessing, decoder, ten_crop, as_viewed=split.as_viewed)
        requests = _Iterable(self._requests)
        self.decoded = decoding(windows, requests, workers, pinned=self.device.type == "cuda")

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        self.waiting.reset()
        return self.waiting.over(self._batches())

    def _requests(self) -> Iterator[Request]:
        for number in range(self.batches):
            chosen = self.share[number * self.batch_size : (number + 1) * self.batch_size]
            yield Request(chosen.numpy(), [self.split.path(index) for index in chosen.tolist()], None)

    def _batches(self) -> Iterator[Batch]:
        for decoded in self.decoded:
            windows = _on(self.device, decoded)
            if self.ten_crop:
                views = ten_views(windows)
                flat = self.normalise(views.flatten(0, 1))
                images = flat.reshape(*views.shape[:2], *flat.shape[1:])
            else:
                images = self.normalise(windows[:, 0])
            indices = torch.from_numpy(decoded.indices)
            labels = self.split.labels[indices].to(self.device, non_blocking=True)
            seen = len(indices) + len(decoded.unreadable)
            yield Batch(images, labels, indices.to(self.device), seen, tuple(decoded.unreadable))


class _Iterable:
    """What can be iterated again and again, from a function that makes an iterator."""

    def __init__(self, iterate: Callable[[], Iterator[Request]]) -> None:
        self.iterate = iterate

    def __iter__(self) -> Iterator[Request]:
        return self.iterate()


def ten_views(windows: torch.Tensor) -> torch.Tensor:
    """The six windows of `six_crop`, (n, 6, C, H, W), as the ten views of torchvision's TenCrop, (n, 10, C, H, W)."""
    corners_and_middle, mirrored = windows[:, :5], windows[:, [1, 0, 3, 2, 5]].flip(-1)
    return torch.cat((corners_and_middle, mirrored), 1)


def _on(device: torch.device, decoded: Decoded) -> torch.Tensor:
    """The windows on the device, uint8 (n, V, C, H, W), channels last in memory."""
    return decoded.images.to(device, non_blocking=True).movedim(-1, -3)
