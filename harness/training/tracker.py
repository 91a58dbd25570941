"""Show a run in TensorBoard, Weights & Biases or MLflow while it trains: `track=`, by Lightning's loggers.

A tracker is told what the run's own tables hold, once an epoch, after the checkpoint and the tables were written. So it
changes no number, waits for no device, and never shows what resuming would take back. `tracking.json` in the run's
folder holds how far it was told, and the number under which the tracker knows the run, so that a resumed run goes on
there. Once it trains, no failure of a tracker stops a run.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from harness.config.commands import TrainConfig
from harness.config.fit import check_tracker
from harness.errors import UserError
from harness.run.files import read_json, write_json
from harness.run.history import Epoch
from harness.run.interruption import SIGNALS
from harness.run.log import log
from harness.training.classifier import Classifier
from harness.training.recorder import Recorder

TRACKING_FILE = "tracking.json"
PROJECT = "cnn-zoo"  # of Weights & Biases and MLflow, unless their own variables name another
Values = Mapping[str, float]


@dataclass(frozen=True)
class Tracked:
    """A run, as a tracker needs to know it.

    Attributes:
        folder: folder of the run.
        settings: settings of the run by their dotted names.
        number: number under which the tracker knows the run already; empty for a new one.
        step: the first step that it was not told of.
    """

    folder: Path
    settings: dict[str, Any]
    number: str
    step: int

    @property
    def name(self) -> str:
        """The run's name for people: network and data, and time."""
        return "/".join(self.folder.absolute().parts[-2:])


class Service(Protocol):
    """What is told of a run: a tracker's own program."""

    number: str
    place: str

    def tell(self, values: Values, step: int) -> None:
        """Add values at an optimiser step."""

    def conclude(self, values: Values, step: int, record: dict[str, Any], pictures: Sequence[Path]) -> None:
        """Add what the run ended with."""

    def close(self, finished: bool) -> None:
        """Write what is left; the run ended, or was stopped."""


class TensorBoard:
    """TensorBoard: files in the folder `tensorboard` of the run."""

    def __init__(self, run: Tracked) -> None:
        purge = run.step if run.number else None  # told twice, if a run was killed before it wrote that it had told
        self.logger = TensorBoardLogger(run.folder, "tensorboard", "", default_hp_metric=False, purge_step=purge)
        self.run, self.number, self.place = run, "files", f"tensorboard --logdir {run.folder / 'tensorboard'}"
        if not run.number:
            lines = [f"    {key}: {value}" for key, value in run.settings.items()]  # Markdown shows them as they are
            self.logger.experiment.add_text("settings", "\n".join(lines))

    def tell(self, values: Values, step: int) -> None:
        """Add values; each epoch is on the disk before the next begins."""
        self.logger.log_metrics(dict(values), step)
        self.logger.experiment.flush()

    def conclude(self, values: Values, step: int, record: dict[str, Any], pictures: Sequence[Path]) -> None:
        """Add errors and settings, which its page HPARAMS compares, the record and the pictures."""
        self.logger.log_hyperparams(self.run.settings, dict(values), step)
        board = self.logger.experiment
        board.add_text("record", "\n".join(f"    {line}" for line in json.dumps(record, indent=2).splitlines()), step)
        for picture in pictures:
            board.add_image(picture.stem, np.asarray(Image.open(picture).convert("RGB")), step, dataformats="HWC")

    def close(self, finished: bool) -> None:
        """Close the file."""
        self.logger.finalize("success" if finished else "failed")


class WeightsAndBiases:
    """Weights & Biases: on its server, or with WANDB_MODE=offline in the folder `wandb` of the run."""

    def __init__(self, run: Tracked) -> None:
        import wandb

        self.wandb, self.number = wandb, run.number or secrets.token_hex(4)
        self.board = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=self.number,
            dir=run.folder.absolute(),  # its own process need not be in this folder
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        self.board.define_metric("trainer/global_step")
        self.board.define_metric("*", step_metric="trainer/global_step")
        self.logger = WandbLogger(experiment=self.board)
        self.logger.log_hyperparams(run.settings)
        self.place = f"wandb sync {run.folder / 'wandb'}/*run-*" if self.board.offline else str(self.board.url)

    def tell(self, values: Values, step: int) -> None:
        """Add values."""
        self.logger.log_metrics(values, step)

    def conclude(self, values: Values, step: int, record: dict[str, Any], pictures: Sequence[Path]) -> None:
        """Add errors and record to the summary, and the pictures."""
        self.tell(values, step)
        self.board.summary.update({**values, "record": record})
        for picture in pictures:
            self.logger.log_image(picture.stem, [str(picture)], step=step)

    def close(self, finished: bool) -> None:
        """Send what is left."""
        self.board.finish(exit_code=0 if finished else 1)


class MLflow:
    """MLflow: where MLFLOW_TRACKING_URI says, or in the file `mlflow.db` of the folder of all runs."""

    def __init__(self, run: Tracked) -> None:
        importlib.import_module("mlflow")  # which sets up its log
        for name in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)  # they tell of the tables of a new file
        runs = run.folder.absolute().parent.parent
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self.place = given or f"sqlite:///{runs / 'mlflow.db'}"
        self.logger = MLFlowLogger(
            os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
            run.name,
            self.place,
            artifact_location=None if given else (runs / "mlflow").as_uri(),
            run_id=run.number or None,
        )
        self.client, self.number = self.logger.experiment, str(self.logger.run_id)
        self.last = -1.0
        if run.number:
            self.client.update_run(self.number, status="RUNNING")
            self.last = self.client.get_run(self.number).data.metrics.get("step", self.last)
        else:
            self.logger.log_hyperparams(run.settings)

    def tell(self, values: Values, step: int) -> None:
        """Add values, each once, although a run may have been killed before it wrote that it had told them."""
        if step > self.last:
            self.logger.log_metrics({**values, "step": step}, step)

    def conclude(self, values: Values, step: int, record: dict[str, Any], pictures: Sequence[Path]) -> None:
        """Add errors, record and pictures; the record's name is not that of a run's own, which `compare.py` seeks."""
        self.logger.log_metrics(values, step)
        self.client.log_dict(self.number, record, "record.json")
        for picture in pictures:
            self.client.log_artifact(self.number, str(picture))

    def close(self, finished: bool) -> None:
        """Say how the run ended."""
        self.logger.finalize("success" if finished else "failed")


