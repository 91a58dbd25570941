"""Check what a user writes after `weights=`: a name of ours or torchvision's, `timm:<model>.<tag>`, a file, a run."""

from __future__ import annotations

from pathlib import Path

import yaml

from harness.config.files import CONFIG_FILE
from harness.config.plain_yaml import read_yaml
from harness.errors import UserError, nearest
from models.catalogue import MODELS

DEFAULT = "DEFAULT"  # torchvision's word for the best it has
ENDINGS = (".pth", ".pt", ".th", ".safetensors", ".ckpt")
TIMM = "timm:"
NOTHING = ("", "null", "~")  # YAML's words for it
LOCAL_FILE = "local file"  # the source of weights that were given as a file


def beside(path: Path) -> Path:
    """Return the JSON file beside a file of weights, in which `tools/export.py` describes those weights."""
    return path.with_suffix(".json")


def is_file(weights: str) -> bool:
    """Return whether the user's word names a file or a folder."""
    return weights.endswith(ENDINGS) or "/" in weights or "\\" in weights or Path(weights).exists()


def check_name(weights: str, model: str) -> None:
    """Check the name of weights without torch; a file or a run folder only has to exist.

    Raises:
        UserError: the network or the weights do not exist, or the weights belong to another network than `model`.
    """
    if model not in MODELS:
        raise UserError(f"model={model}: no such choice; the nearest are: {nearest(model, MODELS)}")
    if weights.startswith(TIMM):
        theirs = weights.removeprefix(TIMM).partition(".")[0]
        if theirs != model and theirs in MODELS:
            raise UserError(f"model={model} weights={weights}: these weights belong to {theirs}: use model={theirs}")
        if theirs != model:
            raise UserError(f"weights={weights}: this zoo has no network {theirs!r}; write {TIMM}{model}.<tag>")
    elif is_file(weights):
        if Path(weights).is_dir():
            if not (Path(weights) / CONFIG_FILE).is_file():
                raise UserError(f"weights={weights}: not the folder of a run (it has no {CONFIG_FILE})")
        elif not Path(weights).is_file():
            raise UserError(f"weights={weights}: there is no such file")
    elif weights not in _names(model):
        raise UserError(f"model={model} weights={weights}: {_why_not(weights, model)}")


def check_map(weights_map: str, weights: str | None) -> None:
    """Check a key map without torch, as far as it goes without the weights.

    Raises:
        UserError: there are no weights, or only a name of them, whose keys are known; or as `read_map` does.
    """
    if weights is None:
        raise UserError(f"weights_map={weights_map}: belongs with weights=FILE; add it, or leave weights_map out")
    if not Path(weights).is_file():
        raise UserError(f"weights_map={weights_map}: is for a file, and weights={weights} is none: leave it out")
    read_map(Path(weights_map))


def read_map(path: Path) -> dict[str, str | None]:
    """Read a key map: names of tensors or of modules in a file of weights, and ours; null for what is left out.

    Raises:
        UserError: the file is missing, is not such YAML, or gives two of their names one of ours.
    """
    content = read_yaml(path, yaml.BaseLoader)  # 1.10 is a name there, and no number
    if not isinstance(content, dict) or not content:
        raise UserError(f"weights_map={path}: must be YAML with a line for each key: theirs: ours")
    wrong = next((str(part) for pair in content.items() for part in pair if not isinstance(part, str)), None)
    if wrong is not None:
        raise UserError(f"weights_map={path}: {wrong[:40]} is not the name of a key; each line must be theirs: ours")
    names = {theirs: None if ours in NOTHING else ours for theirs, ours in content.items()}
    theirs_of: dict[str, str] = {}
    for theirs, ours in names.items():
        if ours is not None and theirs_of.setdefault(ours, theirs) != theirs:
            raise UserError(f"weights_map={path}: both {theirs_of[ours]} and {theirs} are called {ours}; drop one")
    return names


def _names(model: str) -> tuple[str, ...]:
    names, ours = MODELS[model].weights, tuple(row.name for row in MODELS[model].released)
    return (*names, DEFAULT, *ours) if names else ours


def _why_not(weights: str, model: str) -> str:
    own, holders = _names(model), [name for name in MODELS if weights in _names(name)]
    sibling = model.rpartition("_")[0]
    if sibling in holders:
        theirs = MODELS[sibling]
        form = f"the {theirs.year} form" if theirs.year != MODELS[model].year else theirs.title
        return f"{weights} belongs to {sibling}, {form}: use model={sibling}"
    has = f"; {model} has {', '.join(own)}" if own else ""
    if holders:
        return f"{weights} belongs to other networks: {', '.join(holders)}{has}"
    known = own or {name for holder in MODELS for name in _names(holder)} - {DEFAULT}
    near = nearest(weights.upper(), known)
    return f"no weights have this name; the nearest are: {near}; a file ends in {', '.join(ENDINGS)}"
