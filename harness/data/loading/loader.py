"""What every loader is, and the loaders over a split that lies whole on the device: no workers, no per-image Python.

The contract: a loader knows its rank, the number of devices, its position and its length, shards itself, keeps the
last, smaller batch, and yields `Batch`. For the same (seed, epoch) the images of global batch number b are the same,
with the same pixels, for any number of devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from harness.config.facts import Preprocessing
from harness.config.recipe import RecipeConfig
from harness.data.images.augmentation import DISTORTION_DRAWS, Operations, distort, operations, own_generator
from harness.data.images.image_set import ImageSet
from harness.data.images.pixels import Normalise, crop, flip, pad_to
from harness.data.loading import stateless
from harness.data.loading.finish import Finish
from harness.data.loading.order import EvalOrder, TrainOrder
from harness.data.loading.stateless import Stream
from harness.data.loading.waiting import Waiting


class Unreadable(NamedTuple):
    """An image that could not be read: its position in the split, and why."""

    image: int
    reason: str


@dataclass(frozen=True)
class Pictures:
    """Whole images, whose sizes differ.

    Attributes:
        scaled: of each image, float32 (C, H, W) at each scale; normalised.
        input_size: side in pixels of the square images that the network was made for.
    """

    scaled: list[list[torch.Tensor]]
    input_size: int


class Batch(NamedTuple):
    """One device's share of a batch.

    Attributes:
        images: float32 (n, C, H, W), or (n, V, C, H, W) with V views of each; normalised; n may be 0 on some devices.
        labels: int64 (n,).
        indices: int64 (n,), positions in the split.
        global_size: images of the batch over all devices, those that could not be read among them.
        unreadable: this device's images that could not be read; they are in none of the above.
        rows: int64 (n,), the rows that the images would have in this device's share if all could be read, rising; None
            if all could.
        keys: int64 (n,), what random draws for the images are functions of, beside seed and epoch: `Chosen.keys`; None
            for `indices`.
        pictures: the images of a protocol that sees them whole, instead of `images`, which then is empty.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    global_size: int
    unreadable: tuple[Unreadable, ...] = ()
    rows: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    pictures: Pictures | None = None


