"""`train.py` with dropout in the network, which kills itself with SIGKILL at the moment that KILL_AT names.

KILL_AT is `seconds:S` after training starts, `batch:N` after step N, `before_validation:E`, `after_validation:E`,
`saved:N` after the N-th checkpoint, `torn:N`, which leaves half of the N-th checkpoint where the whole belongs, or
`ending:N` after the N-th file that is put in its place once the last epoch is validated, `last.ckpt` among them; or
`repairing:N` after the N-th file of all.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import build
from harness.command.cli import main
from harness.run.checkpoint import AtomicCheckpointIO

KIND, _, WHEN = os.environ.get("KILL_AT", "never:0").partition(":")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(L.Callback):
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if KIND == "seconds":
            threading.Timer(float(WHEN), kill).start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if KIND == "batch" and trainer.global_step == int(WHEN):
            kill()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if KIND == "before_validation" and trainer.current_epoch + 1 == int(WHEN):
            kill()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if KIND == "ending" and trainer.current_epoch + 1 == trainer.max_epochs:
            kill_after_files(int(WHEN))
        if KIND == "after_validation" and trainer.current_epoch + 1 == int(WHEN):
            kill()


def kill_after_files(count: int) -> None:
    """Every file comes to its place by `Path.replace`."""
    replace, placed = Path.replace, list[Path]()

    def replace_and_count(path: Path, target: Any) -> Path:
        new = replace(path, target)
        placed.append(new)
        if len(placed) == count:
            kill()
        return new

    Path.replace = replace_and_count  # type: ignore[method-assign,assignment]


class KillingCheckpointIO(AtomicCheckpointIO):
    saved = 0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path, storage_options)
        KillingCheckpointIO.saved += 1
        if KIND == "torn" and self.saved == int(WHEN):
            Path(path).write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])
            kill()
        if KIND == "saved" and self.saved == int(WHEN):
            kill()


def build_network_with_dropout(*arguments: Any) -> nn.Module:
    network = build_network(*arguments)
    network.register_module("s4", nn.Sequential(network.get_submodule("s4"), nn.Dropout(0.2)))
    return network


def build_killed_trainer(team: Any, folder: Path, precision: str, callbacks: Any, **options: Any) -> L.Trainer:
    trainer = build_trainer(team, folder, precision, [*callbacks, Killer()], **options)
    trainer.strategy.checkpoint_io = KillingCheckpointIO()
    return trainer


build_network, build_trainer = build.build_network, build.build_trainer
build.build_network = build_network_with_dropout  # type: ignore[assignment]  # takes the same
build.build_trainer = build_killed_trainer  # type: ignore[assignment]  # takes the same

if __name__ == "__main__":
    if KIND == "repairing":
        kill_after_files(int(WHEN))
    torch.set_num_threads(1)
    main("train")
