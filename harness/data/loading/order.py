"""Which images make which batch, and which of them are this device's: the same for every loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from harness.data.loading import stateless


class Chosen(NamedTuple):
    """This device's share of a batch.

    Attributes:
        indices: int64 (n,), positions in the split; n may be 0 on some devices.
        global_size: images of the batch over all devices; in an evaluation, where each has batches of its own, n.
        keys: int64 (n,), what random draws for the images are functions of, beside seed and epoch: a number for each
            repeat of each image; that of the first is the image's position in the split.
    """

    indices: torch.Tensor
    global_size: int
    keys: torch.Tensor


class Start(NamedTuple):
    """Where an iteration begins: an epoch, and the number of its first batch."""

    epoch: int
    batch: int


def batches_per_epoch(images: int, batch_size: int, most: int | None = None) -> int:
    """Batches of `batch_size` that hold so many images, the last of them maybe smaller; no more than `most`."""
    batches = -(-images // batch_size)
    return batches if most is None else min(batches, most)


class TrainOrder:
    """Every epoch in an order of its own, a pure function of (seed, epoch); devices share each batch in turns.

    Device r of R takes images r, r + R, ... of a batch. If its images come in pairs, which are images 0 and 1, 2 and 3,
    ... of a batch, it takes pairs r, r + R, ..., so that no pair is divided; the last image of an odd number is alone.

    With repeats, an epoch holds as many images as the split, but only the first of its order, each so many times. All
    repeats of an image, or of two in turns if images come in pairs, follow each other: they are in one batch unless it
    ends between them, on as many devices as there are, and never in one pair unless the split has only one image. This
    is the repeated augmentation of RASampler, whose batches are those of several devices [Hoffer 2020, Berman 2019,
    Touvron 2021].

    Args:
        images: of the split.
        batch_size: images of a batch over all devices.
        seed: of the run.
        position: tells how many batches of the run are done; read when an epoch starts.
        device: that the positions lie on.
        rank: of this device among `devices`.
        devices: how many share a batch.
        max_batches: of an epoch; None for all.
        pairs: whether devices take pairs of images.
        repeats: how often an epoch holds each of its images.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        *,
        seed: int,
        position: Callable[[], int],
        device: torch.device | str = "cpu",
        rank: int = 0,
        devices: int = 1,
        max_batches: int | None = None,
        pairs: bool = False,
        repeats: int = 1,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.position = position
        self.device = device
        self.rank = rank
        self.devices = devices
        self.pairs = pairs
        self.repeats = repeats
        self.batches = batches_per_epoch(images, batch_size, max_batches)

    def start(self) -> Start:
        """Where the run stands."""
        return Start(*divmod(self.position(), self.batches))

    def chosen(self, start: Start) -> Iterator[Chosen]:
        """This device's share of each batch that is left of an epoch."""
        keys = self._keys(stateless.order(self.seed, start.epoch, self.images, self.device))
        for number in range(start.batch, self.batches):
            whole = keys[number * self.batch_size : (number + 1) * self.batch_size]
            share = self._share(whole)
            yield Chosen(share % self.images if self.repeats > 1 else share, len(whole), share)

    def _keys(self, order: torch.Tensor) -> torch.Tensor:
        """The key of each image of an epoch, int64 (N,), from the order of the split's images, int64 (N,)."""
        if self.repeats == 1:
            return order
        together = 2 if self.pairs else 1  # images that are repeated in turns: a a a or a b a b a b
        places = torch.arange(self.images, device=order.device)
        group, within = places // (together * self.repeats), places % (together * self.repeats)
        return order[group * together + within % together] + within // together * self.images

    def _share(self, whole: torch.Tensor) -> torch.Tensor:
        """This device's images of a batch, int64 (n,)."""
        if not self.pairs:
            return whole[self.rank :: self.devices]
        pairs, lone = whole[: len(whole) // 2 * 2].view(-1, 2), whole[len(whole) // 2 * 2 :]
        share = pairs[self.rank :: self.devices].flatten()
        return torch.cat((share, lone)) if len(pairs) % self.devices == self.rank else share


class EvalOrder:
    """Every image once, in order; device r of R takes images r, r + R, ...

    Every device has as many batches; the last ones may hold no image.

    Args:
        images: of the split.
        batch_size: images of a batch on this device.
        device: that the positions lie on.
        rank: of this device among `devices`.
        devices: how many share the split.
    """

    def __init__(
        self, images: int, batch_size: int, *, device: torch.device | str = "cpu", rank: int = 0, devices: int = 1
    ) -> None:
        self.batch_size = batch_size
        self.share = torch.arange(images, device=device)[rank::devices]
        self.batches = batches_per_epoch(images, devices * batch_size)

    def start(self) -> Start:
        """At the beginning, always."""
        return Start(0, 0)

    def chosen(self, start: Start) -> Iterator[Chosen]:
        """This device's batches."""
        for number in range(start.batch, self.batches):
            indices = self.share[number * self.batch_size : (number + 1) * self.batch_size]
            yield Chosen(indices, len(indices), indices)
