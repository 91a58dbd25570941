"""Results as small pictures: arrays of colours, and PNG files of them. Nothing here computes what is shown."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from PIL import Image

from harness.config.facts import Preprocessing
from harness.insight.receptive_field import Field

Colours = npt.NDArray[np.float64]  # red, green and blue, 0 to 1: (H, W, 3)
SHOWN = 224  # pixels of a picture's side, at least: smaller ones are enlarged by a whole number
TILE = 96  # pixels of a feature map's side, about
GAP = 4  # white pixels between two tiles
FRAME = (1.0, 0.75, 0.0)  # colour of frames


def picture(image: torch.Tensor, preprocessing: Preprocessing) -> Colours:
    """The colours of a normalised image (C, H, W): what the network gets, as a person sees it."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    levels = (image * std + mean).clamp(0, 1)
    colours: Colours = levels.expand(3, -1, -1).movedim(0, 2).double().numpy()
    return colours


def with_heat(colours: Colours, heat: torch.Tensor) -> Colours:
    """Lay heat, (H, W) from 0 to 1, over a picture turned grey; where there is none the picture shows through."""
    values = heat.double().numpy()
    hot = colormaps["inferno"](0.25 + 0.75 * values)[..., :3]
    return _blend(colours, hot, values)


def with_signs(colours: Colours, values: torch.Tensor, largest: float) -> Colours:
    """Lay values, (H, W) from -largest to largest, over a picture turned grey: red above zero, blue below."""
    scaled = values.double().numpy() / largest
    return _blend(colours, colormaps["RdBu_r"](0.5 + 0.5 * np.sign(scaled) * 0.8)[..., :3], np.abs(scaled))


def _blend(colours: Colours, other: Colours, weight: npt.NDArray[np.float64]) -> Colours:
    grey = 0.25 + 0.6 * colours.mean(2, keepdims=True)
    part = 0.85 * np.sqrt(weight.clip(0, 1))[..., None]  # the root makes small values visible
    blended: Colours = (1 - part) * grey + part * other
    return blended


def only(colours: Colours, marked: torch.Tensor) -> Colours:
    """Darken a picture but for the marked pixels, bool (H, W)."""
    kept: Colours = np.where(marked.numpy()[..., None], colours, 0.35 * colours)
    return kept


def enlarged(colours: Colours, least: int = SHOWN) -> Colours:
    """Repeat each pixel, so that the sides have at least about so many."""
    times = max(1, round(least / max(colours.shape[:2])))
    return colours.repeat(times, 0).repeat(times, 1)


def framed(colours: Colours, field: Field) -> Colours:
    """Enlarge a picture (H, W, 3), and draw the frame of a receptive field, as far as it lies on the picture."""
    height, width = colours.shape[:2]
    large = enlarged(colours)
    times = len(large) // height
    inside = field.inside(height, width)
    top, bottom = inside.rows.first * times, (inside.rows.last + 1) * times
    left, right = inside.columns.first * times, (inside.columns.last + 1) * times
    if top < bottom and left < right:
        content = large[top:bottom, left:right].copy()
        large[top:bottom, left:right] = FRAME
        thick = 3 if min(bottom - top, right - left) > 8 else 1
        large[top + thick : bottom - thick, left + thick : right - thick] = content[thick:-thick, thick:-thick]
    return large


def in_rows(tiles: Sequence[Colours], columns: int) -> Colours:
    """Put tiles of one size side by side on white."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.ones((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3))
    for position, tile in enumerate(tiles):
        top, left = position // columns * (height + GAP), position % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def maps(values: torch.Tensor) -> Colours:
    """Feature maps (k, h, w) side by side on one scale of colours, from their least value to their largest."""
    numbers = values.double().numpy()
    low, high = numbers.min(), numbers.max()
    colours = colormaps["viridis"]((numbers - low) / max(high - low, 1e-12))[..., :3]
    return in_rows([_tile(one) for one in colours], len(colours))


def _tile(colours: Colours) -> Colours:
    """Enlarge a small map, and shrink a large one by the mean of its pixels."""
    height, width = colours.shape[:2]
    if max(height, width) <= TILE:
        return enlarged(colours, TILE)
    size = (round(TILE * width / max(height, width)), round(TILE * height / max(height, width)))
    small = Image.fromarray(_levels(colours)).resize(size, Image.Resampling.BOX)
    return np.asarray(small) / 255


def filters(pictures: torch.Tensor) -> Colours:
    """Filters (N, C, h, w) from 0 to 1 in rows; one or three channels become grey or colours."""
    side = max(pictures.shape[2:])
    tiles = [np.repeat(one, 3, 0) if len(one) == 1 else one for one in pictures.double().numpy()]
    return in_rows([enlarged(tile.transpose(1, 2, 0), max(48, side)) for tile in tiles], 8 if len(tiles) < 32 else 16)


def _levels(colours: Colours) -> npt.NDArray[np.uint8]:
    return (colours * 255 + 0.5).clip(0, 255).astype(np.uint8)


def png(colours: Colours, all_colours: bool) -> bytes:
    """The content of a PNG file, with all colours or with the 256 that come closest, at a third of the size."""
    content = io.BytesIO()
    image = Image.fromarray(_levels(colours))
    few = image if all_colours else image.quantize(256, dither=Image.Dither.NONE)
    few.save(content, "PNG")
    return content.getvalue()
