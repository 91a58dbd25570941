"""Resizing and cropping of one decoded image, in workers; the grids and roundings are those of torchvision.

A network whose own images are never resized (digits, MNIST, CIFAR) gets a picture that fits into its input as it got
those, padded with black; the shorter edge of any other is resized to the input's side before it is cropped.

With the decoder `pil` every pixel is the one that torchvision's transforms of a PIL image give; `fast` resizes by
torch, which differs from it by one level; where pure noise is scaled by a ratio such as 9/11, rare pixels by two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from harness.config.facts import Preprocessing
from harness.data.images.decode import Pixels
from harness.data.images.opening import MAX_PIXELS, UnreadableError
from harness.data.images.pixels import pad_to

ATTEMPTS = 10  # at a random crop that lies inside the image
DRAWS = 4 * ATTEMPTS  # of each: area, aspect, row, column
GRID = 5  # rows and columns of the windows of many crops
SCALE_DRAWS = 3  # of a crop at a random scale: shorter edge, row, column
RESIZERS = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa,
}
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize(image: Pixels, size: tuple[int, int], interpolation: str, decoder: str, end: tuple[int, int]) -> Pixels:
    """An image (h, w, 3) at another size, antialiased; of the fast decoder only what is needed is worked out.

    Args:
        image: uint8 (h, w, 3).
        size: height and width of the whole.
        interpolation: `bilinear` or `bicubic`.
        decoder: `fast` or `pil`.
        end: rows and columns of the upper left part that is needed.

    Returns:
        uint8 (at least end[0], at least end[1], 3).
    """
    (h, w), (height, width) = image.shape[:2], size
    if decoder == "pil" or (has_ties(h, height) and has_ties(w, width)):
        return np.asarray(Image.fromarray(image).resize((width, height), FILTERS[interpolation]))
    # An output as long as the input would be taken for one that needs no resizing.
    rows, columns = (
        needed + (needed == before != after) for needed, before, after in zip(end, (h, w), size, strict=True)
    )
    # First the batch, then the order of its axes: the other way round torch takes it for channels first and copies it.
    channels_last = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
    # What F.interpolate calls; it takes either the size or the scale, and a part has its own size at the whole's scale.
    resized = RESIZERS[interpolation](channels_last, (rows, columns), False, height / h, width / w)
    pixels: Pixels = resized[0].permute(1, 2, 0).numpy()
    return pixels


def has_ties(before: int, after: int) -> bool:
    """Whether sums often lie halfway between two levels, where torch's weights of 15 bits can be two levels off.

    So it is where a few sets of weights come again and again, more than the one set of a whole ratio.
    """
    return 1 < after // math.gcd(before, after) <= 8


def centre_crop(image: Pixels, preprocessing: Preprocessing, decoder: str) -> Pixels:
    """The middle of the image, its shorter edge resized to `preprocessing.resize`: (1, size, size, 3)."""
    if _stays_whole(image, preprocessing):
        return _padded(image, preprocessing.size)[None]
    height, width = _resized_size(image, preprocessing)
    return _windows(image, preprocessing, [_middle(height, width, preprocessing.size)], decoder)


def six_crop(image: Pixels, preprocessing: Preprocessing, decoder: str) -> Pixels:
    """The six windows that ten views are made of [Krizhevsky 2012, section 4.1]: (6, size, size, 3).

    The four corners and the middle of the resized image, and the window that is the middle once it is mirrored: where
    the middle lies between two pixels, torchvision rounds to the same side of the mirrored image.
    """
    if _stays_whole(image, preprocessing):
        return np.stack([_padded(image, preprocessing.size)] * 6)
    height, width = _resized_size(image, preprocessing)
    bottom, right = height - preprocessing.size, width - preprocessing.size
    top, left = _middle(height, width, preprocessing.size)
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (top, left), (top, right - left)]
    return _windows(image, preprocessing, corners, decoder)


def grid_crop(image: Pixels, preprocessing: Preprocessing, scales: Sequence[int], decoder: str) -> Pixels:
    """A regular grid of 5 x 5 windows from edge to edge [Simonyan 2014, section 3.2]: (25 S, size, size, 3).

    Args:
        image: uint8 (h, w, 3).
        preprocessing: size and interpolation.
        scales: S shorter edges in pixels, at each of which there is a grid, row by row.
        decoder: `fast` or `pil`.
    """
    grids = []
    for scale in scales:
        scaled = dataclasses.replace(preprocessing, resize=scale)
        height, width = _resized_size(image, scaled)
        top, left = _evenly(height - scaled.size), _evenly(width - scaled.size)
        grids.append(_windows(image, scaled, [(y, x) for y in top for x in left], decoder))
    return np.concatenate(grids)


def whole(image: Pixels, preprocessing: Preprocessing, scale: int, decoder: str) -> Pixels:
    """The whole image (h, w, 3), its shorter edge resized to `scale` pixels.

    Raises:
        UnreadableError: a strip that would have more than `MAX_PIXELS` pixels.
    """
    size = height, width = _resized_size(image, dataclasses.replace(preprocessing, resize=scale))
    if height * width > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} pixels at a shorter edge of {scale}: too long to be seen whole")
    return resize(image, size, preprocessing.interpolation or "bilinear", decoder, size)


def _evenly(room: int) -> list[int]:
    return [round(step * room / (GRID - 1)) for step in range(GRID)]


def _stays_whole(image: Pixels, preprocessing: Preprocessing) -> bool:
    return preprocessing.resize is None and max(image.shape[:2]) <= preprocessing.size


def _padded(image: Pixels, size: int) -> Pixels:
    whole: Pixels = pad_to(torch.from_numpy(image).permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).numpy()
    return whole


def _resized_size(image: Pixels, preprocessing: Preprocessing) -> tuple[int, int]:
    wanted = preprocessing.resize or preprocessing.size
    if wanted < preprocessing.size:
        raise ValueError(f"a shorter edge of {wanted} pixels is too short for a crop of {preprocessing.size}")
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    resized = wanted, int(wanted * long / short)
    return resized if height <= width else (resized[1], resized[0])


def _middle(height: int, width: int, size: int) -> tuple[int, int]:
    return round((height - size) / 2), round((width - size) / 2)


def _windows(image: Pixels, preprocessing: Preprocessing, corners: Sequence[tuple[int, int]], decoder: str) -> Pixels:
    """Windows of the resized image, each from its upper left corner."""
    height, width = _resized_size(image, preprocessing)
    size, interpolation = preprocessing.size, preprocessing.interpolation or "bilinear"
    if height * width > MAX_PIXELS:  # a strip: only the windows are worked out, within one level of the same pixels
        scale_y, scale_x = image.shape[0] / height, image.shape[1] / width
        boxes = [(x * scale_x, y * scale_y, (x + size) * scale_x, (y + size) * scale_y) for y, x in corners]
        whole = Image.fromarray(image)
        return np.stack([np.asarray(whole.resize((size, size), FILTERS[interpolation], box)) for box in boxes])
    end = (max(y for y, _ in corners) + size, max(x for _, x in corners) + size)
    resized = resize(image, (height, width), interpolation, decoder, end)
    if len(corners) == 1:
        ((y, x),) = corners
        return resized[None, y : y + size, x : x + size]
    return np.stack([resized[y : y + size, x : x + size] for y, x in corners])


def random_resized_crop(
    image: Pixels,
    draws: npt.NDArray[np.float64],
    preprocessing: Preprocessing,
    scale: Sequence[float],
    ratio: Sequence[float],
    decoder: str,
) -> Pixels:
    """A window of random area and aspect, resized to the input's size: (1, size, size, 3) [Szegedy 2015, section 6]."""
    top, left, height, width = random_box(image.shape[0], image.shape[1], draws, scale, ratio)
    window = image[top : top + height, left : left + width]
    size = (preprocessing.size, preprocessing.size)
    return resize(window, size, str(preprocessing.interpolation), decoder, size)[None]


