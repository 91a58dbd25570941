"""One learning-rate range test: a short training at rates that rise by equal ratios, and what its losses say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning as L

from harness import build
from harness.comparison.lr_range_chart import Range, draw_range, range_csv
from harness.config.commands import TrainConfig
from harness.config.fit import check_arithmetic, check_device
from harness.data.loading.loader import Batch
from harness.data.sources.table import describe, load
from harness.errors import UserError
from harness.run.files import new_folder, write_text
from harness.run.log import log
from harness.run.processes import gather
from harness.training.classifier import Classifier

LATEST = 5  # losses whose mean is watched while the rate rises
GONE = 4.0  # times the least such mean, above which the loss has diverged
PICTURE, TABLE = "lr_range.png", "lr_range.csv"


def rates(lowest: float, highest: float, steps: int) -> list[float]:
    """Return the learning rate of each step: from the lowest to the highest by equal ratios."""
    return [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]


def lr_range(config: TrainConfig, wanted: Sequence[float], out: str) -> Path:
    """Train with a rate for each step, and write the losses and their picture into a new folder.

    Network, weights, recipe, order and augmentation are those of a run with this config, but for the schedule and its
    warm-up. Neither validation nor test images are looked at, and no checkpoint is written.

    Args:
        config: settings of the run.
        wanted: learning rate of each step; the ramp ends where the loss diverges.
        out: folder in which the new one is made.

    Returns:
        The new folder.

    Raises:
        UserError: several devices are asked for.
    """
    if config.trainer.devices != 1:
        raise UserError(f"trainer.devices={config.trainer.devices}: a range test takes one device")
    folder = Path(out) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    with gather(config.trainer) as team:
        check_arithmetic(team.accelerator, recipe=config.recipe.precision, protocol=config.protocol.precision)
        check_device(config.recipe, team.accelerator, team.size, config.trainer.accumulate)
        known = describe(config.data)
        network, preprocessing, _ = build.start_network(config, known, None)
        splits = build.small_pictures(load(config.data), config)
        data, classifier = build.build_training(config, network, splits, preprocessing, len(known.class_names))
        classifier._rate = wanted.__getitem__  # type: ignore[method-assign, assignment]  # instead of the schedule's
        ramp = Ramp()
        recipe = config.recipe
        limits: dict[str, Any] = {"max_epochs": math.ceil(len(wanted) / data.steps_per_epoch), "max_steps": len(wanted)}
        trainer = build.build_trainer(
            team, folder, recipe.precision, [ramp], recipe.deterministic, limit_val_batches=0, **limits
        )
        title = f"{config.model.name} on {config.data.name}, recipe={config.recipe.name}"
        with suppress(DivergedError):
            trainer.fit(classifier, datamodule=data)
    found = Range(tuple(wanted[: len(ramp.losses)]), tuple(ramp.losses), ramp.diverged)
    folder = new_folder(folder)
    write_text(folder / TABLE, range_csv(found))
    draw_range(folder / PICTURE, found, f"{title}, batch {config.recipe.batch_size}")
    log.info(found.said)
    log.info(f"written: {folder}/{PICTURE}, {TABLE}")
    return folder


class DivergedError(Exception):
    """The loss has diverged, so that the ramp ends."""


class Ramp(L.Callback):
    """Notes the loss of each step, and ends the training where it has diverged.

    Attributes:
        losses: mean loss over the images of each step, in nats.
        diverged: whether the last of them is where the loss diverged.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.diverged = False
        self.least = math.inf

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the loss; this comes before the classifier stops for one that is not finite."""
        assert isinstance(pl_module, Classifier)
        pl_module.counters.mean_loss(batch_idx + 1)  # counts the losses that are kept
        self.note(pl_module.counters.losses[batch_idx].item() / batch.global_size)

    def note(self, loss: float) -> None:
        """Note the loss of a step.

        Raises:
            DivergedError: it is not finite, or the mean of the latest is far above the least that it was.
        """
        self.losses.append(loss)
        latest = sum(self.losses[-LATEST:]) / len(self.losses[-LATEST:])
        if not latest <= GONE * self.least:
            self.diverged = True
            raise DivergedError
        if len(self.losses) >= LATEST:
            self.least = min(self.least, latest)
