"""Write checkpoints, `metrics.csv`, `timing.csv` and `curves.png` into a run's folder while it trains."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from harness.config.recipe import RecipeConfig
from harness.data.loading.file_loader import EvalFileLoader, TrainFileLoader
from harness.data.loading.loader import Batch, EvalLoader, TrainLoader
from harness.data.loading.waiting import advice
from harness.run.checkpoint import BEST, CHECKPOINTS, KEY, LAST, Trained, check_best, checkpoint_to_resume, read_content
from harness.run.files import atomic, write_text
from harness.run.folder import reopen_run_folder
from harness.run.history import METRICS_FILE, Epoch, best_epoch, history_of, metrics_csv, read_timing, timing_csv
from harness.run.interruption import Interruption
from harness.run.log import log
from harness.run.machine import available_cores
from harness.run.processes import Team
from harness.training.classifier import Classifier
from harness.training.curves import draw_curves
from harness.training.early_stopping import describe, is_over, reported_epoch
from harness.training.optimisers import check_state
from harness.training.stuck import stuck

TIMING_FILE = "timing.csv"
CURVES_FILE = "curves.png"
FEW_STEPS, WANTED_STEPS = 5, 10  # of an epoch: fewer are warned of, and about so many proposed
LINES_OF_A_PROBE = 10  # about so many epochs of a linear probe have a line; `metrics.csv` has all
CURVES_EVERY = 30.0  # least seconds between two drawings while training


class Recorder(Checkpoint):
    """Writes every `checkpoint_every` steps and after each epoch's validation.

    It is a `Checkpoint` because Lightning calls such callbacks last. After the run `reported` is the epoch from which
    the network's weights come, and `advised` whether it has said how images could come faster.

    Args:
        folder: folder of the run.
        trained: description of the network, which goes into every checkpoint.
        epochs: number of epochs of the run.
        checkpoint_every: number of steps between two checkpoints within an epoch.
        patience: number of epochs without a better validation error after which training stops; None: never. With a
            patience the network gets the weights of the best epoch at the end.
    """

    def __init__(
        self, folder: Path, trained: Trained, epochs: int, checkpoint_every: int, patience: int | None = None
    ) -> None:
        self.folder = folder
        self.trained = trained
        self.epochs = epochs
        self.checkpoint_every = checkpoint_every
        self.patience = patience
        self.reported = epochs
        self.advised = False
        self.began = False  # whether training did, with all that a checkpoint gave it
        self.interruption = Interruption()
        self.timing: list[Sequence[object]] = []
        self.drawn = self.validating = time.monotonic()
        self._start_clock()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the description of the network to the checkpoint."""
        checkpoint[KEY] = self.trained.as_plain()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check what the checkpoint says of the position in the run, which Lightning takes as it is."""
        _check_kind("loops", checkpoint["loops"]["fit_loop"], trainer.fit_loop.state_dict())

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Continue from the checkpoint's history, start the clock, and start to receive signals."""
        assert isinstance(pl_module, Classifier)
        if trainer.global_step:
            for optimizer in trainer.optimizers:
                check_state(optimizer, pl_module.configure_optimizers())
        self.began = True
        self.drawn = time.monotonic()
        self._start_clock()
        if pl_module.history:  # the run is resumed
            if trainer.is_global_zero:
                self.timing = read_timing(self.folder / TIMING_FILE, len(pl_module.history))
            trainer.should_stop = is_over(pl_module.history, self.patience)  # it was killed after its last epoch
        elif not trainer.global_step:
            self._warn_of_few_steps()
        self.interruption.watch()

    def _warn_of_few_steps(self) -> None:
        """Say what to set where a batch, meant for many images, holds a large part of these."""
        training = self.trained.training
        if training is None or "images" not in training:  # an older version's checkpoint does not say how many
            return
        images, recipe = training["images"], training["recipe"]
        batch_size, steps = recipe["batch_size"], math.ceil(images / recipe["batch_size"])
        smaller = 2 ** max(3, math.floor(math.log2(images / WANTED_STEPS)))
        if steps >= FEW_STEPS or smaller >= batch_size or recipe["trains"] == "head":
            return
        rate = f" and, in proportion, recipe.learning_rate={recipe['learning_rate'] * smaller / batch_size:.2g}"
        log.warning(
            f"an epoch of {images:,} images is {steps} step{'s' if steps > 1 else ''} of recipe.batch_size="
            f"{batch_size}, which is meant for more; recipe.batch_size={smaller}"
            f"{rate if recipe['optimizer'] == 'sgd' else ''} would make {math.ceil(images / smaller)}"
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop receiving signals."""
        self.interruption.release()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the network the weights that are reported, even if the run had nothing left to train.

        With a patience these are the best epoch's.

        Raises:
            UserError: the best checkpoint is from another epoch.
        """
        assert isinstance(pl_module, Classifier)
        pl_module.take_reported()
        best = best_epoch(pl_module.history)
        if self.patience is None or best is None:
            return
        trainer.strategy.barrier()  # until rank 0 has written the checkpoint
        path = self.folder / CHECKPOINTS / BEST
        check_best(path, best)
        pl_module.load_state_dict(read_content(path)["state_dict"])
        self.reported = best.epoch
        log.info(describe(pl_module.history, self.patience, self.epochs))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop receiving signals."""
        self.interruption.release()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._start_clock()

    def _start_clock(self) -> None:
        self.started = time.monotonic()
        self.validated = 0.0
        self.images = 0  # since the clock started; fewer than the epoch's after resuming within it

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of training."""
        self.validating = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of validation."""
        self.validated = time.monotonic() - self.validating

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write a checkpoint if it is due or the run must stop; the epoch's last step leaves that until validation."""
        assert isinstance(pl_module, Classifier)
        self.images += batch.global_size
        done = batch_idx + 1
        stop = self.interruption.agreed_at_step(trainer)
        if done < pl_module.steps_per_epoch and (stop or trainer.global_step % self.checkpoint_every == 0):
            pl_module.check_losses(done)
            self._save(trainer, pl_module)
            if stop:
                raise self.interruption.stopped(trainer.global_step, self.folder)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint, the tables and curves, and log the epoch."""
        assert isinstance(pl_module, Classifier)
        seconds = time.monotonic() - self.started - self.validated
        history = pl_module.history
        rate = self.images / seconds
        loader = cast(TrainLoader | TrainFileLoader, trainer.train_dataloader)
        waited = loader.waiting.seconds / seconds
        times = (round(seconds, 4), round(self.validated, 4), round(rate, 1))
        self.timing.append((len(history), *times, round(waited, 4), self._validation_waited(trainer)))
        if trainer.is_global_zero:  # before the checkpoint: resuming cuts off an epoch that the checkpoint lacks
            write_text(self.folder / TIMING_FILE, timing_csv(self.timing))
        self._save(trainer, pl_module)
        trainer.should_stop = is_over(history, self.patience)
        if trainer.is_global_zero:
            keep_if_best(self.folder, history)
            write_text(self.folder / METRICS_FILE, metrics_csv(history))
            ends = len(history) == self.epochs or trainer.should_stop
            if ends or time.monotonic() - self.drawn > CURVES_EVERY:
                draw_curves(self.folder / CURVES_FILE, history, reported_epoch(history, self.patience, self.epochs))
                self.drawn = time.monotonic()
            every = self._epochs_of_a_line(pl_module.recipe)
            if ends or len(history) % every == 0:
                log.info(f"{self._line(history[-1], rate)}, {100 * waited:.0f}% waiting")
            line = stuck(history[-1], pl_module.recipe, len(self.trained.class_names))
            if line:
                log.info(line)
            if isinstance(loader, TrainFileLoader) and not self.advised:
                cores = max(1, available_cores() // trainer.num_devices)
                line = advice(waited, loader.workers, cores, loader.decoder)
                if line:
                    log.info(line)
                    self.advised = True
        if self.interruption.agreed(trainer):
            raise self.interruption.stopped(trainer.global_step, self.folder)

    def _validation_waited(self, trainer: L.Trainer) -> float | None:
        """Return the share of the validation's time spent waiting for images; None without a validation."""
        loader = cast(EvalLoader | EvalFileLoader | None, trainer.val_dataloaders)
        return round(loader.waiting.seconds / self.validated, 4) if loader and self.validated else None

    def _save(self, trainer: L.Trainer, classifier: Classifier) -> None:
        classifier.check_weights()
        trainer.save_checkpoint(self.folder / CHECKPOINTS / LAST)

    def _epochs_of_a_line(self, recipe: RecipeConfig) -> int:
        """How many epochs a line stands for: those of a linear probe take no time, and differ little."""
        return max(1, self.epochs // LINES_OF_A_PROBE) if recipe.trains == "head" else 1

    def _line(self, epoch: Epoch, rate: float) -> str:
        width = len(str(self.epochs))
        line = f"epoch {epoch.epoch:>{width}}/{self.epochs}  loss {epoch.train_loss:.4f}"
        line += f"  error {epoch.train.top1_error:5.2f}%"
        if epoch.validation is not None:
            line += f"  validation loss {epoch.validation_loss:.4f}  error {epoch.validation.top1_error:5.2f}%"
        return f"{line}  lr {epoch.learning_rate:.2g}  {rate:,.0f} images/s"


def _check_kind(name: str, value: Any, pattern: Any) -> None:
    """Raise `ValueError` if a value, or one inside it, is of another type than the pattern's; it may have more keys."""
    if type(value) is not type(pattern) or (type(value) is int and not 0 <= value < 2**62):
        raise ValueError(f"{name} is {value!r:.40}")
    for key in pattern.keys() & value.keys() if isinstance(pattern, dict) else ():
        _check_kind(f"{name}.{key}", value[key], pattern[key])


def keep_if_best(folder: Path, history: Sequence[Epoch]) -> None:
    """Copy the checkpoint of the epoch that just ended if no epoch did better on the validation split."""
    if best_epoch(history) is history[-1]:
        checkpoints = folder / CHECKPOINTS
        with (checkpoints / LAST).open("rb") as last, atomic(checkpoints / BEST) as best:
            shutil.copyfileobj(last, best)


def repair(folder: Path) -> None:
    """Rewrite the tables, the best checkpoint and the curves of a run's folder to match its last checkpoint.

    The run may have been killed after it wrote a checkpoint and before it wrote these files, even in its last epoch.
    """
    content = read_content(folder / CHECKPOINTS / LAST, mapped=True)
    history = history_of(content)
    write_text(folder / TIMING_FILE, timing_csv(read_timing(folder / TIMING_FILE, len(history))))
    write_text(folder / METRICS_FILE, metrics_csv(history))
    if history:
        if history[-1].step == content["global_step"]:
            keep_if_best(folder, history)
        training = content[KEY]["training"]
        reported = reported_epoch(history, training["recipe"].get("patience"), training["epochs"])
        draw_curves(folder / CURVES_FILE, history, reported)


def reopened(folder: Path, team: Team) -> tuple[Path | None, Trained | None]:
    """Lock and repair the folder of a run to resume, and find its checkpoint.

    Args:
        folder: folder of the run.
        team: processes of the run; only rank 0 writes.

    Returns:
        Path and description of the checkpoint; None and None if the run has not written one yet.

    Raises:
        UserError: another process is writing to the folder, or no checkpoint in it can be read.
    """
    if team.leads:
        reopen_run_folder(folder)
    checkpoint, trained, line = checkpoint_to_resume(folder)
    log.info(line)
    if checkpoint is not None and team.leads:
        repair(folder)
    return checkpoint, trained