class Loader(ABC):
    """Batches in an order; it measures how long they were waited for.

    Args:
        order: which images make which batch.
        device: that uses the batches.
    """

    def __init__(self, order: TrainOrder | EvalOrder, device: torch.device | str) -> None:
        self.order = order
        self.device = torch.device(device)
        self.waiting = Waiting(device)

    def __len__(self) -> int:
        return self.order.batches

    def __iter__(self) -> Iterator[Batch]:
        return self.waiting.over(self.batches())

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """This device's share of each batch that is left of an epoch."""

    def state_dict(self) -> dict[str, int]:
        """Nothing: the trainer's global step says where an epoch goes on."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:  # noqa: B027  # it is no abstract one
        """Nothing to do; its presence tells Lightning that this loader can start in the middle of an epoch."""


class TrainLoader(Loader):
    """Shuffled and augmented batches; every epoch is a pure function of (seed, epoch).

    Args:
        split: the images, moved to `device` once.
        preprocessing: of the network.
        batch_size: images of a batch over all devices.
        crop_padding: black pixels on each side from which a window of the input's size is drawn.
        mirror: whether each image is mirrored with probability 1/2.
        seed: of the run.
        position: tells how many batches of the run are done; read when an epoch starts.
        device: that holds the images and makes the batches.
        rank: of this device among `devices`.
        devices: how many share a batch.
        max_batches: of an epoch; None for all.
        pairs: whether devices take pairs of images.
        recipe: says what else is augmented, and how often an epoch repeats an image; None for nothing.
    """

    order: TrainOrder

    def __init__(
        self,
        split: ImageSet,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        crop_padding: int,
        mirror: bool,
        seed: int,
        position: Callable[[], int],
        device: torch.device | str = "cpu",
        rank: int = 0,
        devices: int = 1,
        max_batches: int | None = None,
        pairs: bool = False,
        recipe: RecipeConfig | None = None,
    ) -> None:
        order = TrainOrder(
            len(split.labels),
            batch_size,
            seed=seed,
            position=position,
            device=device,
            rank=rank,
            devices=devices,
            max_batches=max_batches,
            pairs=pairs,
            repeats=recipe.repeats if recipe else 1,
        )
        super().__init__(order, device)
        self.size = preprocessing.size
        self.crop_padding = crop_padding
        self.mirror = mirror
        self.padded = pad_to(split.images.to(device), self.size + 2 * crop_padding).contiguous()
        self.labels = split.labels.to(device)
        self.normalise = Normalise(preprocessing, device)
        self.distortion = recipe.distortion if recipe else []
        self.operations = operations(recipe) if recipe else None
        self.finish = Finish(self.normalise, recipe, preprocessing, seed) if recipe else None

    def batches(self) -> Iterator[Batch]:
        """Distorted, cut, mirrored and normalised on the device."""
        start = self.order.start()
        drawn = (self.order.seed, start.epoch)  # of which a number for each key is a function
        all_keys = torch.arange(len(self.labels) * self.order.repeats, device=self.labels.device)
        if self.crop_padding:
            places = 2 * self.crop_padding + 1
            y = stateless.integers(places, *drawn, Stream.CROP_Y, all_keys)
            x = stateless.integers(places, *drawn, Stream.CROP_X, all_keys)
        if self.mirror:
            mirrored = stateless.integers(2, *drawn, Stream.FLIP, all_keys).bool()
        for chosen, global_size, keys in self.order.chosen(start):
            source, rows = self.padded, chosen
            if self.distortion:
                source, rows = self._distorted(start.epoch, chosen, keys), torch.arange(len(keys), device=keys.device)
            if self.crop_padding:
                images = crop(source, rows, y[keys], x[keys], self.size)
            else:  # index_select: seven times as fast as padded[chosen]
                images = source.index_select(0, rows)
            if self.mirror:
                images = flip(images, mirrored[keys])
            if self.operations is not None:
                images = self._operated(self.operations, images, start.epoch, keys)
            finished = self.finish(images, start.epoch, keys) if self.finish else self.normalise(images)
            yield Batch(finished, self.labels[chosen], chosen, global_size, keys=keys)

    def _distorted(self, epoch: int, chosen: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Images of the split, padded and then distorted."""
        draws = stateless.uniform(DISTORTION_DRAWS, self.order.seed, epoch, Stream.DISTORTION, keys)
        return distort(self.padded.index_select(0, chosen), draws, self.distortion)

    def _operated(self, operations: Operations, images: torch.Tensor, epoch: int, keys: torch.Tensor) -> torch.Tensor:
        """Random operations, one image after the other on the CPU; uint8 (N, C, H, W)."""
        seeds = stateless.bits(self.order.seed, epoch, Stream.OPERATIONS, keys).tolist()
        pixels = images.movedim(1, -1).contiguous().cpu().numpy()  # (N, H, W, C)
        with own_generator():
            for row, seed in enumerate(seeds):
                image = pixels[row] if pixels.shape[-1] == 3 else pixels[row, :, :, 0]  # grey ones have two axes
                pixels[row] = operations(image, seed).reshape(pixels[row].shape)
        return torch.from_numpy(pixels).to(images.device).movedim(-1, 1).contiguous()


class EvalLoader(Loader):
    """Every image of a split exactly once, in order, unaugmented; device r of R takes images r, r + R, ...

    Every device yields as many batches; the last ones may hold no image.

    Args:
        split: the images, moved to `device` once.
        preprocessing: of the network.
        batch_size: images of a batch on this device.
        device: that holds the images.
        rank: of this device among `devices`.
        devices: how many share the split.
    """

    def __init__(
        self,
        split: ImageSet,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        super().__init__(EvalOrder(len(split.labels), batch_size, device=device, rank=rank, devices=devices), device)
        self.normalise = Normalise(preprocessing, device)
        self.images = pad_to(split.images.to(device), preprocessing.size)
        self.labels = split.labels.to(device)

    def batches(self) -> Iterator[Batch]:
        """Normalised on the device."""
        for indices, global_size, _ in self.order.chosen(self.order.start()):
            yield Batch(self.normalise(self.images[indices]), self.labels[indices], indices, global_size)
