"""The data of a run on the devices that the trainer uses."""

from __future__ import annotations

import lightning as L
import torch

from harness.config import ProtocolConfig, RecipeConfig
from harness.data.loader import Batch, EvalLoader, TrainLoader
from harness.data.preprocessing import Preprocessing
from harness.data.sources import ImageSet, Splits


class _OnDevice(L.LightningDataModule):
    """Data whose loaders make every batch on the device that uses it."""

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Nothing is left to transfer."""
        return batch

    def eval_loader(self, split: ImageSet, preprocessing: Preprocessing, protocol: ProtocolConfig) -> EvalLoader:
        """This device's share of a split."""
        trainer = self.attached_trainer()
        return EvalLoader(
            split,
            preprocessing,
            batch_size=protocol.batch_size,
            device=trainer.strategy.root_device,
            rank=trainer.global_rank,
            devices=trainer.world_size,
        )

    def attached_trainer(self) -> L.Trainer:
        """The trainer that asks for loaders."""
        assert self.trainer is not None
        return self.trainer


class TrainData(_OnDevice):
    """Training and validation loaders over splits that lie whole on each device.

    Args:
        splits: the images.
        preprocessing: of the network.
        recipe: batch size and augmentation.
        protocol: how validation images are batched.
        seed: of order and augmentation.
        max_batches: of a training epoch; None for all.
    """

    def __init__(
        self,
        splits: Splits,
        preprocessing: Preprocessing,
        recipe: RecipeConfig,
        protocol: ProtocolConfig,
        seed: int,
        max_batches: int | None,
    ) -> None:
        super().__init__()
        self.splits = splits
        self.preprocessing = preprocessing
        self.recipe = recipe
        self.protocol = protocol
        self.seed = seed
        self.max_batches = max_batches

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps, each of one batch."""
        batches = -(-len(self.splits.train) // self.recipe.batch_size)
        return batches if self.max_batches is None else min(batches, self.max_batches)

    def train_dataloader(self) -> TrainLoader:
        """Starts where the trainer's global step says."""
        trainer = self.attached_trainer()
        return TrainLoader(
            self.splits.train,
            self.preprocessing,
            batch_size=self.recipe.batch_size,
            crop_padding=self.recipe.crop_padding,
            mirror=self.recipe.flip,
            seed=self.seed,
            position=lambda: trainer.global_step,
            device=trainer.strategy.root_device,
            rank=trainer.global_rank,
            devices=trainer.world_size,
            max_batches=self.max_batches,
        )

    def val_dataloader(self) -> EvalLoader:
        """This device's share of the validation split."""
        return self.eval_loader(self.splits.validation, self.preprocessing, self.protocol)


class EvalData(_OnDevice):
    """Every image of a split once, shared among the devices.

    Args:
        split: the images.
        preprocessing: of the network.
        protocol: how they are batched.
    """

    def __init__(self, split: ImageSet, preprocessing: Preprocessing, protocol: ProtocolConfig) -> None:
        super().__init__()
        self.split = split
        self.preprocessing = preprocessing
        self.protocol = protocol

    def test_dataloader(self) -> EvalLoader:
        """This device's share."""
        return self.eval_loader(self.split, self.preprocessing, self.protocol)
