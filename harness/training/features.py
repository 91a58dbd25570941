"""Features: what a frozen network hands to its last layer, computed once and kept on the device.

The loaders over them keep the contract of `harness.data.loading.loader`, with features (n, D) where those have images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.data.loading.loader import Batch, Loader, Unreadable
from harness.data.loading.module import TrainData
from harness.data.loading.order import EvalOrder, TrainOrder
from harness.data.sources.splits import Split
from harness.errors import UserError
from harness.evaluation.scores import class_scores
from harness.run.log import log


@dataclass(frozen=True)
class Features:
    """Of the images of one split, all of them on each device.

    Attributes:
        values: float32 (N, D); a row of an image that could not be read is without meaning.
        labels: int64 (N,).
        unreadable: why an image could not be read, by its position in the split.
    """

    values: torch.Tensor
    labels: torch.Tensor
    unreadable: dict[int, str]

    def batch(self, chosen: torch.Tensor, global_size: int) -> Batch:
        """The images at these positions, int64 (n,), of a batch of `global_size` over all devices."""
        if not self.unreadable:
            return Batch(self.values[chosen], self.labels[chosen], chosen, global_size)
        positions = chosen.tolist()
        bad = tuple(Unreadable(index, self.unreadable[index]) for index in positions if index in self.unreadable)
        good = torch.tensor([index for index in positions if index not in self.unreadable], dtype=torch.int64)
        good = good.to(chosen.device)
        return Batch(self.values[good], self.labels[good], good, global_size, bad)


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
        super().__init__(order, features.values.device)
        self.features = features

    def batches(self) -> Iterator[Batch]:
        """Taken from memory."""
        for indices, global_size, _ in self.order.chosen(self.order.start()):
            yield self.features.batch(indices, global_size)


class FeatureData(TrainData):
    """Training and validation features, of the images as an evaluation sees them: whole, or their central crop.

    They are computed when the loaders are made, after the weights of a checkpoint were loaded, by the network that
    the trainer's module holds as `whole`; each device computes a share, and keeps all.
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
        """Of every image of a split, on every device."""
        trainer = self.attached_trainer()
        network: nn.Module = trainer.lightning_module.whole  # type: ignore[assignment]  # of a `LinearProbe`
        log.info(f"computing features of {len(split):,} images, once")
        shares: list[Any] = [self._share(split, network.to(trainer.strategy.root_device))]
        if trainer.world_size > 1:
            mine, shares = shares[0], shares * trainer.world_size
            torch.distributed.all_gather_object(shares, mine)
        values = torch.zeros(len(split), head_of(network).in_features)
        unreadable: dict[int, str] = {}
        for indices, rows, bad in shares:
            values[indices] = rows
            unreadable.update(bad)
        device = trainer.strategy.root_device
        return Features(values.to(device), split.labels.to(device), unreadable)

    @torch.no_grad()
    def _share(self, split: Split, network: nn.Module) -> tuple[torch.Tensor, torch.Tensor, list[Unreadable]]:
        """This device's: positions int64 (n,), features float32 (n, D), and what could not be read; on the CPU."""
        trainer, head, seen = self.attached_trainer(), head_of(network), list[torch.Tensor]()
        views = self.protocol.batch_size * (10 if self.protocol.name == "ten_crop" else 1)  # but the central ones alone
        central = dataclasses.replace(self.protocol, name="center_crop", batch_size=views)
        positions, rows = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, head.in_features)]
        unreadable: list[Unreadable] = []
        modes = {layer: layer.training for layer in network.modules()}
        catching = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        network.eval()
        for batch in self.eval_loader(split, self.preprocessing, central):
            unreadable += batch.unreadable
            if len(batch.labels):
                with trainer.precision_plugin.forward_context():
                    class_scores(network, batch.images, self.recipe, central.batch_size)
                positions.append(batch.indices.cpu())
                rows.append(seen.pop()[: len(batch.labels)].float().cpu())
        catching.remove()
        for layer, training in modes.items():
            layer.training = training
        return torch.cat(positions), torch.cat(rows), unreadable