SERVICES: dict[str, Callable[[Tracked], Service]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Tracker(Checkpoint):
    """Tells a tracker of each epoch; only rank 0 has one.

    It is a `Checkpoint`, as the recorder is, and stands behind it, because Lightning calls these last.

    Args:
        config: settings of the run.
        recorder: of the run, for its folder and its times.

    Raises:
        UserError: the tracker is not installed, or cannot begin a new run.
    """

    def __init__(self, config: TrainConfig, recorder: Recorder) -> None:
        self.kind, self.recorder = str(config.track), recorder
        self.path = recorder.folder / TRACKING_FILE
        self.settings = settings_of(config)
        self.service: Service | None = None
        known = read_json(self.path) if self.path.exists() else {}
        self.told = known.get(self.kind, {"number": "", "epochs": 0, "step": -1})
        check_tracker(self.kind)
        try:
            self._start()
        except Exception as error:
            if self.told["number"]:
                self._give_up(error)
                return
            raise UserError(
                f"track={self.kind}: cannot begin: {_line(error)}; docs/tracking.md says what it needs"
            ) from error

    def _start(self) -> None:
        run = Tracked(self.recorder.folder, self.settings, self.told["number"], self.told["step"] + 1)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # for the processes that it starts
        try:
            self.service = SERVICES[self.kind](run)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._note(self.told["epochs"], self.told["step"])
        log.info(f"track={self.kind}: {self.service.place}")

    def _note(self, epochs: int, step: int) -> None:
        """Write how far the tracker was told."""
        assert self.service is not None
        self.told = {"number": self.service.number, "epochs": epochs, "step": step}
        known = read_json(self.path) if self.path.exists() else {}
        write_json(self.path, {**known, self.kind: self.told})

    def _give_up(self, error: Exception) -> None:
        self.service = None
        log.warning(
            f"track={self.kind}: {_line(error)}; the run goes on without it, and its own tables have everything"
        )

    def _tell(self, history: Sequence[Epoch]) -> None:
        """Tell of the epochs that the tracker does not know; after resuming an earlier epoch it knows the next ones."""
        if self.service is None:
            return
        try:
            for number in range(self.told["epochs"], len(history)):
                epoch = history[number]
                times = self.recorder.timing[number] if number < len(self.recorder.timing) else None
                self.service.tell(values_of(epoch, times), epoch.step)
                self._note(number + 1, epoch.step)
        except Exception as error:
            self._give_up(error)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of the epoch."""
        assert isinstance(pl_module, Classifier)
        self._tell(pl_module.history)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of the last epoch of a run that was killed right after it."""
        assert isinstance(pl_module, Classifier)
        self._tell(pl_module.history)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Tell of an epoch after which the run is stopped, and that it is."""
        assert isinstance(pl_module, Classifier)
        self._tell(pl_module.history[: len(self.recorder.timing)])
        self._close(finished=False)

    def conclude(self, record: dict[str, Any]) -> None:
        """Tell of the record and the pictures in the run's folder, and end."""
        if self.service is None:
            return
        try:
            pictures = sorted(self.recorder.folder.glob("*.png"))
            self.service.conclude(errors_of(record), self.told["step"], record, pictures)
        except Exception as error:
            self._give_up(error)
        self._close(finished=True)

    def _close(self, finished: bool) -> None:
        try:
            if self.service is not None:
                self.service.close(finished)
        except Exception as error:
            self._give_up(error)


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of a run by their dotted names, such as `recipe.epochs`; lists as text."""

    def flat(values: Mapping[str, Any], above: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, Mapping):
                found |= flat(value, f"{above}{key}.")
            else:
                found[f"{above}{key}"] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
        return found

    return flat({key: value for key, value in dataclasses.asdict(config).items() if key != "overrides"}, "")


def values_of(epoch: Epoch, times: Sequence[object] | None) -> dict[str, float]:
    """Return the values of an epoch, by their names in `metrics.csv` and `timing.csv`.

    Args:
        epoch: results of the epoch.
        times: its row of `timing.csv`; None if it is not known.
    """
    values = {"epoch": epoch.epoch, "learning_rate": epoch.learning_rate, "train_loss": epoch.train_loss}
    values |= {f"train_top{k}_error": getattr(epoch.train, f"top{k}_error") for k in (1, 5)}
    if epoch.validation is not None and epoch.validation_loss is not None:
        values["validation_loss"] = epoch.validation_loss
        values |= {f"validation_top{k}_error": getattr(epoch.validation, f"top{k}_error") for k in (1, 5)}
    return values if times is None else {**values, "train_images_per_second": float(str(times[3]))}


def errors_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the errors of a record, in percent."""
    return {f"test_top{k}_error": record[f"top{k}_error"] for k in (1, 5)}


def _line(error: Exception) -> str:
    """The first line of an error, and its type."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
