"""Whose keys they are, what they are called here, and how they differ from a network's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from harness.errors import UserError
from models.keymaps import from_akamaster, from_timm, from_torchvision

Shapes = Mapping[str, torch.Size]
SHOWN = 3  # keys of each kind in a message
COUNTER = ".num_batches_tracked"  # of a batch norm, which no output depends on; older files lack it


def _ours(model: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(tensors)


HOUSES: tuple[Callable[[str, Mapping[str, torch.Tensor]], dict[str, torch.Tensor]], ...] = (
    _ours,
    from_torchvision,
    from_timm,
    from_akamaster,
)


class MismatchError(UserError):
    """Weights that are not of the network that they were meant for."""


@dataclass(frozen=True)
class Difference:
    """What stands between weights under our keys and a network.

    Attributes:
        missing: keys that only the network has.
        unexpected: keys that only the weights have, as they call them.
        shapes: keys of both whose shapes differ.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def describe(self, theirs: Mapping[str, torch.Tensor], ours: Shapes) -> str:
        """A short list: the first keys of each kind, and how many there are."""
        shapes = [f"{key} {tuple(theirs[key].shape)} instead of {tuple(ours[key])}" for key in self.shapes]
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        return "; ".join(f"{len(keys):,} {kind}: {_first(keys)}" for kind, keys in kinds if keys)


def _first(keys: tuple[str, ...] | list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")


def under_our_keys(
    model: str, tensors: Mapping[str, torch.Tensor], shapes: Shapes
) -> tuple[dict[str, torch.Tensor], Difference]:
    """Translate weights to the keys of a network of ours, whoever wrote them.

    Args:
        model: name in the catalogue.
        tensors: by the keys of ours, torchvision's, timm's or akamaster's networks, without prefixes.
        shapes: of the network's own state_dict.

    Returns:
        The tensors whose keys the network has, batch norms' counters completed, and what differs.
    """
    translated = _translate(model, tensors, shapes)
    unexpected: list[str] = []
    if translated is None:
        translated, unexpected = _translate_what_is_known(model, tensors, shapes)
    for key in shapes:
        if key.endswith(COUNTER):
            translated.setdefault(key, torch.tensor(0))
    missing = tuple(key for key in shapes if key not in translated)
    differing = tuple(key for key, value in translated.items() if value.shape != shapes[key])
    return translated, Difference(missing, tuple(unexpected), differing)


def _translate(model: str, tensors: Mapping[str, torch.Tensor], shapes: Shapes) -> dict[str, torch.Tensor] | None:
    """By the first house that knows every key; None if there is none."""
    for house in HOUSES:
        try:
            translated = house(model, tensors)
        except ValueError:
            continue
        if translated.keys() <= shapes.keys():
            return translated
    return None


def _translate_what_is_known(
    model: str, tensors: Mapping[str, torch.Tensor], shapes: Shapes
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """By the house that knows most keys, and the keys that it does not know; a house is asked module by module."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        modules.setdefault(key.rpartition(".")[0], {})[key] = value
    best: tuple[dict[str, torch.Tensor], list[str]] = ({}, list(tensors))
    for house in HOUSES:
        known: dict[str, torch.Tensor] = {}
        unknown: list[str] = []
        for module in modules.values():
            for key, value in module.items():
                translated = _translate(model, {key: value}, shapes) if house is _ours else None
                known |= translated or {}
                if not translated:
                    unknown.append(key)
        if len(unknown) < len(best[1]):
            best = known, unknown
    return best
