"""Features: what a frozen network hands to its last layer, computed once, in a file that all processes map into memory.

The loaders over them keep the contract of `harness.data.loading.loader`, with features (n, D) where those have images.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.data.loading.loader import Batch, Loader, Unreadable
from harness.data.loading.module import TrainData
from harness.data.loading.order import EvalOrder, TrainOrder
from harness.data.sources.splits import Split
from harness.errors import UserError
from harness.evaluation.scores import class_scores
from harness.run.files import read_json, write_json
from harness.run.log import log

FILE = "features"  # in the run's folder, while it is being written
SHARE = 0.5  # of a GPU's free memory, which features may take


@dataclass(frozen=True)
class Features:
    """Of the images of one split.

    Attributes:
        values: float32 (N, D), on the device of the labels if it has room for them, else mapped from the disk; a row of
            an image that could not be read is without meaning.
        labels: int64 (N,).
        unreadable: why an image could not be read, by its position in the split.
    """

    values: torch.Tensor
    labels: torch.Tensor
    unreadable: dict[int, str]

    def batch(self, chosen: torch.Tensor, global_size: int) -> Batch:
        """The images at these positions, int64 (n,), of a batch of `global_size` over all devices."""
        if not self.unreadable:
            return Batch(self._rows(chosen), self.labels[chosen], chosen, global_size)
        positions = chosen.tolist()
        bad = tuple(Unreadable(index, self.unreadable[index]) for index in positions if index in self.unreadable)
        good = torch.tensor([index for index in positions if index not in self.unreadable], dtype=torch.int64)
        good = good.to(chosen.device)
        return Batch(self._rows(good), self.labels[good], good, global_size, bad)

    def _rows(self, chosen: torch.Tensor) -> torch.Tensor:
        return self.values[chosen.to(self.values.device)].to(chosen.device)


def head_of(network: nn.Module) -> nn.Linear:
    """The layer that gives the logits.

    Raises:
        UserError: it has no weights that could be trained.
    """
    name, layer = list(network.named_children())[-1]
    if not isinstance(layer, nn.Linear):
        raise UserError(
            f"recipe.trains=head: the network's last layer, {name}, is no linear layer with weights to train; use "
            "recipe=finetune"
        )
    return layer


class FeatureLoader(Loader):
    """Batches of features.

    Args:
        features: of the split.
        order: which of them make which batch.
    """

    def __init__(self, features: Features, order: TrainOrder | EvalOrder) -> None:
        super().__init__(order, features.labels.device)
        self.features = features

    def batches(self) -> Iterator[Batch]:
        """Taken from memory."""
        for indices, global_size, _ in self.order.chosen(self.order.start()):
            yield self.features.batch(indices, global_size)


class FeatureData(TrainData):
    """Training and validation features, of the images as an evaluation sees them: whole, or their central crop.

    They are computed when the loaders are made, after the weights of a checkpoint were loaded, by the network that
    the trainer's module holds as `whole`. Each process computes a share, and writes its rows into one file in the run's
    folder, which has no name any more once all have opened it: nothing is left behind, however a run ends.
    """

    def train_dataloader(self) -> FeatureLoader:  # type: ignore[override]  # batches of another kind, the same contract
        """A loader that starts where the trainer's global step says."""
        trainer, features = self.attached_trainer(), self._features(self.splits.train)
        order = TrainOrder(
            len(features.labels),
            self.recipe.batch_size,
            seed=self.seed,
            position=lambda: trainer.global_step,
            device=features.labels.device,
            rank=trainer.global_rank,
            devices=trainer.world_size,
            max_batches=self.max_batches,
        )
        return FeatureLoader(features, order)

    def val_dataloader(self) -> FeatureLoader:  # type: ignore[override]  # as above
        """This device's share of the validation split."""
        trainer, features = self.attached_trainer(), self._features(self.splits.validation)
        order = EvalOrder(
            len(features.labels),
            self.protocol.batch_size,
            device=features.labels.device,
            rank=trainer.global_rank,
            devices=trainer.world_size,
        )
        return FeatureLoader(features, order)

    def _features(self, split: Split) -> Features:
        """Of every image of a split, for every process."""
        trainer = self.attached_trainer()
        network: nn.Module = trainer.lightning_module.whole  # type: ignore[assignment]  # of a `LinearProbe`
        log.info(f"computing features of {len(split):,} images, once")
        folder, shape = Path(trainer.default_root_dir), (len(split), head_of(network).in_features)
        if trainer.is_global_zero:
            _reserve(folder / FILE, shape)
        trainer.strategy.barrier()
        values = np.memmap(folder / FILE, np.float32, "r+", shape=shape) if all(shape) else np.zeros(shape, np.float32)
        unreadable = self._share(split, network.to(trainer.strategy.root_device), values)
        reasons = [folder / f"{FILE}.unreadable{rank}" for rank in range(trainer.world_size)]
        write_json(reasons[trainer.global_rank], {str(index): reason for index, reason in unreadable})
        trainer.strategy.barrier()
        known = {int(index): reason for path in reasons for index, reason in read_json(path).items()}
        trainer.strategy.barrier()
        reasons[trainer.global_rank].unlink()
        if trainer.is_global_zero:
            (folder / FILE).unlink()
        device, whole = trainer.strategy.root_device, torch.from_numpy(values)
        roomy = device.type != "cuda" or values.nbytes < SHARE * torch.cuda.mem_get_info(device)[0]
        return Features(whole.to(device) if roomy else whole, split.labels.to(device), known)

    @torch.no_grad()
    def _share(self, split: Split, network: nn.Module, values: npt.NDArray[np.float32]) -> list[Unreadable]:
        """Write the rows of this process's images into features, float32 (N, D); what could not be read."""
        trainer, head, seen = self.attached_trainer(), head_of(network), list[torch.Tensor]()
        views = self.protocol.batch_size * (10 if self.protocol.name == "ten_crop" else 1)  # but the central ones alone
        central = dataclasses.replace(self.protocol, name="center_crop", batch_size=views)
        unreadable: list[Unreadable] = []
        modes = {layer: layer.training for layer in network.modules()}
        catching = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        network.eval()
        for batch in self.eval_loader(split, self.preprocessing, central):
            unreadable += batch.unreadable
            if len(batch.labels):
                with trainer.precision_plugin.forward_context():
                    class_scores(network, batch.images, self.recipe, central.batch_size)
                values[batch.indices.cpu().numpy()] = seen.pop()[: len(batch.labels)].float().cpu().numpy()
        catching.remove()
        for layer, training in modes.items():
            layer.training = training
        return unreadable


def _reserve(path: Path, shape: tuple[int, int]) -> None:
    """Make a file of so many float32, whose room on the disk is taken at once: later, a full one would be a crash."""
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, 4 * shape[0] * shape[1]))
        except OSError as error:
            path.unlink()
            raise UserError(
                f"{path.parent}: no room for {4 * shape[0] * shape[1] / 1e9:,.1f} GB of features ({error.strerror}); "
                "runs= names another place"
            ) from error
