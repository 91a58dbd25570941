"""Whose keys they are, what they are called here, and how they differ from a network's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from harness.errors import UserError
from models.keymaps import from_akamaster, from_timm, from_torchvision, to_torchvision

Tensors = Mapping[str, torch.Tensor]
Shapes = Mapping[str, torch.Size]
House = Callable[[str, Tensors], dict[str, torch.Tensor]]
SHOWN = 3  # keys of each kind in a message
COUNTER = ".num_batches_tracked"  # of a batch norm, which no output depends on; older files lack it


def _ours(model: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    return dict(tensors)


HOUSES: tuple[House, ...] = (_ours, from_torchvision, from_timm, from_akamaster)


@dataclass(frozen=True)
class Difference:
    """What stands between weights under our keys and a network.

    Attributes:
        missing: keys that only the network has.
        unexpected: keys that only the weights have, as they call them.
        shapes: keys of both, with their shape and the network's.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        """A short list: the first keys of each kind, and how many there are."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.shapes))
        return "; ".join(
            f"{len(keys):,} {kind}: {', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''}"
            for kind, keys in kinds
            if keys
        )


def difference(tensors: Tensors, unexpected: Sequence[str], shapes: Shapes) -> Difference:
    """What differs between translated weights and a network whose state_dict has these shapes."""
    differing = [
        f"{key} {tuple(value.shape)} instead of {tuple(shapes[key])}"
        for key, value in tensors.items()
        if value.shape != shapes[key]
    ]
    return Difference(tuple(key for key in shapes if key not in tensors), tuple(unexpected), tuple(differing))


def under_our_keys(model: str, tensors: Tensors, shapes: Shapes) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Translate weights to the keys of a network of ours, whoever wrote them.

    Args:
        model: name in the catalogue.
        tensors: by the keys of ours, torchvision's, timm's or akamaster's networks, without prefixes.
        shapes: of the network's own state_dict.

    Returns:
        The tensors whose keys the network has, batch norms' counters completed; and the keys that it has not.
    """
    whole = (_ask(house, model, tensors, shapes) for house in HOUSES)
    translated = next((found for found in whole if found is not None), None)
    unexpected: list[str] = []
    if translated is None:
        translated, unexpected = _what_is_known(model, tensors, shapes)
    for key in shapes:
        if key.endswith(COUNTER) and key.replace(COUNTER, ".running_var") in translated:
            translated.setdefault(key, torch.tensor(0))
    return translated, unexpected


def under_torchvisions_keys(model: str, tensors: Tensors, standard: Shapes) -> dict[str, torch.Tensor]:
    """A network's numbers under the keys of torchvision's network of the same name, which can load them.

    Args:
        model: name in the catalogue.
        tensors: state_dict of a network of ours.
        standard: shapes of that of the model as torchvision has it; the number of classes is free.

    Raises:
        UserError: torchvision has no such network, or one with other layers or channels.
    """
    other = sorted(tensors.keys() ^ standard.keys())
    other = other or [key for key, value in tensors.items() if value.shape[1:] != standard[key][1:]]
    try:
        renamed = to_torchvision(model, tensors)
    except ValueError as error:
        if not other:
            raise UserError(f"format=torchvision: {error}") from error
    if other:
        raise UserError(f"format=torchvision: torchvision's {model} has other layers or channels: {other[0]}")
    return renamed


def _ask(house: House, model: str, tensors: Tensors, shapes: Shapes) -> dict[str, torch.Tensor] | None:
    """The tensors under our keys; None if the house or the network does not know one of them."""
    try:
        translated = house(model, tensors)
    except ValueError:
        return None
    return translated if translated.keys() <= shapes.keys() else None


def _what_is_known(model: str, tensors: Tensors, shapes: Shapes) -> tuple[dict[str, torch.Tensor], list[str]]:
    """By the house that knows most keys, and the keys that it does not know; asked for a module at a time."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        modules.setdefault(key.rpartition(".")[0], {})[key] = value
    best: tuple[dict[str, torch.Tensor], list[str]] = {}, list(tensors)
    for house in HOUSES:
        known: dict[str, torch.Tensor] = {}
        unknown: list[str] = []
        for module in modules.values():
            whole = _ask(house, model, module, shapes)
            for piece in [module] if whole is not None else [{key: value} for key, value in module.items()]:
                translated = _ask(house, model, piece, shapes)
                known |= translated or {}
                unknown += [] if translated is not None else piece
        if len(unknown) < len(best[1]):
            best = known, unknown
    return best
