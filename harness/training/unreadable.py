"""Images of the training split that cannot be read: skipped, counted, listed, and too many of them stop the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
import torch

from harness.data.image_files import ImageFiles
from harness.data.loader import Batch, Unreadable
from harness.errors import UserError
from harness.evaluation.record import read_unreadable, unreadable_csv
from harness.files import write_text
from harness.run_folder import log

MOST = 0.001  # share of the training split
CHECK_EVERY = 50  # steps between two looks at the sum over devices
FILE = "unreadable_in_training.csv"


class UnreadableImages(L.Callback):
    """Keeps the list of a run; what an epoch skips is found again in the next one, but listed once.

    Args:
        split: the training images.

    `folder`, of the run, is set once it is made.
    """

    def __init__(self, split: ImageFiles) -> None:
        self.folder = Path()
        self.split = split
        self.found: dict[int, str] = {}  # by this device in this epoch: index, reason

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the list of a run that was interrupted."""
        self.listed = read_unreadable(self.folder / FILE)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count anew."""
        self.found = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note this batch's; look at the sum now and then."""
        self.found.update(batch.unreadable)
        if (batch_idx + 1) % CHECK_EVERY == 0 or batch_idx + 1 == trainer.num_training_batches:
            self._check(trainer, pl_module.device)

    def _check(self, trainer: L.Trainer, device: torch.device) -> None:
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
            write_text(self.folder / FILE, unreadable_csv(self.listed))
            log.info(f"{len(self.listed):,} training images cannot be read and are skipped: {self.folder / FILE}")
        if len(now) > MOST * len(self.split):
            raise UserError(
                f"{len(now):,} of {len(self.split):,} training images cannot be read, more than {MOST:.1%}: they are "
                f"listed in {self.folder / FILE}; repair them, or take them out of the folder"
            )
