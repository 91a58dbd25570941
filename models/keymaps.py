"""Translate the keys of a state_dict between torchvision, timm or akamaster's ResNets and ours.

A map goes from our module to theirs, such as `conv1_1` to `features.0`. The tensors of a module have the same names on
both sides. A state_dict may lack modules, and the keys that are there are translated. No function downloads anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch

from .resnet import LAYERS
from .vgg import CONFIGURATIONS

_RESNET = {f"resnet{depth}": depth for depth in LAYERS}
_AKAMASTER = {f"resnet{depth}": (depth - 2) // 6 for depth in (20, 32, 44, 56, 110, 1202)}  # blocks of a stage
_VGG = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}


def _alexnet() -> dict[str, str]:
    """torchvision's `features` and `classifier` number all layers, also rectifiers, pooling and dropout."""
    return {
        "conv1": "features.0",
        "conv2": "features.3",
        "conv3": "features.6",
        "conv4": "features.8",
        "conv5": "features.10",
        "fc6": "classifier.1",
        "fc7": "classifier.4",
        "fc8": "classifier.6",
    }


def _vgg(name: str) -> dict[str, str]:
    """The convolutions of VGG. timm has torchvision's keys."""
    plain = name.removesuffix("_bn")
    modules, index = {}, 0
    for stage, column in enumerate(CONFIGURATIONS[_VGG[plain]], start=1):
        for position in range(1, len(column.split()) + 1):
            modules[f"conv{stage}_{position}"] = f"features.{index}"
            if name != plain:
                index += 1
                modules[f"bn{stage}_{position}"] = f"features.{index}"
            index += 2  # the rectifier
        index += 1  # the pooling
    return modules


def _resnet(name: str) -> dict[str, str]:
    """Our ResNets and torchvision's differ in the names of stages and projections. timm has torchvision's keys."""
    layers, blocks = LAYERS[_RESNET[name]]
    modules = {"conv1": "conv1", "bn1": "bn1", "fc": "fc"}
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            ours, theirs = f"conv{stage + 1}_x.{block}", f"layer{stage}.{block}"
            for layer in range(1, layers + 1):
                modules |= {f"{ours}.conv{layer}": f"{theirs}.conv{layer}", f"{ours}.bn{layer}": f"{theirs}.bn{layer}"}
        first = f"conv{stage + 1}_x.0.shortcut", f"layer{stage}.0.downsample"
        modules |= {f"{first[0]}.{part}": f"{first[1]}.{part}" for part in range(2)}
    return modules


def _akamaster(name: str) -> dict[str, str]:
    """The networks of akamaster/pytorch_resnet_cifar10 on one device, which have option A as ours do."""
    if name not in _AKAMASTER:
        raise ValueError(f"akamaster has no network that equals {name}; it has {', '.join(_AKAMASTER)}")
    modules = {"conv1": "conv1", "bn1": "bn1", "fc": "linear"}
    for stage in range(1, 4):
        for block in range(_AKAMASTER[name]):
            for layer in ("conv1", "bn1", "conv2", "bn2"):
                modules[f"conv{stage + 1}_x.{block}.{layer}"] = f"layer{stage}.{block}.{layer}"
    return modules


def _torchvision(name: str) -> dict[str, str]:
    if name == "alexnet":
        return _alexnet()
    if name in _RESNET:
        return _resnet(name)
    if name.removesuffix("_bn") in _VGG:
        return _vgg(name) | {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    raise ValueError(f"torchvision has no network that equals {name}")


def _timm(name: str) -> dict[str, str]:
    if name in _RESNET:
        return _resnet(name)
    if name.removesuffix("_bn") in _VGG:
        return _vgg(name) | {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    raise ValueError(f"timm has no network that equals {name}")


def _rename(state_dict: Mapping[str, torch.Tensor], modules: Mapping[str, str]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in state_dict.items():
        module, _, number = key.rpartition(".")
        if module not in modules:
            raise ValueError(f"the weights hold {key!r}, which this network does not have; are they of another one?")
        renamed[f"{modules[module]}.{number}"] = value
    return renamed


@cache
def _reverse(house: Callable[[str], dict[str, str]], name: str) -> Mapping[str, str]:
    """From their modules to ours. The result is kept, since harness/weights may ask once for each module of a file."""
    return {theirs: ours for ours, theirs in house(name).items()}


def to_torchvision(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our tensors of the network `name` under torchvision's keys.

    Raises:
        ValueError: torchvision has no such network, or our network has no such key.
    """
    return _rename(state_dict, _torchvision(name))


def from_torchvision(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's tensors of the network `name` under our keys.

    Raises:
        ValueError: torchvision has no such network, or its network has no such key.
    """
    return _rename(state_dict, _reverse(_torchvision, name))


def to_timm(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our tensors of the network `name` under timm's keys. In timm, fc6 and fc7 of a VGG are 7x7 and 1x1 convolutions.

    Raises:
        ValueError: timm has no such network, or our network has no such key.
    """
    renamed = _rename(state_dict, _timm(name))
    for key, side in (("pre_logits.fc1.weight", 7), ("pre_logits.fc2.weight", 1)):
        if key in renamed:
            renamed[key] = renamed[key].reshape(4096, -1, side, side)
    return renamed


def from_timm(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's tensors of the network `name` under our keys.

    Raises:
        ValueError: timm has no such network, or its network has no such key.
    """
    renamed = _rename(state_dict, _reverse(_timm, name))
    for key in ("fc6.weight", "fc7.weight"):
        if key in renamed:
            renamed[key] = renamed[key].flatten(1)
    return renamed


def from_akamaster(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of akamaster/pytorch_resnet_cifar10's network `name` under our keys.

    Its files hold them under `state_dict`. Their keys have the prefix `module.` of a data-parallel wrapper, which may
    be missing here. The files are older than the counters of batch norms, so missing counters are set to zero.

    Raises:
        ValueError: akamaster has no such network, or its network has no such key.
    """
    bare = {key.removeprefix("module."): value for key, value in state_dict.items()}
    renamed = _rename(bare, _reverse(_akamaster, name))
    for key in list(renamed):
        if key.endswith(".running_var"):
            renamed.setdefault(key.replace(".running_var", ".num_batches_tracked"), torch.tensor(0))
    return renamed


def to_akamaster(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our tensors of the network `name` with option A under akamaster's keys, which begin with `module.`.

    Raises:
        ValueError: akamaster has no such network, or our network has no such key.
    """
    return {f"module.{key}": value for key, value in _rename(state_dict, _akamaster(name)).items()}
