"""The data of a run on the devices that the trainer uses."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from harness.config.facts import Preprocessing
from harness.config.protocol import DENSE, MULTI_CROP, ProtocolConfig
from harness.config.recipe import RecipeConfig
from harness.data.images.geometry import GRID
from harness.data.images.image_files import ImageFiles
from harness.data.images.image_set import ImageSet
from harness.data.loading.device_loader import DeviceCropLoader, fit_on
from harness.data.loading.file_loader import EvalFileLoader, TrainFileLoader
from harness.data.loading.loader import Batch, EvalLoader, TrainLoader
from harness.data.loading.order import batches_per_epoch
from harness.data.loading.picture_loader import PictureLoader
from harness.data.loading.small_pictures import SmallFiles
from harness.data.loading.workers import workers_at_hand
from harness.data.sources.splits import Split, Splits
from harness.run.log import log
from harness.run.machine import available_cores, shared_memory


class _OnDevice(L.LightningDataModule):
    """Data whose loaders make every batch on the device that uses it.

    Args:
        decoder: of images in files, `fast` or `pil`.
        workers: processes that decode them for each device; None chooses from the cores at hand.
    """

    def __init__(self, decoder: str | None, workers: int | None) -> None:
        super().__init__()
        self.decoder = decoder
        self.wanted_workers = workers

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Hand the batch on: it lies on the device already."""
        return batch

    def eval_loader(
        self, split: Split, preprocessing: Preprocessing, protocol: ProtocolConfig
    ) -> EvalLoader | EvalFileLoader | PictureLoader:
        """This device's share of a split."""
        trainer = self.attached_trainer()
        device, rank, devices = trainer.strategy.root_device, trainer.global_rank, trainer.world_size
        if isinstance(split, ImageSet):
            return EvalLoader(
                split, preprocessing, batch_size=protocol.batch_size, device=device, rank=rank, devices=devices
            )
        if protocol.name in DENSE:
            return self._whole_pictures(split, preprocessing, protocol)
        ten_crop = protocol.name == "ten_crop"
        scales = protocol.scales_for(preprocessing) if protocol.name == MULTI_CROP else []
        windows = GRID**2 * len(scales) or (6 if ten_crop else 1)
        return EvalFileLoader(
            split,
            preprocessing,
            batch_size=protocol.batch_size,
            ten_crop=ten_crop,
            decoder=str(self.decoder),
            workers=self.workers(protocol.batch_size * windows * preprocessing.size**2),
            device=device,
            rank=rank,
            devices=devices,
            scales=scales,
        )

    def _whole_pictures(
        self, split: ImageFiles, preprocessing: Preprocessing, protocol: ProtocolConfig
    ) -> PictureLoader:
        trainer, scales = self.attached_trainer(), protocol.scales_for(preprocessing)
        pixels = sum(scale**2 * 4 // 3 for scale in scales)  # of one image; most photographs are 4 to 3
        return PictureLoader(
            split,
            preprocessing,
            scales,
            batch_size=protocol.batch_size,
            decoder=str(self.decoder),
            workers=self.workers(protocol.batch_size * pixels),
            device=trainer.strategy.root_device,
            rank=trainer.global_rank,
            devices=trainer.world_size,
        )

    def workers(self, pixels: int) -> int:
        """How many processes decode this device's batches of so many pixels."""
        if self.wanted_workers is not None:
            return self.wanted_workers
        trainer = self.attached_trainer()
        on_cpu = trainer.strategy.root_device.type == "cpu"
        return workers_at_hand(available_cores(), trainer.num_devices, on_cpu, 3 * pixels, shared_memory())

    def attached_trainer(self) -> L.Trainer:
        """The trainer that asks for loaders."""
        assert self.trainer is not None
        return self.trainer


class TrainData(_OnDevice):
    """Training and validation loaders.

    Args:
        splits: the images.
        preprocessing: of the network.
        recipe: batch size and augmentation.
        protocol: how validation images are batched.
        seed: of order and augmentation.
        max_batches: of a training epoch; None for all.
        decoder: of images in files, `fast` or `pil`.
        workers: processes that decode them for each device; None chooses from the cores at hand.
    """

    def __init__(
        self,
        splits: Splits,
        preprocessing: Preprocessing,
        recipe: RecipeConfig,
        protocol: ProtocolConfig,
        seed: int,
        max_batches: int | None,
        decoder: str | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(decoder, workers)
        self.splits = splits
        self.preprocessing = preprocessing
        self.recipe = recipe
        self.protocol = protocol
        self.seed = seed
        self.max_batches = max_batches
        self.steps_per_epoch = batches_per_epoch(len(splits.train.labels), recipe.batch_size, max_batches)

    def train_dataloader(self) -> TrainLoader | TrainFileLoader:
        """A loader that starts where the trainer's global step says."""
        trainer = self.attached_trainer()
        if not isinstance(self.splits.train, ImageSet):
            return self._train_files(self.splits.train, trainer)
        return TrainLoader(
            self.splits.train,
            self.preprocessing,
            recipe=self.recipe,
            batch_size=self.recipe.batch_size,
            crop_padding=self.recipe.crop_padding or 0,
            pairs=self.recipe.mixes,
            mirror=self.recipe.flip,
            seed=self.seed,
            position=lambda: trainer.global_step,
            device=trainer.strategy.root_device,
            rank=trainer.global_rank,
            devices=trainer.world_size,
            max_batches=self.max_batches,
        )

    @property
    def largest_size(self) -> int:
        """Side of the largest training images in pixels."""
        return self.recipe.train_size[-1] if self.recipe.train_size else self.preprocessing.size

    def _train_files(self, split: ImageFiles, trainer: L.Trainer) -> TrainFileLoader:
        device = trainer.strategy.root_device
        options: dict[str, Any] = {
            "decoder": str(self.decoder),
            "seed": self.seed,
            "position": lambda: trainer.global_step,
            "device": device,
            "rank": trainer.global_rank,
            "devices": trainer.world_size,
            "max_batches": self.max_batches,
        }
        if isinstance(split, SmallFiles) and fit_on(device, split, self.preprocessing, self.recipe, str(self.decoder)):
            log.info(f"{split.bytes / 2**30:.1f} GiB of small pictures lie on the device, which makes the crops")
            return DeviceCropLoader(split, self.preprocessing, self.recipe, **options)
        workers = self.workers(-(-self.recipe.batch_size // trainer.world_size) * self.largest_size**2)
        return TrainFileLoader(split, self.preprocessing, self.recipe, **options, workers=workers)

    def val_dataloader(self) -> EvalLoader | EvalFileLoader | PictureLoader:
        """This device's share of the validation split."""
        return self.eval_loader(self.splits.validation, self.preprocessing, self.protocol)


class EvalData(_OnDevice):
    """Every image of a split once, shared among the devices.

    Args:
        split: the images.
        preprocessing: of the network.
        protocol: how they are batched.
        decoder: of images in files, `fast` or `pil`.
        workers: processes that decode them for each device; None chooses from the cores at hand.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        protocol: ProtocolConfig,
        decoder: str | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(decoder, workers)
        self.split = split
        self.preprocessing = preprocessing
        self.protocol = protocol

    def test_dataloader(self) -> EvalLoader | EvalFileLoader | PictureLoader:
        """This device's share."""
        return self.eval_loader(self.split, self.preprocessing, self.protocol)
