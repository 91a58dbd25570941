"""Checkpoints: tensors and plain data alone, written atomically, read without running anything.

A checkpoint is Lightning's dictionary with one key more, `cnn_zoo`: the network's name and options, class names,
preprocessing, data and training. With it the file needs nothing else to be evaluated.
"""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from harness.config import DATA_SCHEMAS, DataConfig, schema_of
from harness.data.preprocessing import Preprocessing
from harness.errors import UserError
from harness.files import atomic

KEY = "cnn_zoo"
CHECKPOINT_VERSION = 1
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
            UserError: a disk that is full or fails; the checkpoints before are untouched.
        """
        path = Path(path)
        content = io.BytesIO()  # torch turns a failing write into an error of its own, without the cause
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path, keep=path.with_name(PREVIOUS)) as file:
                file.write(content.getbuffer())
        except OSError as error:
            raise UserError(
                f"{path}: the checkpoint could not be written ({error.strerror or error}); the last good one is kept: "
                f"make room, then go on with resume='{path.parent.parent}'"
            ) from error


@dataclass(frozen=True)
class Trained:
    """What a checkpoint says of its network.

    Attributes:
        model: name in the catalogue.
        options: of that model, plain values.
        class_names: in label order.
        preprocessing: what its images went through.
        data: the data set that it was trained on.
        training: seed, recipe and its name, plain values.
    """

    model: str
    options: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    data: DataConfig
    training: dict[str, Any]

    def as_plain(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return {
            "version": CHECKPOINT_VERSION,
            "model": self.model,
            "options": self.options,
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.as_plain(),
            "data": vars(self.data),
            "training": self.training,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Trained:
        """The inverse of `as_plain`."""
        return cls(
            plain["model"],
            plain["options"],
            tuple(plain["class_names"]),
            Preprocessing.from_plain(plain["preprocessing"]),
            schema_of(plain["data"], DATA_SCHEMAS.values())(**plain["data"]),
            plain["training"],
        )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: what it says, the network's tensors, and the epochs and steps it had done."""

    trained: Trained
    state_dict: dict[str, torch.Tensor]
    epoch: int
    step: int


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint on the CPU; nothing in it is ever executed.

    Raises:
        UserError: a file that is missing, damaged, of another program or version, or that holds code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format of a file that is refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; a run folder is given with run=") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint of tensors and plain data; it may hold code and was not loaded"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read it") from error
    except Exception as error:  # a damaged zip or pickle can fail in any way
        raise UserError(f"{path}: damaged or not a checkpoint ({type(error).__name__})") from error
    described = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(described, dict):
        raise UserError(f"{path}: not a checkpoint of this project; train one with train.py")
    if described.get("version") != CHECKPOINT_VERSION:
        raise UserError(
            f"{path}: checkpoint version {described.get('version')}; this program reads version {CHECKPOINT_VERSION}"
        )
    prefix = "network."
    tensors = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    return Checkpoint(Trained.from_plain(described), tensors, content["epoch"] + 1, content["global_step"])


def checkpoint_of_run(run: Path) -> Path:
    """The last checkpoint of a run folder.

    Raises:
        UserError: a folder that is missing or holds no checkpoint.
    """
    if not run.is_dir():
        raise UserError(f"run={run}: there is no such folder")
    path = run / CHECKPOINTS / LAST
    if not path.is_file():
        raise UserError(f"run={run}: no checkpoint in it ({path.relative_to(run)}); did it finish its first epoch?")
    return path


def checkpoint_to_resume(run: Path) -> tuple[Path | None, str]:
    """The newest checkpoint of a run that can be read, now its last one; and a line to say if it was not before.

    A last checkpoint that cannot be read is set aside as `DAMAGED`, and the one before takes its place. None if the run
    has not written one yet.

    Raises:
        UserError: checkpoints of which none can be read.
    """
    last, previous = run / CHECKPOINTS / LAST, run / CHECKPOINTS / PREVIOUS
    if not last.exists() and not previous.exists():
        return None, f"resuming {run} from its start: it has no checkpoint yet"
    try:
        read_checkpoint(last)
    except UserError as damaged:
        try:
            read_checkpoint(previous)
        except UserError as error:
            raise UserError(f"resume={run}: no checkpoint can be read: {damaged}; {error}") from error
        if last.exists():
            last.replace(last.with_name(DAMAGED))
        previous.replace(last)
        return last, f"resuming {run} from the checkpoint before the last: {damaged}"
    return last, f"resuming {run}"
