"""Turn the user's word into a verified file: our own, torchvision's, timm's on the Hugging Face hub, local files."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from harness.config.facts import Preprocessing
from harness.config.weights import LOCAL_FILE, TIMM, check_name, is_file
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.errors import UserError
from harness.run.checkpoint import checkpoint_of_run, weights_sha256
from harness.run.files import sha256_of_file
from harness.run.hub import HubError, fetch
from models.catalogue import MODELS, WEIGHTS, Released

HUB_FILE = "model.safetensors"
RELEASED_HERE = "released with this program"


@dataclass(frozen=True)
class Found:
    """A file of weights and what is known about it before it is read.

    Attributes:
        name: name of the weights; `DEFAULT` is replaced by the entry that it stands for.
        file: path on this machine.
        sha256: SHA-256 of the file; of the file that was released, for ours.
        source: URL of the file, or `local file`.
        recipe: the publisher's words about how the weights were trained; None if unknown.
        published: errors in percent that the publisher measured, by data set; None if unknown.
        trained_on: name of the data; None if unknown.
        preprocessing: the publisher's preprocessing in an evaluation; None if unknown.
        backbone: whether the file has no useful fully connected layers.
    """

    name: str
    file: Path
    sha256: str
    source: str
    recipe: str | None = None
    published: dict[str, dict[str, float]] | None = None
    trained_on: str | None = None
    preprocessing: Preprocessing | None = None
    backbone: bool = False


def find(weights: str, model: str) -> Found:
    """Return the verified file that `weights` stands for; download it if it is not on this machine.

    Args:
        weights: a name of ours or torchvision's, `timm:<model>.<tag>`, or the path of a file or a run folder.
        model: name in the catalogue.

    Raises:
        UserError: the weights do not exist, belong to another network, are damaged, or cannot be downloaded.
    """
    check_name(weights, model)
    if weights.startswith(TIMM):
        return _timm(weights)
    if is_file(weights):
        file = checkpoint_of_run(Path(weights), "weights") if Path(weights).is_dir() else Path(weights)
        return Found(file.name, file, _sha256(file), LOCAL_FILE)
    released = next((row for row in MODELS[model].released if row.name == weights), None)
    return _torchvision(weights, model) if released is None else _released(released)


def _released(row: Released) -> Found:
    """Weights of ours, which come with the program, or have to be put beside those that do."""
    file = WEIGHTS / row.file
    if not file.is_file():
        raise UserError(
            f"weights={row.name}: {file} is not there: get {row.file} ({row.bytes:,} bytes, SHA-256 {row.sha256}) from "
            f"the releases of this project and put it into {WEIGHTS}, or make it again as its card there says"
        )
    digest = _sha256(file)
    if digest != row.sha256 and _network(file) != row.network:
        raise UserError(
            f"weights={row.name}: {file} is damaged or another file: its SHA-256 is {digest}, not {row.sha256}"
        )
    return Found(row.name, file, row.sha256, RELEASED_HERE)


def _network(file: Path) -> str | None:
    """The SHA-256 over the tensors of a safetensors file; None if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return weights_sha256(load_file(file))
    except (SafetensorError, OSError):
        return None


def imagenet_names(classes: Sequence[str]) -> dict[str, str]:
    """Return torchvision's English names of those classes that are ImageNet wnids, by wnid."""
    known = set(classes) & set(IMAGENET_CLASSES)
    if not known:
        return {}
    from torchvision.models import get_model_weights

    words = get_model_weights("resnet50")["DEFAULT"].meta["categories"]
    return {wnid: word for wnid, word in zip(IMAGENET_CLASSES, words, strict=True) if wnid in known}


