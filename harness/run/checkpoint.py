"""Checkpoints: they hold only tensors and plain data, are written atomically, and are read without running code.

A checkpoint is Lightning's dictionary with one more key, `cnn_zoo`: the network's name and options, class names,
preprocessing, data and training. A checkpoint can therefore be evaluated without any other file.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from harness.config.commands import SCHEMAS
from harness.config.compose import schema_of
from harness.config.data import DATA_SCHEMAS, DataConfig
from harness.config.facts import Preprocessing
from harness.config.fields import declarations
from harness.config.files import choices, schema_name
from harness.config.plain import check, made
from harness.config.renamed import renamed
from harness.errors import UserError, file_error
from harness.run.files import atomic
from harness.run.history import PROGRESS, Epoch, best_epoch, history_of
from harness.run.program import typed

KEY = "cnn_zoo"
CHECKPOINT_VERSION = 2  # 2: names of `harness.config.renamed`
CHECKPOINTS = "checkpoints"  # subfolder of a run folder
LAST = "last.ckpt"
DAMAGED = "damaged.ckpt"  # a checkpoint that could not be read when its run was resumed
ODD_VALUES = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)  # raises what reads them; last: tensors
PREVIOUS = "previous.ckpt"  # the checkpoint before the last, in case the last is damaged
BAD_DESCRIPTION = "its description of the network is damaged"
BEST = "best_on_validation.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer, but a file is written completely or not at all, and the old one is kept."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the target, rename an old target to `PREVIOUS`, then rename the new file to the target.

        Raises:
            UserError: the disk is full or fails (the older checkpoints stay intact), or the folder is gone.
        """
        path = Path(path)
        content = io.BytesIO()  # if torch itself writes to a disk that fails, its error does not name the cause
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(exist_ok=True)  # fails if somebody has removed or renamed the run's folder
            with atomic(path, keep=path.with_name(PREVIOUS)) as file:
                file.write(content.getbuffer())
        except FileNotFoundError as error:
            raise UserError(file_error(error)) from error
        except OSError as error:
            raise UserError(
                f"{path}: the checkpoint could not be written ({error.strerror or error}); the last good one is kept: "
                f"make room, then go on with resume='{path.parent.parent}'"
            ) from error


