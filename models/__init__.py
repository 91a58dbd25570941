"""The networks: one file per family, each written to be read beside its paper.

The catalogue (`MODELS`) is plain data and imports without torch. `build_model` builds a network by its name, and
`models.builders` has a typed function for each name.
"""

from __future__ import annotations

import importlib
import inspect
from numbers import Integral
from typing import TYPE_CHECKING

from .catalogue import MODELS, Entry, Name, Published, model_names

if TYPE_CHECKING:
    from .network import Network

__all__ = ["MODELS", "Entry", "Name", "Published", "build_model", "model_names"]


def build_model(
    name: Name | str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
    **options: object,
) -> Network:
    """Build a network of the catalogue. Its weights are fresh draws from torch's global generator.

    `MODELS` has the name, and `models.builders` the function of that name. Only these networks can be built, whatever a
    config or a checkpoint says.

    Args:
        name: a key of `MODELS`.
        num_classes: length of the logits. The catalogue has the default.
        in_channels: channels of the images. The catalogue has the default.
        image_size: side of the square images in pixels. The catalogue has the default.
        **options: options of this network, such as `hidden` of `mlp`.

    Returns:
        A module that maps images (N, in_channels, image_size, image_size) to logits (N, num_classes).

    Raises:
        ValueError: an unknown name or option, or a number of classes, channels or pixels that the network cannot have.
    """
    entry = Entry.named(name)
    for argument, value in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", image_size)):
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (whole and value > 0):
            raise ValueError(f"{argument} of {name} needs to be a whole number of at least 1, not {value!r}")
    arguments: dict[str, object] = {
        "num_classes": entry.num_classes if num_classes is None else num_classes,
        "in_channels": entry.in_channels if in_channels is None else in_channels,
    }
    entry.check_input(entry.input_size if image_size is None else image_size)
    builder = getattr(importlib.import_module(".builders", __package__), name)  # late: it imports torch
    known = inspect.signature(builder).parameters
    if "image_size" in known:
        arguments["image_size"] = entry.input_size if image_size is None else image_size
    for option in options:
        if option not in known or option in ("num_classes", "in_channels", "image_size"):
            own = sorted(set(known) - {"num_classes", "in_channels", "image_size"})
            raise ValueError(f"model {name} has no option {option!r}; it has: {', '.join(own) or 'none'}")
    network: Network = builder(**arguments, **options)
    return network
