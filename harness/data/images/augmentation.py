"""What training does to an image beside crop and flip: random operations on one, colour noise and erasing on a batch.

Every draw comes in from outside, or from torch's generator after it was seeded for this image: no image's pixels depend
on another's. The order is that of torchvision's reference: crop, flip, operations, normalisation, erasing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from harness.config.recipe import RecipeConfig
from harness.data.images.decode import Pixels
from harness.data.images.rand_augment import RandAugmentIncreasing

# Of the RGB pixels of ImageNet in [0, 1]: of their covariance, so these values are variances, whose square roots are
# the standard deviations. Each column of vectors is one. Sources: fb.resnet.torch, datasets/imagenet.lua.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

LIGHTING_DRAWS = 6  # two for each of three normal numbers

ERASED_AREA, ERASED_ASPECT = (0.02, 0.33), (0.3, 3.3)  # torchvision's; the aspect is height over width
ERASING_ATTEMPTS = 10  # at a rectangle that is smaller than the image
ERASING_DRAWS = 1 + 4 * ERASING_ATTEMPTS  # whether; of each attempt: area, aspect, row, column

DISTORTION_DRAWS = 5  # translation across and down, scaling, squeezing, shearing


class Operations:
    """Random operations on one image: torchvision's changes of colour or one of its policies, or timm's RandAugment.

    They work on Pillow's images, as torchvision's reference for training does, whichever decoder made the pixels. What
    a rotation or translation uncovers is black.

    Args:
        recipe: says which.
    """

    def __init__(self, recipe: RecipeConfig) -> None:
        from torchvision.transforms import v2  # late: it loads all of torchvision, which most runs do without

        self.transform: Any
        if recipe.auto_augment == "trivial_augment_wide":
            self.transform = v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)
        elif recipe.auto_augment == "rand_augment":
            self.transform = v2.RandAugment(
                recipe.rand_augment_ops,
                recipe.rand_augment_magnitude,
                interpolation=v2.InterpolationMode.BILINEAR,
            )
        elif recipe.auto_augment == "rand_augment_increasing":
            self.transform = RandAugmentIncreasing(recipe.rand_augment_ops, recipe.rand_augment_magnitude)
        else:
            self.transform = v2.ColorJitter(*recipe.color_jitter)

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        """Apply them within `own_generator`.

        Args:
            pixels: uint8 (H, W, 3), or (H, W) of a grey image.
            seed: of all draws for this image.

        Returns:
            uint8 of the same shape.
        """
        torch.default_generator.manual_seed(seed)  # microseconds; torch.manual_seed, which asks every device: hundreds
        return np.asarray(self.transform(Image.fromarray(pixels)))


def operations(recipe: RecipeConfig) -> Operations | None:
    """The operations of a recipe on each image; None if it has none."""
    return Operations(recipe) if recipe.auto_augment or recipe.color_jitter else None


@contextmanager
def own_generator() -> Iterator[None]:
    """Leave torch's generator as it was, whatever is drawn from it here."""
    before = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def colour_noise(draws: torch.Tensor, sigma: float) -> torch.Tensor:
    """What is added to red, green and blue of each image, on the scale 0 to 1 [Krizhevsky 2012, section 4.1].

    The sum of the principal components of colour, each times its eigenvalue and a normal number of deviation sigma. It
    is clipped nowhere, as in fb.resnet.torch.

    Args:
        draws: float64 (N, `LIGHTING_DRAWS`), uniform in [0, 1), on the CPU.
        sigma: standard deviation; 0.1 in the paper.

    Returns:
        float32 (N, 3).
    """
    # One by one: vectorised functions may differ in the last bit between the middle of a batch and its end.
    alphas = [sigma * _normal(row[k], row[k + 1]) for row in draws.tolist() for k in range(0, LIGHTING_DRAWS, 2)]
    noise = [
        sum(part * value * alpha for part, value, alpha in zip(vector, EIGENVALUES, alphas[i : i + 3], strict=True))
        for i in range(0, len(alphas), 3)
        for vector in EIGENVECTORS
    ]
    return torch.tensor(noise).view(-1, 3)


def _normal(first: float, second: float) -> float:
    """A normal number of two uniform ones in [0, 1) [Box and Muller 1958]."""
    return math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)


def erased_box(height: int, width: int, draws: Sequence[float], probability: float) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random rectangle of an image, smaller than it; all 0 where nothing is erased.

    As torchvision's RandomErasing draws it [Zhong 2017].

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        draws: `ERASING_DRAWS` numbers, uniform in [0, 1).
        probability: that anything is erased.
    """
    if draws[0] >= probability:
        return 0, 0, 0, 0
    (least, greatest), (lowest, highest) = ERASED_AREA, map(math.log, ERASED_ASPECT)
    for attempt in range(1, ERASING_DRAWS, 4):
        area_draw, aspect_draw, y, x = draws[attempt : attempt + 4]
        area = height * width * (least + (greatest - least) * area_draw)
        aspect = math.exp(lowest + (highest - lowest) * aspect_draw)
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    return 0, 0, 0, 0


def erase(images: torch.Tensor, draws: torch.Tensor, probability: float) -> torch.Tensor:
    """Set a random rectangle of some images to 0, which is the mean colour once they are normalised; in place.

    Args:
        images: float32 (N, C, H, W).
        draws: float64 (N, `ERASING_DRAWS`), uniform in [0, 1), on the CPU.
        probability: that an image loses a rectangle.
    """
    height, width = images.shape[-2:]
    for image, row in enumerate(draws.tolist()):
        top, left, tall, wide = erased_box(height, width, row, probability)
        if tall:
            images[image, :, top : top + tall, left : left + wide] = 0
    return images


def distort(images: torch.Tensor, draws: torch.Tensor, strengths: Sequence[float]) -> torch.Tensor:
    """Random affine distortions in the plane about the middle of each image [LeCun 1998, section III-A].

    Translation across and down, scaling, squeezing (narrower and taller, or the reverse) and horizontal shearing. The
    paper names these and no strengths. Bilinear; what comes from outside is 0, the background.

    Args:
        images: uint8 (N, C, H, W).
        draws: float64 (N, `DISTORTION_DRAWS`), uniform in [0, 1), on the device of the images if that has float64.
        strengths: greatest translation in pixels, and greatest scaling, squeezing and shearing as shares.

    Returns:
        uint8 (N, C, H, W).
    """
    translation, scaling, squeezing, shearing = strengths
    signed = (2 * draws - 1).view(-1, DISTORTION_DRAWS, 1, 1).unbind(1)  # each (N, 1, 1), from -1 to 1
    across, down = translation * signed[0], translation * signed[1]
    scale, squeeze, shear = 1 + scaling * signed[2], 1 + squeezing * signed[3], shearing * signed[4]
    height, width = images.shape[-2:]
    y = torch.arange(height, device=draws.device).double()[:, None] - (height - 1) / 2
    x = torch.arange(width, device=draws.device).double() - (width - 1) / 2
    # Where each pixel comes from; point by point, so that the size of the batch cannot change a bit.
    from_y = (y - down) * squeeze / scale
    from_x = (x - across) / (scale * squeeze) - shear * from_y
    grid = torch.stack((2 * from_x / (width - 1), (2 * from_y / (height - 1)).expand_as(from_x)), -1)
    distorted = F.grid_sample(images.float(), grid.float().to(images.device), align_corners=True)  # grid: (N, H, W, 2)
    return distorted.round_().to(torch.uint8)
