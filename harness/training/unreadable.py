"""Skip, count and list images that cannot be read while training; too many of them stop the run."""

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

MOST = 0.001  # largest share of the split that may be unreadable
FEW = 3  # images that may be, also of a small split
CHECK_EVERY = 50  # steps between two sums over devices


class UnreadableImages(L.Callback):
    """Lists the unreadable images of a run; each is listed once, although every epoch meets it again.

    Args:
        folder: folder of the run.
        train: images of the training split.
        validation: images of the validation split.
    """

    def __init__(self, folder: Path, train: ImageFiles, validation: ImageFiles) -> None:
        self.folder = folder
        self.train = _List("training", train)
        self.validation = _List("validation", validation)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the lists of a run that is resumed."""
        self.train.start(self.folder)
        self.validation.start(self.folder)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the counts of an epoch."""
        self.train.found = {}
        self.validation.found = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add the unreadable images of a batch; check their number every `CHECK_EVERY` batches."""
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
        """Add the unreadable images of a batch."""
        self.validation.found.update(batch.unreadable)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the number of unreadable images."""
        self.validation.check(trainer, pl_module.device)


class _List:
    """The unreadable images of one split.

    Attributes:
        found: reasons by index of the images that this device met in this epoch.
        listed: reasons by id of the images in the run's list.
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
        """Write the list of the unreadable images that the devices found.

        Raises:
            UserError: more images are unreadable than `FEW`, and their share is larger than `MOST`.
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
        allowed = max(FEW, int(MOST * len(self.split)))
        if len(now) > allowed:
            raise UserError(
                f"{len(now):,} of {len(self.split):,} {self.what} images cannot be read, more than {allowed:,}: they "
                f"are listed in {self.file}; repair them, or take them out of the folder"
            )
