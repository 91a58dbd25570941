"""Plain values that rooms hand to each other: what is known of a data set, and what its images go through."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DataSet:
    """Facts of a data set, known before its images are read.

    Attributes:
        image_size: side of the square images in pixels, as the source gives them; None for files of any size.
        padded_size: side after padding with background, for a network that takes no smaller images; None: never padded.
        channels: of an image.
        class_names: in label order.
        train: images of the training split, the validation split's among them.
        test: images of the test split.
    """

    image_size: int | None
    padded_size: int | None
    channels: int
    class_names: tuple[str, ...]
    train: int
    test: int

    @property
    def in_files(self) -> bool:
        """Whether the images are decoded one by one, when they are used, and resized."""
        return self.image_size is None


@dataclass(frozen=True)
class Preprocessing:
    """What images go through before a network: one value, kept in every checkpoint and record.

    A checkpoint's own value comes before its weights' metadata, and that before the data set's.

    Attributes:
        channels: of the input; 1 for grey, 3 for RGB.
        size: side of the square input in pixels.
        resize: side that the shorter edge is resized to before the central crop of `size`; None: images are never
            resized, smaller ones are padded with black on all sides.
        interpolation: of that resizing; None without one.
        mean: subtracted from each channel, on the scale 0 to 1.
        std: that each channel is divided by afterwards.
    """

    channels: int
    size: int
    resize: int | None
    interpolation: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_plain(self) -> dict[str, Any]:
        """As a dictionary of plain values, for a checkpoint or a record."""
        plain = dataclasses.asdict(self)
        return {**plain, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Preprocessing:
        """The inverse of `as_plain`."""
        return cls(**{**plain, "mean": tuple(plain["mean"]), "std": tuple(plain["std"])})
