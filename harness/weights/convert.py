"""Convert the keys of weights by other programs to ours, and say how they differ from a network's keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from harness.errors import UserError
from models.keymaps import from_akamaster, from_timm, from_torchvision, to_torchvision

Tensors = Mapping[str, torch.Tensor]
Shapes = Mapping[str, torch.Size]
House = Callable[[str, Tensors], dict[str, torch.Tensor]]
SHOWN = 3  # most keys of each kind in a message
COUNTER = ".num_batches_tracked"  # a buffer of batch norms that no output depends on; older files lack it


def _ours(model: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    return dict(tensors)


HOUSES: tuple[House, ...] = (_ours, from_torchvision, from_timm, from_akamaster)


@dataclass(frozen=True)
class Difference:
    """How weights under our keys differ from a network.

    Attributes:
        missing: keys that only the network has.
        unexpected: keys that only the weights have, as the file calls them.
        shapes: keys that have different shapes in both, with the two shapes.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        """Return a short list: the number of keys of each kind, and the first ones."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.shapes))
        return "; ".join(
            f"{len(keys):,} {kind}: {', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''}"
            for kind, keys in kinds
            if keys
        )


def difference(tensors: Tensors, unexpected: Sequence[str], shapes: Shapes) -> Difference:
    """Compare translated weights with a network whose state_dict has these shapes."""
    differing = [
        f"{key} {tuple(value.shape)} instead of {tuple(shapes[key])}"
        for key, value in tensors.items()
        if value.shape != shapes[key]
    ]
    return Difference(tuple(key for key in shapes if key not in tensors), tuple(unexpected), tuple(differing))


def under_our_keys(model: str, tensors: Tensors, shapes: Shapes) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Translate weights to the keys of our network.

    Args:
        model: name in the catalogue.
        tensors: weights under the keys of our, torchvision's, timm's or akamaster's networks, without prefixes.
        shapes: shapes of the network's own state_dict.

    Returns:
        The tensors whose keys the network has, with missing counters of batch norms added; and the keys that it lacks.
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


def without_prefix(model: str, tensors: Tensors, shapes: Shapes) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Find the network in a file that holds it under a prefix, beside other things: `backbone.`, beside `criterion.`.

    Args:
        model: name in the catalogue.
        tensors: weights under the keys of their file.
        shapes: shapes of the network's own state_dict; the number of classes and channels may differ.

    Returns:
        The tensors under the prefix whose tensors fit best, without it, and the keys of the others; all tensors if
        none fits better than they do together.
    """

    def fitting(candidate: Tensors) -> int:
        translated, _ = under_our_keys(model, candidate, shapes)
        return sum(translated[key].shape[2:] == shapes[key][2:] for key in translated)

    if not under_our_keys(model, tensors, shapes)[1]:
        return dict(tensors), ()
    shared = Counter(prefix for key in tensors for prefix in _prefixes(key))
    common = [prefix for prefix, keys in shared.items() if 2 * keys >= len(tensors)]
    best, found = dict(tensors), fitting(tensors)
    for prefix in common:
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if (fits := fitting(inside)) > found:
            best, found = inside, fits
    kept = {id(value) for value in best.values()}
    return best, tuple(key for key, value in tensors.items() if id(value) not in kept)


def _prefixes(key: str) -> list[str]:
    """The beginnings of a key that end in a dot: `a.`, `a.b.`."""
    return [key[: place + 1] for place, letter in enumerate(key) if letter == "."]


def under_torchvisions_keys(model: str, tensors: Tensors, standard: Shapes) -> dict[str, torch.Tensor]:
    """Return a network's tensors under the keys of torchvision's network of the same name.

    Args:
        model: name in the catalogue.
        tensors: state_dict of our network.
        standard: shapes of our network with torchvision's options; the number of classes may differ.

    Raises:
        UserError: torchvision has no such network, or its network has other layers or channels.
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
    """Return the tensors under our keys; None if the other program or our network does not know one of them."""
    try:
        translated = house(model, tensors)
    except ValueError:
        return None
    return translated if translated.keys() <= shapes.keys() else None


def _what_is_known(model: str, tensors: Tensors, shapes: Shapes) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Translate module by module with the mapping that knows most keys; return also the keys that it does not know."""
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
