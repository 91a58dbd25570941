"""Check what a user writes after `weights=`: a name of ours or torchvision's, `timm:<model>.<tag>`, a file, a run."""

from __future__ import annotations

from pathlib import Path

from harness.config.files import CONFIG_FILE
from harness.errors import UserError, nearest
from models.catalogue import MODELS

DEFAULT = "DEFAULT"  # torchvision's word for the best it has
ENDINGS = (".pth", ".pt", ".th", ".safetensors", ".ckpt")
TIMM = "timm:"
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
