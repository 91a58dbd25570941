"""Ask everything that one page shows: of each picture, of one unit, and of the layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.config.data import DataConfig
from harness.data.images.folder import printable
from harness.errors import UserError
from harness.insight.filters import first_filters
from harness.insight.grad_cam import default_stage
from harness.insight.layers import Layer, layers_of
from harness.insight.occlusion import squares, window_of
from harness.insight.one_picture import Picture, look_at_picture
from harness.insight.one_unit import Unit, Wanted, look_at_unit
from harness.insight.progress import Progress
from harness.insight.stages import stages
from harness.prediction.network import Loaded


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        loaded: the network.
        filters: name and weights of its first layer.
        pictures: in the order in which they were given.
        attention_stage: whose maps Grad-CAM weighs; None for a network without feature maps.
        window: side of the occluding square and its step, in pixels.
        unit: None for a network without feature maps.
        layers: in order.
        device: that ran the network.
    """

    loaded: Loaded
    filters: tuple[str, torch.Tensor]
    pictures: list[Picture]
    attention_stage: str | None
    window: tuple[int, int]
    unit: Unit | None
    layers: list[Layer]
    device: torch.device


def look(
    loaded: Loaded,
    paths: Sequence[bytes],
    wanted: Wanted,
    data: DataConfig | None,
    *,
    top: int,
    device: torch.device,
    progress: Progress,
) -> Report:
    """Look at pictures through a network.

    Args:
        loaded: the network; it is moved to the device, and its weights lose their gradients.
        paths: of the pictures.
        wanted: the unit that is looked at.
        data: the set in whose test split exciting images are looked for; None for the one that the network was trained
            on here, as far as it lies on this machine.
        top: number of classes for each picture.
        device: where the network runs.
        progress: of what takes long.

    Raises:
        UserError: a picture that cannot be read, a unit that the network does not have, or a set that cannot be read.
    """
    preprocessing = loaded.trained.preprocessing
    if preprocessing.channels not in (1, 3):
        raise UserError(f"{loaded.source}: takes {preprocessing.channels} channels; pictures have one or three")
    images = torch.stack([loaded.preprocess(os.fsdecode(path)) for path in paths]).to(device)
    network = loaded.network.to(device).requires_grad_(False)
    known = stages(network, images[0])
    attention_stage, stage = default_stage(known), wanted.check(known)
    if stage is None and attention_stage is not None:
        (stage,) = (one for one in known if one.name == attention_stage)
    layers = layers_of(network, images[0])
    multiply_adds = sum(layer.multiply_adds for layer in layers if not layer.depth)
    unit = look_at_unit(loaded, stage, wanted, images, data, multiply_adds, progress) if stage else None
    window = window_of(preprocessing.size)
    progress.begin("occluding", len(paths) * squares(preprocessing.size, *window))
    pictures = [
        look_at_picture(network, name, image, top=top, stage=attention_stage, window=window, progress=progress)
        for name, image in zip(_names(paths), images, strict=True)
    ]
    filters = first_filters(network, preprocessing.size, preprocessing.channels)
    return Report(loaded, filters, pictures, attention_stage, window, unit, layers, device)


def _names(paths: Sequence[bytes]) -> list[str]:
    """The pictures by the names of their files, or by their paths where two files have the same name."""
    names = [printable(os.path.basename(path)) for path in paths]  # noqa: PTH119  # paths are bytes here
    return names if len(set(names)) == len(names) else [printable(path) for path in paths]
