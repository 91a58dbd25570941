"""What stands between a picture and a network: one value, kept in every checkpoint and record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """How images become the input of a network.

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