@dataclass(frozen=True)
class Provenance:
    """Where pretrained weights came from; every checkpoint and record of the network keeps it.

    Attributes:
        name: name of the weights, such as `IMAGENET1K_V2`, or of a file.
        file: name of the file.
        sha256: SHA-256 of the file.
        source: URL of the file, or `local file`.
        recipe: the publisher's words about how the weights were trained; None if unknown.
        published: errors in percent that the publisher measured, by data set; None if unknown.
        trained_on: name of the data; None if unknown.
        part: part of the file that was read, such as `model_ema`; empty for all of it.
        adapted: one line for each thing that was changed, or assumed without knowing.
    """

    name: str
    file: str
    sha256: str
    source: str
    recipe: str | None
    published: dict[str, dict[str, float]] | None
    trained_on: str | None
    part: str
    adapted: tuple[str, ...]

    def as_plain(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return {**vars(self), "adapted": list(self.adapted)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Provenance:
        """Make the value from what `as_plain` returned."""
        value = made(cls, plain)
        return replace(value, adapted=tuple(value.adapted))

    def __str__(self) -> str:
        """Return one line for a person."""
        part = f", its {self.part}" if self.part else ""
        called = self.file if self.name == self.file else f"{self.name}: {self.file}"
        return "; ".join((f"weights={called}{part}, SHA-256 {self.sha256}", *self.adapted))


@dataclass(frozen=True)
class Trained:
    """What a checkpoint or a record says about its network.

    Attributes:
        model: name in the catalogue.
        options: options of that model, plain values.
        class_names: names of the classes in label order.
        preprocessing: how its images are prepared.
        data: the data set that this program trained it on; None if it was not trained here.
        training: seed, limits, recipe, training images and machines, plain values; None if it was not trained here.
        pretrained: the pretrained weights that it began with; None if its weights were drawn at random.
    """

    model: str
    options: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    data: DataConfig | None
    training: dict[str, Any] | None
    pretrained: Provenance | None = None

    @property
    def trained_on(self) -> str | None:
        """Name of the data that the weights were trained on; None if unknown."""
        if self.data is not None:
            return self.data.name
        return self.pretrained.trained_on if self.pretrained else None

    def as_plain(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return {
            "version": CHECKPOINT_VERSION,
            "model": self.model,
            "options": self.options,
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.as_plain(),
            "data": self.data and vars(self.data),
            "training": self.training,
            "pretrained": self.pretrained and self.pretrained.as_plain(),
        }

    def described(self) -> str:
        """Return the same as JSON, to be written beside weights; without the folder of the data."""
        plain = self.as_plain()
        if plain["data"]:
            plain["data"] = {**plain["data"], "root": "."}
        return json.dumps(plain, ensure_ascii=False)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Trained:
        """Make the value from what `as_plain` returned."""
        return cls(
            plain["model"],
            plain["options"],
            tuple(plain["class_names"]),
            Preprocessing.from_plain(plain["preprocessing"]),
            made(schema_of(plain["data"], DATA_SCHEMAS.values()), plain["data"]) if plain["data"] else None,
            plain["training"],
            Provenance.from_plain(plain["pretrained"]) if plain.get("pretrained") else None,
        )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: its description, the network's tensors, and the progress of training.

    Attributes:
        trained: what it says about its network.
        state_dict: tensors of the network.
        epoch: number of complete epochs.
        step: number of optimiser steps.
        history: results of the complete epochs; empty if the file does not hold them.
    """

    trained: Trained
    state_dict: dict[str, torch.Tensor]
    epoch: int
    step: int
    history: tuple[Epoch, ...] = ()


def read_content(path: Path, *, mapped: bool = False) -> Any:
    """Read what `torch.save` wrote, tensors and plain data, to the CPU; code in the file is never executed.

    Args:
        path: path of the file.
        mapped: whether tensors stay on the disk until they are used; only for files that this program wrote.

    Raises:
        UserError: the file is missing, damaged, or holds code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about formats that are refused below anyway
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; name a run folder with run=") from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL:? ([\w.]+)", str(error))
        raise UserError(
            f"{path}: not a checkpoint of tensors and plain data; it may hold code and was not loaded"
            + (f": it names {named[1]}" if named else "")
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read it") from error
    except Exception as error:  # reading a damaged zip or pickle can raise anything
        raise UserError(f"{path}: damaged or not a checkpoint ({type(error).__name__})") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project to the CPU; code in the file is never executed.

    Raises:
        UserError: the file is missing, damaged, from another program or version, or holds code.
    """
    return checkpoint_from(read_content(path), path)


def checkpoint_from(content: Any, path: Path) -> Checkpoint:
    """Return the checkpoint in the content of the file at `path`; raise `UserError` if there is none."""
    described = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(described, dict):
        raise UserError(f"{path}: not a checkpoint of this project; train one with {typed('train.py')}")
    trained = trained_from(described, path)
    prefix = "network."
    with parsing(path, "damaged"):
        tensors = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
        history = history_of(content) if PROGRESS in content else None
        epoch = content["epoch"] + 1 if history is None else len(history)
        return made(
            Checkpoint,
            {
                "trained": trained,
                "state_dict": tensors,
                "epoch": epoch,
                "step": content["global_step"],
                "history": tuple(history or ()),
            },
        )


def trained_from(described: Any, path: Path) -> Trained:
    """Return what the file at `path` says about its network.

    Raises:
        UserError: another version wrote it, or it is damaged.
    """
    with parsing(path, BAD_DESCRIPTION):
        version = described.get("version")
        if version not in (1, CHECKPOINT_VERSION):
            newer = "; a newer version of this program wrote it" if type(version) is int and version > 0 else ""
            raise UserError(
                f"{path}: checkpoint version {version}; this program reads versions 1 to {CHECKPOINT_VERSION}{newer}"
            )
        training = described["training"]
        if training and not isinstance(training["recipe"]["name"], str):
            raise ValueError(f"the recipe is called {training['recipe']['name']!r}")
        if version == 1 and training:
            described = {**described, "training": {**training, "recipe": renamed(training["recipe"])}}
        trained = Trained.from_plain(described)
        if not isinstance(trained.model, str) or not isinstance(trained.options, dict):
            raise ValueError(f"its network is {trained.model!r} with the options {trained.options!r}")
        if not trained.class_names or not all(isinstance(name, str) for name in trained.class_names):
            raise ValueError("class_names are no names")
    return trained


def check_network(trained: Trained, path: Path) -> None:
    """Raise `UserError` if this program has no such network, or it has no such options."""
    with parsing(path, BAD_DESCRIPTION):
        if trained.model not in choices("model"):
            raise ValueError(f"this zoo has no network {trained.model!r}; a newer version of this program may have it")
        schema = SCHEMAS["model"][schema_name("model", trained.model)]
        check(schema, trained.options)
        for key, known in declarations(schema).items():
            known.setting.check(f"model.{key}", trained.options.get(key))


def weights_sha256(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of a network's tensors, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Turn errors about values in a file's content, which was read, into a line: where, what is wrong, and why.

    Raises:
        UserError: for an error about a value, a key or a type.
    """
    try:
        yield
    except ODD_VALUES as error:
        if isinstance(error, UserError) and str(error).startswith(str(path)):
            raise
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {what} ({said}); use another file") from error


def checkpoint_of_run(run: Path, key: str = "run") -> Path:
    """Return the checkpoint that a run reports, or would report if it ended now.

    This is the last checkpoint or, if the recipe has a patience, the best one on the validation split.

    Args:
        run: folder of the run.
        key: the key that the user named it with, for errors.

    Raises:
        UserError: the folder is missing or holds no checkpoint.
    """
    if not run.is_dir():
        raise UserError(f"{key}={run}: there is no such folder")
    path = run / CHECKPOINTS / LAST
    if path.is_file():
        last = checkpoint_from(read_content(path, mapped=True), path)
        training = last.trained.training or {}
        best = best_epoch(last.history) if training.get("recipe", {}).get("patience") else None
        kept = path.with_name(BEST)
        if best is not None and (best.step != last.step or (kept.is_file() and _step_of(kept) == best.step)):
            path = kept  # otherwise the last epoch is the best, and the run was killed before it copied it
            check_best(path, best)
    if not path.is_file():
        inside = sorted(folder.parents[1] for folder in run.glob(f"*/{CHECKPOINTS}/{LAST}"))
        if inside:
            raise UserError(f"{key}={run}: holds {len(inside):,} runs; name one of them, the newest is {inside[-1]}")
        raise UserError(
            f"{key}={run}: the folder has no checkpoint ({path.relative_to(run)}); did the run finish its first epoch?"
        )
    return path


def check_best(path: Path, best: Epoch) -> None:
    """Raise `UserError` if the best checkpoint is not from the epoch that the run's history calls the best."""
    if _step_of(path) != best.step:
        raise UserError(
            f"{path}: holds step {_step_of(path):,}, but the best epoch, {best.epoch}, ended at step {best.step:,}; "
            f"was the file replaced? The last checkpoint is {path.with_name(LAST)}"
        )


def _step_of(path: Path) -> int:
    content = read_content(path, mapped=True)
    with parsing(path, "damaged"):
        return int(content["global_step"])


def checkpoint_to_resume(run: Path) -> tuple[Path | None, Trained | None, str]:
    """Find the newest readable checkpoint of a run, and make it the last one.

    If the last checkpoint cannot be read, it is renamed to `DAMAGED`, and the one before takes its place.

    Returns:
        The path of the checkpoint and what it says about its network, both None if the run has not written one yet;
        and a line for the log.

    Raises:
        UserError: there are checkpoints, but none can be read.
    """
    last, previous = run / CHECKPOINTS / LAST, run / CHECKPOINTS / PREVIOUS
    if not last.exists() and not previous.exists():
        return None, None, "from its start: it has no checkpoint yet"
    try:
        return last, read_checkpoint(last).trained, "from its last checkpoint"
    except UserError as damaged:
        try:
            trained = read_checkpoint(previous).trained
        except UserError as error:
            raise UserError(f"resume={run}: no checkpoint can be read: {damaged}; {error}") from error
        if last.exists():
            last.replace(last.with_name(DAMAGED))
        previous.replace(last)
        return last, trained, f"from the checkpoint before the last: {damaged}"