def _sha256(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise UserError(f"weights={path}: cannot be read ({error.strerror})") from error


def _torchvision(weights: str, model: str) -> Found:
    from torchvision.models import get_model_weights

    entry: Any = get_model_weights(model)[weights]
    file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    prefix = re.search(r"-([0-9a-f]{8,})\.", file.name)
    assert prefix is not None, f"{file.name}: torchvision's file names end in the first digits of their SHA-256"
    if not file.exists():
        _download(entry.url, file, prefix[1])
    digest = _sha256(file)
    if not digest.startswith(prefix[1]):
        raise UserError(
            f"weights={weights}: {file} is damaged or another file: its SHA-256 begins with {digest[:8]}, not "
            f"{prefix[1]}; delete it, so that it is downloaded again, or put the right one there"
        )
    accuracies = entry.meta["_metrics"].items()
    published = {
        data: {f"top{k}_error": round(100 - accuracy[f"acc@{k}"], 3) for k in (1, 5)} for data, accuracy in accuracies
    }
    backbone = any(math.isnan(error) for errors in published.values() for error in errors.values())
    preset = entry.transforms()
    return Found(
        entry.name,
        file,
        digest,
        entry.url,
        entry.meta["recipe"],
        None if backbone else published,
        "ImageNet-1K",
        Preprocessing(
            len(preset.mean),
            preset.crop_size[0],
            preset.resize_size[0],
            preset.interpolation.value,
            tuple(preset.mean),
            tuple(preset.std),
        ),
        backbone,
    )


def _download(url: str, file: Path, sha256_prefix: str) -> None:
    """Download into torch's cache, with a bar on a terminal; a failed download leaves no file."""
    print(f"downloading {url} to {file}", file=sys.stderr)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), sha256_prefix, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{file.name} is not in {file.parent} and could not be downloaded ({shorten(str(error), 100)}); without a "
            f"network, put the file there by hand, from {url}"
        ) from error


def _timm(weights: str) -> Found:
    repository = f"timm/{weights.removeprefix(TIMM)}"
    file = _from_hub(weights, repository, HUB_FILE)
    digest = _sha256(file)
    stored = file.resolve().name  # the hub's cache names a large file after its SHA-256
    if re.fullmatch(r"[0-9a-f]{64}", stored) and stored != digest:
        raise UserError(f"weights={weights}: {file.resolve()} is damaged; delete it, so that it is downloaded again")
    described = _from_hub(weights, repository, "config.json")
    preprocessing = timm_preprocessing(described, f"weights={weights}: config.json of {repository}")
    tag = weights.partition(".")[2]
    data = "ImageNet-1K" if tag.endswith("in1k") else None
    return Found(weights, file, digest, f"https://huggingface.co/{repository}", tag or None, None, data, preprocessing)


def timm_preprocessing(path: Path, where: str) -> Preprocessing:
    """Return the preprocessing with which timm evaluates weights, at the test size if there is one.

    Args:
        path: the `config.json` beside them.
        where: what it is called in a message.

    Raises:
        UserError: the file is damaged or of another form.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return _said_by_timm(config["pretrained_cfg"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{where} is damaged or of another form ({error})") from error


def _said_by_timm(config: dict[str, Any]) -> Preprocessing:
    channels, size, _ = config.get("test_input_size") or config["input_size"]
    crop = config.get("test_crop_pct") or config["crop_pct"]
    mean, std = (tuple(float(value) for value in config[key]) for key in ("mean", "std"))
    resize, interpolation = math.floor(size / crop), config["interpolation"]
    plain = {"channels": channels, "size": size, "resize": resize, "interpolation": interpolation}
    return Preprocessing.from_plain({**plain, "mean": mean, "std": std})


def _from_hub(weights: str, repository: str, name: str) -> Path:
    """Return a file of a repository; if it is in the hub's cache, no network is needed."""

    def get(hub: Any, local_files_only: bool) -> str:
        return str(hub.hf_hub_download(repository, name, local_files_only=local_files_only))

    try:
        return fetch(f"weights={weights}", f"{name} of {repository}", get)
    except HubError as error:
        if error.lacks == "repository":
            raise UserError(
                f"weights={weights}: the Hugging Face hub has no {repository} that is open to all"
            ) from error
        if error.lacks == "file":
            raise UserError(f"weights={weights}: {repository} has no {name}; other formats are not read") from error
        raise UserError(
            f"weights={weights}: {name} of {repository} is not in the hub's cache and could not be downloaded "
            f"({error.reason}); without a network, fetch {name} elsewhere and name the file: weights=FILE"
        ) from error
