"""Read tensors from a file, in our formats and in those of other programs, without running code in the file."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.config.weights import beside
from harness.errors import UserError
from harness.run.checkpoint import KEY, Trained, checkpoint_from, read_content, trained_from
from harness.run.files import sha256_of_file

AVERAGED = ("model_ema", "state_dict_ema", "ema")  # averages over training steps; publishers report errors of these
NESTED = ("state_dict", "model_state_dict", "model")
DEEPEST = 3  # most nested dictionaries; a damaged file can hold one that holds itself
PREFIXES = ("module.", "model.", "_orig_mod.", "network.")


@dataclass(frozen=True)
class Tensors:
    """Content of a file of weights.

    Attributes:
        tensors: tensors by key, without the prefixes of wrappers.
        part: keys of the dictionaries that held the tensors, such as `model_ema`; empty for the whole file.
        trained: description by our checkpoint or by tools/export.py; None for files of other programs.
    """

    tensors: dict[str, torch.Tensor]
    part: str
    trained: Trained | None


def read_tensors(path: Path) -> Tensors:
    """Read a file of weights to the CPU; if it holds averaged and plain weights, take the averaged ones.

    Raises:
        UserError: the file is missing or damaged, holds code, or holds no weights.
    """
    if path.suffix == ".safetensors":
        return _safetensors(path)
    with torch.serialization.safe_globals([argparse.Namespace]):  # torchvision's checkpoints hold one, of plain values
        content = read_content(path)
    if isinstance(content, dict) and KEY in content:
        checkpoint = checkpoint_from(content, path)
        return Tensors(checkpoint.state_dict, "", checkpoint.trained)
    under: list[str] = []
    while not _is_state_dict(content):
        key = next((key for key in (*AVERAGED, *NESTED) if _holds(content, key)), None)
        if key is None or len(under) == DEEPEST:
            known = ", ".join((*NESTED, *AVERAGED))
            raise UserError(f"{path}: holds no weights: neither tensors nor a dictionary of them under {known}")
        under.append(key)
        content = content[key]
    return Tensors(_unwrapped(content), ".".join(under), _said_beside(path))


def _said_beside(path: Path) -> Trained | None:
    """Read what `tools/export.py` wrote beside a file; return None without it, or if it describes another file."""
    try:
        described = json.loads(beside(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(described, dict) and described.get("sha256") == sha256_of_file(path)
    return _trained(described, beside(path)) if ours else None


def _safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dictionary
            described = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or not a file of safetensors ({type(error).__name__})") from error
    if described is None:
        return Tensors(_unwrapped(tensors), "", None)
    try:
        content = json.loads(described)
    except ValueError as error:
        raise UserError(f"{path}: its description of the network is damaged ({type(error).__name__})") from error
    return Tensors(tensors, "", _trained(content, path))


def _trained(described: Any, path: Path) -> Trained:
    try:
        return trained_from(described, path)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: its description of the network is damaged ({type(error).__name__})") from error


def _holds(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), dict)


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items())


def _unwrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors without prefixes that all keys share, and without the counter of torch's averaging."""
    bare = {key: value for key, value in tensors.items() if key != "n_averaged"}
    while prefix := next((p for p in PREFIXES if bare and all(key.startswith(p) for key in bare)), ""):
        bare = {key.removeprefix(prefix): value for key, value in bare.items()}
    return bare
