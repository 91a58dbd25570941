"""Plain values that rooms exchange: the facts of a data set, and the preprocessing of its images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from harness.config.plain import made

INTERPOLATIONS = ("bilinear", "bicubic")
MOST_PIXELS = 8192  # the longest side
MOST_CHANNELS = 1000


@dataclass(frozen=True)
class DataSet:
    """Facts of a data set that are known before its images are read.

    Attributes:
        image_size: side of the square images in pixels, as the source gives them; None for files of any size.
        padded_size: side after padding with background, for a network that needs larger images; None: never padded.
        cropped_size: side without a margin that is background in every image, for a network that needs smaller ones;
            None: there is no such margin.
        channels: number of channels of an image.
        class_names: names of the classes in label order.
        train: number of training images, including those of the validation split.
        test: number of test images.
        restricted: whether a network that knows more classes chooses among these alone, as in the data's paper.
    """

    image_size: int | None
    padded_size: int | None
    channels: int
    class_names: tuple[str, ...]
    train: int
    test: int
    cropped_size: int | None = None
    restricted: bool = False

    @property
    def in_files(self) -> bool:
        """Whether the images are decoded one by one, when they are used, and resized."""
        return self.image_size is None


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared for a network; every checkpoint and record keeps this value.

    A checkpoint's own value takes precedence over its weights' metadata, and the metadata over the data set's value.

    Attributes:
        channels: channels of the input; 1 for grey, 3 for RGB.
        size: side of the square input in pixels.
        resize: pixels of the shorter edge after resizing, before the central crop of `size`; None: images are never
            resized, but padded with black on all sides, or freed from a black margin.
        interpolation: interpolation of the resizing; None if images are never resized.
        mean: value that is subtracted from each channel, on the scale 0 to 1.
        std: value that each channel is then divided by.
    """

    channels: int
    size: int
    resize: int | None
    interpolation: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_plain(self) -> dict[str, Any]:
        """Return a dictionary of plain values, for a checkpoint or a record."""
        plain = dataclasses.asdict(self)
        return {**plain, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Preprocessing:
        """Make the value from what `as_plain` returned; raises `ValueError` for what no preprocessing can be."""
        value = made(cls, plain)
        value = dataclasses.replace(value, mean=tuple(value.mean), std=tuple(value.std))
        value.check()
        return value

    def check(self) -> None:
        """Raise `ValueError` if no image could be prepared so."""
        if not (1 <= self.channels <= MOST_CHANNELS and 1 <= self.size <= MOST_PIXELS):
            raise ValueError(f"images of {self.channels} channels and {self.size} pixels")
        if self.resize is not None and not self.size <= self.resize <= 2 * MOST_PIXELS:
            raise ValueError(f"images resized to {self.resize} pixels, of which {self.size} are cropped")
        if self.interpolation is not None and self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {self.interpolation!r} is none of {', '.join(INTERPOLATIONS)}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean of {len(self.mean)} and std of {len(self.std)} values for {self.channels} channels")
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"mean {list(self.mean)} and std {list(self.std)}, which must be finite, std above 0")
