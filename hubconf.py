"""Networks and weights for `torch.hub`: `torch.hub.load(FOLDER, "resnet50", source="local", weights="IMAGENET1K_V2")`.

This file needs nothing but torch. Weights of torchvision need torchvision, and ours need safetensors, too.
"""

from __future__ import annotations

import hashlib as _hashlib
import importlib as _importlib
import importlib.util as _util
import inspect as _inspect
import sys as _sys
import zlib as _zlib
from collections.abc import Callable as _Callable
from pathlib import Path as _Path
from typing import Any as _Any

import torch as _torch

dependencies = ["torch"]


def _import_models() -> str:
    """Import `models/` under a name of its own, since a user's package is often called `models`, too.

    Returns:
        The name. It depends on the folder, so that two versions of the zoo do not mix in one process.
    """
    folder = _Path(__file__).resolve().parent / "models"
    name = f"cnn_zoo_models_{_zlib.crc32(str(folder).encode()):08x}"
    if name not in _sys.modules:
        spec = _util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} is not a package")
        _sys.modules[name] = _util.module_from_spec(spec)
        spec.loader.exec_module(_sys.modules[name])
    return name


_NAME = _import_models()
_models = _importlib.import_module(_NAME)
_builders = _importlib.import_module(f"{_NAME}.builders")
_keymaps = _importlib.import_module(f"{_NAME}.keymaps")
_catalogue = _importlib.import_module(f"{_NAME}.catalogue")


def _read_released(row: _Any) -> dict[str, _Any]:
    """The tensors of a file of ours, in single precision."""
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise ImportError(f"weights={row.name} is a file of safetensors: pip install safetensors") from error
    file = _catalogue.WEIGHTS / row.file
    if not file.is_file():
        raise ValueError(f"weights={row.name}: {file} is not there; this project's releases have it")
    content = file.read_bytes()
    if _hashlib.sha256(content).hexdigest() != row.sha256:
        raise ValueError(f"weights={row.name}: {file} is damaged or another file: its SHA-256 is not {row.sha256}")
    return {key: value.float() if value.is_floating_point() else value for key, value in load(content).items()}


def _read(name: str, weights: str) -> dict[str, _Any]:
    """The tensors of a published file or of a file on this machine, under our keys."""
    published = _models.MODELS[name].weights
    released = {row.name: row for row in _models.MODELS[name].released}
    if weights in released:
        return _read_released(released[weights])
    if published and weights in (*published, "DEFAULT"):
        try:
            from torchvision.models import get_model_weights
        except ImportError as error:
            raise ImportError(f"weights={weights} is a file of torchvision's: pip install torchvision") from error
        url = get_model_weights(name)[weights].url
        content = _torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    elif _Path(weights).is_file():
        try:
            content = _torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:  # reading a damaged zip or pickle can raise anything
            raise ValueError(
                f"weights={weights}: damaged, or not tensors and plain data; it was not loaded ({type(error).__name__})"
            ) from error
    else:
        names = ", ".join((*published, *released))
        known = f"{name} has {names}" if names else f"there are no published weights of {name}"
        raise ValueError(f"weights={weights}: neither a name nor a file; {known}")
    if not isinstance(content, dict) or not content:
        raise ValueError(f"weights={weights}: neither a checkpoint nor a state_dict")
    if "cnn_zoo" in content:  # a checkpoint of train.py
        try:
            model, state = content["cnn_zoo"]["model"], content["state_dict"]
            prefix = "network."
            content = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"weights={weights}: a damaged checkpoint ({type(error).__name__})") from error
        if model != name:
            raise ValueError(f"weights={weights}: these are of {model}, not of {name}")
    odd = next((key for key, value in content.items() if not isinstance(key, str) or not _is_plain(value)), None)
    if odd is not None:
        raise ValueError(f"weights={weights}: {odd} is no dense tensor of real numbers; save a state_dict() of such")
    theirs = published and any(key.startswith(("layer", "features", "classifier")) for key in content)
    return _keymaps.from_torchvision(name, content) if theirs else dict(content)


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor that has values, each in its place."""
    if not isinstance(value, _torch.Tensor) or value.is_meta or value.is_quantized or value.is_complex():
        return False
    return value.layout is _torch.strided and not value.is_nested


def _load(network: _torch.nn.Module, name: str, weights: str) -> None:
    own = network.state_dict()
    counters = {key: own[key] for key in own if key.endswith(".num_batches_tracked")}  # older files lack them
    tensors = counters | _read(name, weights)
    where = f"model {name}, weights={weights}"
    if tensors.keys() != own.keys():
        raise ValueError(f"{where}: the file has other keys than the network: {min(tensors.keys() ^ own.keys())}")
    for key, value in tensors.items():
        if value.shape != own[key].shape:
            shapes = f"{tuple(value.shape)} in the file and {tuple(own[key].shape)} in the network"
            raise ValueError(
                f"{where}: {key} is {shapes}; build the network as the file has it, then replace its layers"
            )
        if value.is_floating_point() != own[key].is_floating_point():
            raise ValueError(f"{where}: {key} holds {value.dtype} in the file and {own[key].dtype} in the network")
        if not value.to(own[key].dtype).isfinite().all():
            raise ValueError(f"{where}: {key} holds numbers that are not finite, so the network would give none")
    network.load_state_dict(tensors)


def _words(entry: _Any) -> tuple[str, ...]:
    return (*entry.weights, *(row.name for row in entry.released))


def _entrypoint(name: str) -> _Callable[..., _torch.nn.Module]:
    def build(weights: str | None = None, **options: _Any) -> _torch.nn.Module:
        network: _torch.nn.Module = _models.build_model(name, **options)
        if weights is not None:
            _load(network, name, str(weights))
        return network

    entry, known = _models.MODELS[name], _inspect.signature(getattr(_builders, name)).parameters
    defaults = {"num_classes": entry.num_classes, "in_channels": entry.in_channels}
    options = ", ".join(f"{key}={defaults.get(key, option.default)!r}" for key, option in known.items())
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""{getattr(_builders, name).__doc__}

Paper: {entry.paper}, {entry.year}.

Args:
    weights: None for fresh weights, {"".join(f"{word}, " for word in _words(entry))}or the path of a file: a checkpoint
        of train.py, or a state_dict that `torch.save` wrote.
    **options: {options}.

Returns:
    A network that maps images (N, in_channels, {entry.input_size}, {entry.input_size}) to logits (N, num_classes), in
    training mode. It has `forward_features`, `num_features` and `get_classifier()`. Its classifier is called
    `{entry.classifier}`.

Raises:
    ValueError: an unknown option, or weights that do not exist or do not fit.
    ImportError: published weights without torchvision.
"""
    return build


for _name in _models.MODELS:
    globals()[_name] = _entrypoint(_name)
