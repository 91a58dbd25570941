"""The networks: one file per family, each written to be read beside its paper.

The catalogue (`MODELS`) is plain data and imports without torch; `build_model` imports the family's file.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

from models.catalogue import MODELS, Entry, Published, model_names

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODELS", "Entry", "Published", "build_model", "model_names"]


def build_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
    **options: object,
) -> nn.Module:
    """Build a network of the catalogue with freshly initialised weights, drawn from torch's global generator.

    The name is looked up in `MODELS` and is the name of the function in `models/<family>.py` that is called: only the
    networks listed there can be built, whatever a config or a checkpoint says.

    Args:
        name: a key of `MODELS`.
        num_classes: length of the logits; the entry's own by default.
        in_channels: channels of the images; the entry's own by default.
        image_size: side of the square images in pixels; the entry's own by default.
        **options: the family's own options, such as `hidden` of `mlp`.

    Returns:
        A module that maps images (N, in_channels, image_size, image_size) to logits (N, num_classes).

    Raises:
        ValueError: an unknown name or option, or a number of classes, channels or pixels that the network cannot have.
    """
    entry = Entry.named(name)
    arguments: dict[str, object] = {
        "num_classes": entry.num_classes if num_classes is None else num_classes,
        "in_channels": entry.in_channels if in_channels is None else in_channels,
    }
    entry.check_input(entry.input_size if image_size is None else image_size)
    builder = getattr(importlib.import_module(f"models.{entry.family}"), name)
    known = inspect.signature(builder).parameters
    if "image_size" in known:
        arguments["image_size"] = entry.input_size if image_size is None else image_size
    for option in options:
        if option not in known or option in ("num_classes", "in_channels", "image_size"):
            own = sorted(set(known) - {"num_classes", "in_channels", "image_size"})
            raise ValueError(f"model {name} has no option {option!r}; it has: {', '.join(own) or 'none'}")
    module: nn.Module = builder(**arguments, **options)
    return module
