"""Checkpoints: tensors and plain data alone, written atomically, read without running anything.

A checkpoint is Lightning's dictionary with one key more, `cnn_zoo`: the network's name and options, class names,
preprocessing, data and training. With it the file needs nothing else to be evaluated.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from harness.config.compose import schema_of
from harness.config.data import DATA_SCHEMAS, DataConfig
from harness.config.facts import Preprocessing
from harness.config.renamed import renamed
from harness.errors import UserError, file_error
from harness.run.files import atomic
from harness.run.history import PROGRESS, Epoch, best_epoch, history_of
from harness.run.program import typed

KEY = "cnn_zoo"
CHECKPOINT_VERSION = 2  # 2: names of `harness.config.renamed`
CHECKPOINTS = "checkpoints"  # folder in a run's
LAST = "last.ckpt"
DAMAGED = "damaged.ckpt"  # one that could not be read when its run went on
PREVIOUS = "previous.ckpt"  # the one before the last, in case that is damaged
BEST = "best_on_validation.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way of writing checkpoints, but all or nothing; the one before is kept as `PREVIOUS`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the target, then put it in its place.

        Raises:
            UserError: a disk that is full or fails, where the checkpoints before are untouched; a folder that is gone.
        """
        path = Path(path)
        content = io.BytesIO()  # torch turns a failing write into an error of its own, without the cause
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(exist_ok=True)  # but not the run's folder, which somebody may have removed or renamed
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
    """Where pretrained weights came from; it stays with the network that they went into.

    Attributes:
        name: the word for them, such as `IMAGENET1K_V2`, or the name of a file.
        file: name of the file.
        sha256: of the file.
        source: its URL, or `local file`.
        recipe: how they were trained, as their publisher says it; None if unknown.
        published: errors in percent that their publisher measured, by data set; None if unknown.
        trained_on: name of the data; None if unknown.
        part: of the file that was taken, such as `model_ema`; empty for all of it.
        adapted: what was changed, or kept without knowing, a line each.
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
        """As a dictionary of plain values."""
        return {**vars(self), "adapted": list(self.adapted)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Provenance:
        """The inverse of `as_plain`."""
        return cls(**{**plain, "adapted": tuple(plain["adapted"])})

    def __str__(self) -> str:
        """One line for a person."""
        part = f", its {self.part}" if self.part else ""
        return "; ".join((f"weights={self.name}: {self.file}{part}, SHA-256 {self.sha256}", *self.adapted))


@dataclass(frozen=True)
class Trained:
    """What a checkpoint says of its network, and a record of the one that was evaluated.

    Attributes:
        model: name in the catalogue.
        options: of that model, plain values.
        class_names: in label order.
        preprocessing: what its images went through.
        data: the data set that it was trained on here; None if it never was.
        training: seed, limits, recipe, what it trained on and where, plain values; None if it was not trained here.
        pretrained: the weights that it began with; None if those were drawn at random.
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
        """Name of the data that the weights are of; None if unknown."""
        if self.data is not None:
            return self.data.name
        return self.pretrained.trained_on if self.pretrained else None

    def as_plain(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
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

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Trained:
        """The inverse of `as_plain`."""
        return cls(
            plain["model"],
            plain["options"],
            tuple(plain["class_names"]),
            Preprocessing.from_plain(plain["preprocessing"]),
            schema_of(plain["data"], DATA_SCHEMAS.values())(**plain["data"]) if plain["data"] else None,
            plain["training"],
            Provenance.from_plain(plain["pretrained"]) if plain.get("pretrained") else None,
        )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: what it says, the network's tensors, and what it had done.

    Attributes:
        trained: what it says.
        state_dict: of the network.
        epoch: how many were done; one in its middle is not.
        step: how many were done.
        history: of the epochs that were done; empty if the file does not hold it.
    """

    trained: Trained
    state_dict: dict[str, torch.Tensor]
    epoch: int
    step: int
    history: tuple[Epoch, ...] = ()


def read_content(path: Path, *, mapped: bool = False) -> Any:
    """What `torch.save` wrote, on the CPU: tensors and plain data; nothing in it is ever executed.

    Args:
        path: of the file.
        mapped: leave the tensors on the disk until they are used; for files of ours.

    Raises:
        UserError: a file that is missing, damaged, or that holds code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format of a file that is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; a run folder is given with run=") from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL:? ([\w.]+)", str(error))
        raise UserError(
            f"{path}: not a checkpoint of tensors and plain data; it may hold code and was not loaded"
            + (f": it names {named[1]}" if named else "")
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read it") from error
    except Exception as error:  # a damaged zip or pickle can fail in any way
        raise UserError(f"{path}: damaged or not a checkpoint ({type(error).__name__})") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project on the CPU; nothing in it is ever executed.

    Raises:
        UserError: a file that is missing, damaged, of another program or version, or that holds code.
    """
    return checkpoint_from(read_content(path), path)


def checkpoint_from(content: Any, path: Path) -> Checkpoint:
    """The checkpoint in what was read from `path`; raises `UserError` if there is none."""
    described = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(described, dict):
        raise UserError(f"{path}: not a checkpoint of this project; train one with {typed('train.py')}")
    trained = trained_from(described, path)
    prefix = "network."
    tensors = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    history = history_of(content) if PROGRESS in content else None
    epoch = content["epoch"] + 1 if history is None else len(history)
    return Checkpoint(trained, tensors, epoch, content["global_step"], tuple(history or ()))


def trained_from(described: dict[str, Any], path: Path) -> Trained:
    """What the file at `path` says of its network; raises `UserError` if it is of another version."""
    version = described.get("version")
    if version not in (1, CHECKPOINT_VERSION):
        raise UserError(f"{path}: checkpoint version {version}; this program reads versions 1 to {CHECKPOINT_VERSION}")
    training = described["training"]
    if version == 1 and training:
        described = {**described, "training": {**training, "recipe": renamed(training["recipe"])}}
    return Trained.from_plain(described)


def checkpoint_of_run(run: Path, key: str = "run") -> Path:
    """The checkpoint of a run folder that the run reports, or would if it ended now.

    That is its last one; of a run that stops early, the best on the validation split.

    Args:
        run: the folder.
        key: behind which the user named it.

    Raises:
        UserError: a folder that is missing or holds no checkpoint.
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
            path = kept  # else the last epoch is the best one, and a kill came before it was copied
            check_best(path, best)
    if not path.is_file():
        raise UserError(f"{key}={run}: no checkpoint in it ({path.relative_to(run)}); did it finish its first epoch?")
    return path


def check_best(path: Path, best: Epoch) -> None:
    """Raise `UserError` if the file, kept as the best checkpoint, is not of the epoch that the run's history names."""
    if _step_of(path) != best.step:
        raise UserError(
            f"{path}: of step {_step_of(path):,}, but the best epoch, {best.epoch}, ended at step {best.step:,}; was "
            f"the file replaced? The last checkpoint is {path.with_name(LAST)}"
        )


def _step_of(path: Path) -> int:
    return int(read_content(path, mapped=True)["global_step"])


def checkpoint_to_resume(run: Path) -> tuple[Path | None, Trained | None, str]:
    """The newest checkpoint of a run that can be read, now its last one; what it says; and a line that says which.

    A last checkpoint that cannot be read is set aside as `DAMAGED`, and the one before takes its place. None if the run
    has not written one yet.

    Raises:
        UserError: checkpoints of which none can be read.
    """
    last, previous = run / CHECKPOINTS / LAST, run / CHECKPOINTS / PREVIOUS
    if not last.exists() and not previous.exists():
        return None, None, f"resuming {run} from its start: it has no checkpoint yet"
    try:
        return last, read_checkpoint(last).trained, f"resuming {run}"
    except UserError as damaged:
        try:
            trained = read_checkpoint(previous).trained
        except UserError as error:
            raise UserError(f"resume={run}: no checkpoint can be read: {damaged}; {error}") from error
        if last.exists():
            last.replace(last.with_name(DAMAGED))
        previous.replace(last)
        return last, trained, f"resuming {run} from the checkpoint before the last: {damaged}"