def random_scale_crop(
    image: Pixels,
    draws: npt.NDArray[np.float64],
    preprocessing: Preprocessing,
    shorter_edges: Sequence[int],
    decoder: str,
) -> Pixels:
    """A window of the input's size out of the image at a random scale: (1, size, size, 3).

    The shorter edge is drawn for each image [Simonyan 2014, section 3.1; He 2015, section 3.4], or is always the same
    [Krizhevsky 2012, section 4.1].

    Args:
        image: uint8 (h, w, 3).
        draws: float64 (`SCALE_DRAWS`,), uniform in [0, 1).
        preprocessing: size and interpolation.
        shorter_edges: smallest and largest, in pixels; each whole number between is as likely.
        decoder: `fast` or `pil`.
    """
    smallest, largest = shorter_edges
    edge_draw, y, x = draws.tolist()
    scaled = dataclasses.replace(preprocessing, resize=smallest + int(edge_draw * (largest - smallest + 1)))
    height, width = _resized_size(image, scaled)
    corner = int(y * (height - scaled.size + 1)), int(x * (width - scaled.size + 1))
    return _windows(image, scaled, [corner], decoder)


def random_box(
    height: int, width: int, draws: npt.NDArray[np.float64], scale: Sequence[float], ratio: Sequence[float]
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random window; the middle of the image where ten attempts stick out of it.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        draws: float64 (`DRAWS`,), uniform in [0, 1).
        scale: least and greatest share of the image's area.
        ratio: least and greatest width over height, drawn uniformly in its logarithm.
    """
    lowest, highest = math.log(ratio[0]), math.log(ratio[1])
    for area_draw, ratio_draw, y, x in draws.reshape(ATTEMPTS, 4).tolist():
        area = height * width * (scale[0] + (scale[1] - scale[0]) * area_draw)
        aspect = math.exp(lowest + (highest - lowest) * ratio_draw)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w
