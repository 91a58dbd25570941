"""Predictions for pictures that a program holds: the same preprocessing and arithmetic as for files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import nn

from harness.config.facts import Preprocessing
from harness.data.images.decode import Pixels, decode, opaque, read
from harness.data.images.geometry import centre_crop
from harness.data.images.opening import UnreadableError
from harness.data.images.pixels import Normalise
from harness.errors import UserError
from harness.evaluation.counts import first_classes

Picture = str | Path | Image.Image | npt.NDArray[Any]


def preprocess(picture: Picture, preprocessing: Preprocessing, decoder: str) -> torch.Tensor:
    """A picture as it goes into a network.

    Args:
        picture: the path of a file, an image of Pillow's, or an array uint8 (H, W, 3) or (H, W).
        preprocessing: of the network.
        decoder: `fast` or `pil`.

    Returns:
        float32 (C, size, size), normalised.

    Raises:
        UserError: a file that cannot be read, or an array of another shape or type.
    """
    middle = centre_crop(_pixels(picture, decoder), preprocessing, decoder)  # uint8 (1, size, size, 3)
    images: torch.Tensor = Normalise(preprocessing, "cpu")(torch.tensor(middle).movedim(-1, 1))
    return images[0]


def _pixels(picture: Picture, decoder: str) -> Pixels:
    """RGB, uint8 (H, W, 3)."""
    if isinstance(picture, (str, Path)):
        try:
            return decode(read(os.fsencode(picture)), decoder, as_viewed=True)
        except UnreadableError as error:
            raise UserError(f"{picture}: {error}") from error
    if isinstance(picture, Image.Image):
        return np.array(opaque(ImageOps.exif_transpose(picture)).convert("RGB"))
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise UserError(f"an array of {picture.dtype} {picture.shape}: a picture is uint8 (H, W, 3) or (H, W)")
    return np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture


@torch.inference_mode()
def likeliest(network: nn.Module, images: torch.Tensor, class_names: Sequence[str], top: int) -> list[dict[str, float]]:
    """The likeliest classes of each image with their probabilities, best first; ties go to the lower class index.

    Args:
        network: in evaluation.
        images: float32 (N, C, H, W), as `preprocess` gives them.
        class_names: in label order.
        top: how many of each.

    Raises:
        UserError: scores that are not numbers.
    """
    scores = network(images).float()
    classes, best = first_classes(scores, top)
    if (classes < 0).any():
        raise UserError("a score is not a number; are the weights and the picture as they should be?")
    probabilities = (best - scores.logsumexp(1, keepdim=True)).exp()
    return [
        {class_names[position]: round(chance, 6) for position, chance in zip(positions, chances, strict=True)}
        for positions, chances in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]
