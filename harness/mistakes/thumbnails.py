"""Pictures made small for a page: photographs as JPEG, small pictures as they are."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from harness.mistakes.pictures import Pixels

EDGE = 112  # pixels of the shorter edge
SMALL = 64  # the longest edge of a picture that keeps its pixels; the browser enlarges them without smoothing
LONGEST = 2.5  # times the shorter edge; longer pictures are cut in their middle
QUALITY = 75


class Thumbnail(NamedTuple):
    """A small picture: its data as an address, and its size in the page."""

    address: str
    width: int
    height: int


def thumbnail(pixels: Pixels) -> Thumbnail:
    """Return pixels (H, W) or (H, W, 3), made small."""
    height, width = pixels.shape[:2]
    file = io.BytesIO()
    if max(height, width) <= SMALL:
        scale = max(1, EDGE // min(height, width))
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        return Thumbnail(_address("png", file), scale * width, scale * height)
    scale = EDGE / min(height, width)
    least = int(LONGEST * min(height, width))
    top, left = max(0, height - least) // 2, max(0, width - least) // 2
    cut = np.ascontiguousarray(pixels[top : height - top, left : width - left])
    image = Image.fromarray(cut)
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(_address("jpeg", file), *size)


def _address(kind: str, file: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
