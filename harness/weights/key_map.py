"""Key maps: a user says what the keys of a file are called here, and a file whose shapes fit in order proposes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import nn

from harness.config.weights import read_map
from harness.errors import UserError, nearest
from harness.run.files import sha256_of_file
from harness.weights.convert import COUNTER, Shapes, Tensors

PARTS = ("weight", "bias", "running_mean", "running_var")  # torch's order; files of safetensors are sorted by name


@dataclass(frozen=True)
class KeyMap:
    """A key map that was read.

    Attributes:
        path: path of the file.
        names: names of tensors or modules in a file of weights, and ours; None for what is left out.
        sha256: SHA-256 of the file.
    """

    path: Path
    names: Mapping[str, str | None]
    sha256: str

    @classmethod
    def read(cls, path: Path) -> KeyMap:
        """Read a file; raises what `read_map` does."""
        return cls(path, read_map(path), sha256_of_file(path))

    def __str__(self) -> str:
        """Return a line for the record of the weights."""
        return f"its keys are called as weights_map={self.path.name} says, SHA-256 {self.sha256}"


def mapped(model: str, key_map: KeyMap, tensors: Tensors, shapes: Shapes) -> dict[str, torch.Tensor]:
    """Return tensors under our keys, as a key map calls them.

    A module's name stands for its tensors, which have the same names on both sides. The matrix of a fully connected
    layer over flattened maps is our convolution over all of them, and the other way round.

    Args:
        model: name in the catalogue, for errors.
        key_map: names of tensors or modules.
        tensors: weights under the keys of their file.
        shapes: shapes of the network's own state_dict.

    Raises:
        UserError: a name that the file or the network does not have, a tensor that the map does not name, or two
            tensors under one key.
    """
    where, found = f"weights_map={key_map.path}", dict[str, torch.Tensor]()
    left = {key for key in tensors if not key.endswith(COUNTER)}
    for theirs, ours in key_map.names.items():
        inside = [key for key in tensors if key.startswith(f"{theirs}.")]
        if theirs not in tensors and not inside:
            raise UserError(f"{where}: the weights have no {theirs}; the nearest are: {nearest(theirs, tensors)}")
        for key in [theirs] if theirs in tensors else inside:
            left.discard(key)
            if ours is None:
                continue
            name = ours + key.removeprefix(theirs)
            if name not in shapes:
                raise UserError(f"{where}: {model} has no {name}, for {key}; the nearest are: {nearest(name, shapes)}")
            if name in found:
                raise UserError(f"{where}: {name} is given twice, once by {theirs}; each may be given once")
            alike = _flat(tensors[key].shape) == _flat(shapes[name])
            found[name] = tensors[key].reshape(shapes[name]) if alike else tensors[key]
    if left:
        raise UserError(
            f"{where}: {len(left):,} of the weights' {len(tensors):,} keys are not in it, such as {min(left)}; "
            f"give each our name, or null to leave it out"
        )
    for key in shapes:
        if key.endswith(COUNTER) and key.replace(COUNTER, ".running_var") in found:
            found.setdefault(key, torch.tensor(0))
    return found


def in_order(network: nn.Module, tensors: Tensors) -> dict[str, str] | None:
    """Pair tensors with those of a network, in order, if the shapes of all fit.

    Counters of batch norms may be missing. The classifier may have other classes, and the first convolution other
    channels.

    Returns:
        Our key of each of their keys; None if the shapes do not fit.
    """
    own = network.state_dict()
    theirs, ours = _ordered(tensors), _ordered(own)
    if len(theirs) != len(ours) or not ours:
        return None
    classes = {f"{name}.{part}" for name in _last(network, nn.Linear) for part in PARTS}
    channels = {f"{name}.weight" for name in _first(network, nn.Conv2d)}
    for key, name in zip(theirs, ours, strict=True):
        shape, wanted = _flat(tensors[key].shape), _flat(own[name].shape)
        if name in classes:
            shape, wanted = shape[1:], wanted[1:]
        if name in channels and tensors[key].ndim == own[name].ndim:
            shape, wanted = ([len(each), *each.shape[2:]] for each in (tensors[key], own[name]))
        if shape != wanted:
            return None
    return dict(zip(theirs, ours, strict=True))


def proposal(pairs: Mapping[str, str]) -> str:
    """Return a key map as one line of YAML: of modules, where their tensors have the same names."""
    modules: dict[str, set[str]] = {}
    for theirs, ours in pairs.items():
        module, _, part = theirs.rpartition(".")
        whole = ours.removesuffix(f".{part}") if module and ours.endswith(f".{part}") else ""
        modules.setdefault(module, set()).add(whole)
    content: dict[str, str] = {}
    for theirs, ours in pairs.items():
        module = theirs.rpartition(".")[0]
        whole = min(modules[module])
        content |= {module: whole} if modules[module] == {whole} and whole else {theirs: ours}
    return str(yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=10**9)).strip()


def _flat(shape: torch.Size) -> list[int]:
    """The shape of a fully connected layer's matrix with as many numbers; that of a vector as it is."""
    return [*shape] if len(shape) < 2 else [shape[0], shape[1:].numel()]


def _ordered(tensors: Tensors) -> list[str]:
    """Keys without counters, module by module, and in torch's order within one that has torch's names."""
    modules: dict[str, list[str]] = {}
    for key in tensors:
        if not key.endswith(COUNTER):
            modules.setdefault(key.rpartition(".")[0], []).append(key.rpartition(".")[2])
    for parts in modules.values():
        if {*parts} <= {*PARTS}:
            parts.sort(key=PARTS.index)
    return [f"{module}.{part}" if module else part for module, parts in modules.items() for part in parts]


def _first(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, layer in network.named_modules() if isinstance(layer, kind)][:1]


def _last(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, layer in network.named_modules() if isinstance(layer, kind)][-1:]
