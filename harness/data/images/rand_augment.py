"""RandAugment in the form of "ResNet strikes back" [Wightman 2021]: timm's `rand-m7-mstd0.5-inc1`.

It differs from torchvision's: 15 operations, each happens with probability 1/2, the magnitude has noise, and every
operation grows stronger with it. All draws are torch's, so that a seed says everything; timm's come from Python and
NumPy. Interpolation is always bicubic, where timm by default tosses between that and bilinear.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image, ImageEnhance, ImageOps

from harness.config.recipe import STRONGEST

PROBABILITY = 0.5  # that a chosen operation happens
NOISE = 0.5  # standard deviation of the magnitude
BACKGROUND, GREY_BACKGROUND = (124, 116, 104), 117  # ImageNet's mean colour, where a geometric operation uncovers

Picture = Image.Image


def _affine(image: Picture, *matrix: float) -> Picture:
    background = BACKGROUND if image.mode == "RGB" else GREY_BACKGROUND
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=background)


def _rotate(image: Picture, level: float, sign: int) -> Picture:
    background = BACKGROUND if image.mode == "RGB" else GREY_BACKGROUND
    return image.rotate(sign * level * 30, Image.Resampling.BICUBIC, fillcolor=background)


def _posterize(image: Picture, level: float, sign: int) -> Picture:
    dropped = 4 + int(level * 4)  # bits; all 8 at the strongest, which is black, and which ImageOps.posterize refuses
    return image.point([value >> dropped << dropped for value in range(256)] * len(image.getbands()))


def _solarize_add(image: Picture, level: float, sign: int) -> Picture:
    added = min(128, int(level * 110))
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def _factor(level: float, sign: int) -> float:
    return max(0.1, 1 + sign * level * 0.9)


Operation = Callable[[Picture, float, int], Picture]  # of an image, a level from 0 to 1, and a sign, 1 or -1

OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, sign: ImageOps.equalize(image),
    "Invert": lambda image, level, sign: ImageOps.invert(image),
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": lambda image, level, sign: ImageOps.solarize(image, 256 - min(256, int(level * 256))),
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": lambda image, level, sign: ImageEnhance.Color(image).enhance(_factor(level, sign)),
    "ContrastIncreasing": lambda image, level, sign: ImageEnhance.Contrast(image).enhance(_factor(level, sign)),
    "BrightnessIncreasing": lambda image, level, sign: ImageEnhance.Brightness(image).enhance(_factor(level, sign)),
    "SharpnessIncreasing": lambda image, level, sign: ImageEnhance.Sharpness(image).enhance(_factor(level, sign)),
    "ShearX": lambda image, level, sign: _affine(image, 1, sign * level * 0.3, 0, 0, 1, 0),
    "ShearY": lambda image, level, sign: _affine(image, 1, 0, 0, sign * level * 0.3, 1, 0),
    "TranslateXRel": lambda image, level, sign: _affine(image, 1, 0, sign * level * 0.45 * image.width, 0, 1, 0),
    "TranslateYRel": lambda image, level, sign: _affine(image, 1, 0, 0, 0, 1, sign * level * 0.45 * image.height),
}


class RandAugmentIncreasing:
    """Chosen operations one after the other; the same one can come twice.

    Args:
        operations: how many are chosen.
        magnitude: mean of theirs, 0 to `STRONGEST`.
    """

    def __init__(self, operations: int, magnitude: float) -> None:
        self.operations = operations
        self.magnitude = magnitude

    def __call__(self, image: Picture) -> Picture:
        """Change an image of mode RGB or L; draws come from torch's generator."""
        names = list(OPERATIONS)
        for number in torch.randint(len(names), (self.operations,)).tolist():
            happens, coin = torch.rand(2).tolist()
            noise = NOISE * torch.randn(()).item()
            if happens < PROBABILITY:
                magnitude = max(0.0, min(self.magnitude + noise, STRONGEST))
                image = OPERATIONS[names[number]](image, magnitude / STRONGEST, 1 if coin < 0.5 else -1)
        return image
