"""Images of a run that cannot be read: skipped, counted, listed, and too many of them stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
import torch

from harness.data.images.image_files import ImageFiles
from harness.data.loading.loader import Batch, Unreadable
from harness.errors import UserError
from harness.evaluation.record import read_unreadable, unreadable_csv
from harness.run.files import write_text
from harness.run.log import log

MOST = 0.001  # share of the split
CHECK_EVERY = 50  # steps between two looks at the sum over devices


class UnreadableImages(L.Callback):
    """Keeps the lists of a run; what an epoch skips is found again in the next one, but listed once.

    Args:
        folder: of the run.
        train: the training images.
        validation: those for model selection.
    """

    def __init__(self, folder: Path, train: ImageFiles, validation: ImageFiles) -> None:
        self.folder = folder
        self.train = _List("training", train)
        self.validation = _List("validation", validation)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the lists of a run that was interrupted."""
        self.train.start(self.folder)
        self.validation.start(self.folder)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count anew."""
        self.train.found = {}
        self.validation.found = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note this batch's; look at the sum now and then."""
        self.train.found.update(batch.unreadable)
        if (batch_idx + 1) % CHECK_EVERY == 0 or batch_idx + 1 == trainer.num_training_batches:
            self.train.check(trainer, pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note this batch's."""
        self.validation.found.update(batch.unreadable)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the sum."""
        self.validation.check(trainer, pl_module.device)


class _List:
    """The images of one split that cannot be read.

    Attributes:
        found: by this device in this epoch: index, reason.
        listed: in the run's folder: id, reason.
    """

    def __init__(self, what: str, split: ImageFiles) -> None:
        self.what = what
        self.split = split
        self.found: dict[int, str] = {}
        self.listed: dict[str, str] = {}

    def start(self, folder: Path) -> None:
        self.file = folder / f"unreadable_in_{self.what}.csv"
        self.listed = read_unreadable(self.file)

    def check(self, trainer: L.Trainer, device: torch.device) -> None:
        """List what the devices found.

        Raises:
            UserError: it is too much.
        """
        count = cast(
            torch.Tensor, trainer.strategy.reduce(torch.tensor(len(self.found), device=device), reduce_op="sum")
        )
        if not int(count):
            return
        found = [Unreadable(*item) for item in self.found.items()]
        shares = [found] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(shares, found)
        now = {self.split.id_of(index): reason for share in shares for index, reason in share}
        new = len(now.keys() - self.listed.keys())
        self.listed |= now
        if trainer.is_global_zero and new:
            write_text(self.file, unreadable_csv(self.listed))
            log.info(f"{len(self.listed):,} {self.what} images cannot be read and are skipped: {self.file}")
        if len(now) > MOST * len(self.split):
            raise UserError(
                f"{len(now):,} of {len(self.split):,} {self.what} images cannot be read, more than {MOST:.1%}: they "
                f"are listed in {self.file}; repair them, or take them out of the folder"
            )
