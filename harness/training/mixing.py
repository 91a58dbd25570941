"""Mixup and cutmix: the two images of a pair are mixed with each other, and their labels in the same shares.

Images 0 and 1, 2 and 3, ... of a batch over all devices are pairs; the order is random, so partners are, too. One share
and one box hold for the whole batch, as in torchvision and timm, and are pure functions of (seed, epoch, step).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.special import betaincinv

from harness.config.recipe import RecipeConfig
from harness.data.loading import stateless
from harness.data.loading.loader import Batch
from harness.data.loading.stateless import Stream
from harness.training.losses import one_hot


class Box(NamedTuple):
    """A rectangle of pixels; `bottom` and `right` are the first row and column outside."""

    top: int
    bottom: int
    left: int
    right: int


class Mixture(NamedTuple):
    """How the images of one batch are mixed.

    Attributes:
        share: share of an image in what it becomes, 0 to 1; its partner has the rest.
        box: part that cutmix takes from the partner; None for mixup.
    """

    share: float
    box: Box | None = None


class Mixed(NamedTuple):
    """Mixed images.

    Attributes:
        images: float32 (n, C, H, W).
        labels: the images' own, int64 (n,).
        partners: labels of their partners, int64 (n,).
        share: share of the images' own labels, 0 to 1.
    """

    images: torch.Tensor
    labels: torch.Tensor
    partners: torch.Tensor
    share: float

    def targets(self, num_classes: int) -> torch.Tensor:
        """Return the share of each class in each image, float32 (n, K)."""
        own, other = one_hot(self.labels, num_classes), one_hot(self.partners, num_classes)
        return torch.lerp(other, own, self.share)  # exactly 1 where both labels are equal

    @property
    def main(self) -> torch.Tensor:
        """The label with the larger share in each image, int64 (n,)."""
        return self.labels if self.share >= 0.5 else self.partners


def draw(recipe: RecipeConfig, seed: int, epoch: int, step: int, size: tuple[int, int]) -> Mixture:
    """Draw how a batch is mixed; with mixup and cutmix both in the recipe, each has probability 1/2.

    Args:
        recipe: parameters of both, of which at least one is above 0.
        seed: of the run.
        epoch: counted from 0.
        step: number of the batch in the epoch, from 0.
        size: height and width of the images, in pixels.

    Returns:
        Share and box. The area that cutmix pastes may be cut off at the border: the share is that of the pixels left.
    """
    which, share, y, x = stateless.uniform_of(4, seed, epoch, Stream.MIXING, step)
    cuts = recipe.cutmix > 0 and (recipe.mixup == 0 or which < 0.5)
    alpha = recipe.cutmix if cuts else recipe.mixup
    share = float(betaincinv(alpha, alpha, share))  # the inverse of the distribution function of Beta(alpha, alpha)
    if not cuts:
        return Mixture(share)
    height, width = size
    box = _box(share, int(y * height), int(x * width), height, width)
    area = (box.bottom - box.top) * (box.right - box.left)
    return Mixture(1 - area / (height * width), box)


def _box(share: float, y: int, x: int, height: int, width: int) -> Box:
    """Return the box around a pixel that leaves an image this share of its area [Yun 2019, section 3.1]."""
    side = math.sqrt(1 - share) / 2
    up, across = int(side * height), int(side * width)
    return Box(max(y - up, 0), min(y + up, height), max(x - across, 0), min(x + across, width))


def mix(batch: Batch, mixture: Mixture) -> Mixed:
    """Mix each image of a device's share of a batch with its partner; one without a partner stays as it is."""
    partners = partner_rows(len(batch.labels), batch.rows, batch.labels.device)
    if mixture.box is None:
        images = batch.images[partners].lerp_(batch.images, mixture.share)
    else:
        top, bottom, left, right = mixture.box
        images = batch.images.clone()
        images[..., top:bottom, left:right] = batch.images[..., top:bottom, left:right][partners]
    return Mixed(images, batch.labels, batch.labels[partners], mixture.share)


def partner_rows(images: int, rows: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """Return the row of each image's partner, int64 (n,); its own row if it has none.

    Args:
        images: number n of images.
        rows: `Batch.rows`; None if no image is missing.
        device: of the result.
    """
    own = torch.arange(images, device=device)
    if rows is None:
        return (own ^ 1).clamp(max=images - 1)  # an odd last image is its own partner
    whole = (rows[1:] // 2 == rows[:-1] // 2).long()  # whether a row and the next are a pair
    partners = own.clone()
    partners[:-1] += whole
    partners[1:] -= whole
    return partners
