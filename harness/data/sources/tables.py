"""Where images come from: small data sets are read into memory as uint8, others stay in files.

The official test split is only ever reported on; images for model selection are taken out of the training split.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F

from harness.config.data import DataConfig, FolderConfig
from harness.data.images.image_files import ImageFiles
from harness.data.sources import hub, parquet
from harness.data.sources.class_folders import divide
from harness.data.sources.datasets import DATASETS, describe
from harness.data.sources.imagenet import imagenet
from harness.errors import UserError


@dataclass(frozen=True)
class ImageSet:
    """Images of one split.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), positions in the data set's class names.
        ids: N names that stay the same whatever the order and the split, such as `mnist/test/00042`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: torch.Tensor) -> ImageSet:
        """The images at these positions, int64 (n,)."""
        return ImageSet(self.images[indices], self.labels[indices], [self.ids[i] for i in indices.tolist()])

    def fingerprint(self) -> str:
        """SHA-256 over shape, pixels and labels: equal for equal images in equal order."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.contiguous().cpu().numpy().data)
        return digest.hexdigest()


Split = ImageSet | ImageFiles


@dataclass(frozen=True)
class Splits:
    """A data set; `validation` is empty where none was asked for."""

    train: Split
    validation: Split
    test: Split


def load(config: DataConfig) -> Splits:
    """Read the data set that the config names.

    Raises:
        UserError: files that are missing, unreadable, damaged or of another data set.
    """
    if isinstance(config, FolderConfig):
        return _to_train_on(_divided(config), config)
    train, test = _checked(config, "train"), load_test(config)
    if config.validation >= len(train):
        raise UserError(f"data.validation={config.validation}: only {len(train):,} training images to take them from")
    chosen, held_out = _stratified(train.labels, config.validation)
    return Splits(train.subset(chosen), train.subset(held_out), test)


def load_test(config: DataConfig) -> Split:
    """Read the test split alone; raises as `load` does."""
    if isinstance(config, FolderConfig):
        return _divided(config).test
    return _checked(config, "test")


def relabelled(split: Split, classes: Sequence[int]) -> Split:
    """The same images with other labels: class k becomes `classes[k]`."""
    return dataclasses.replace(split, labels=torch.tensor(classes)[split.labels])


def _divided(config: FolderConfig) -> Splits:
    """A user's own pictures, decoded as any viewer shows them."""
    _, *parts = divide(config)
    return Splits(
        *(ImageFiles(p.folder, p.positions, torch.from_numpy(p.labels), p.prefix, as_viewed=True) for p in parts)
    )


def _to_train_on(splits: Splits, config: FolderConfig) -> Splits:
    if not len(splits.train):
        raise UserError(f"data.test={config.test} data.root={config.root}: no image is left to train on")
    return splits


def _checked(config: DataConfig, split: str) -> Split:
    """One split, if it is what the facts of the data set say; of data in files any part may be there."""
    images, known = SOURCES[config.name](config, split), describe(config)
    if isinstance(images, ImageFiles):
        return images
    count = known.train if split == "train" else known.test
    expected = (count, known.channels)
    if images.images.shape[:2] != expected or len(images) != count or images.labels.max() >= len(known.class_names):
        raise UserError(
            f"data={config.name}: what lies under data.root={config.root} is not {config.name}: {len(images):,} "
            f"images of {images.images.shape[1]} channels instead of {count:,} of {known.channels}"
        )
    return images


def _stratified(labels: torch.Tensor, held_out: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the rest and of `held_out` images, every class in proportion; fixed by random state 0."""
    from sklearn.model_selection import train_test_split

    positions = torch.arange(len(labels))
    if held_out == 0:
        return positions, positions[:0]
    _, images = labels.unique(return_counts=True)  # type: ignore[no-untyped-call]
    if held_out < len(images):
        raise UserError(f"data.validation={held_out}: fewer than one image of each of {len(images)} classes")
    if len(labels) - held_out < len(images) or images.min() < 2:
        raise UserError(
            f"data.validation={held_out}: would leave a class without training images; data.validation=0 holds out none"
        )
    rest, out = train_test_split(positions.numpy(), test_size=held_out, stratify=labels.numpy(), random_state=0)
    return torch.from_numpy(rest).sort().values, torch.from_numpy(out).sort().values


def _digits(config: DataConfig, split: str) -> ImageSet:
    """scikit-learn's 1,797 digits of 8x8 pixels and 16 greys, upscaled to 24x24 and padded to 32x32.

    There is no official split: 360 images are the test split, stratified, chosen by random state 0. The file does not
    say who wrote which digit, so the same writers are on both sides.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None]  # (1797, 1, 8, 8), 0 to 16
    upscaled = F.interpolate(small, size=24, mode="bilinear", align_corners=False)
    images = F.pad(upscaled.mul(255 / 16).round().to(torch.uint8), (4, 4, 4, 4))  # (1797, 1, 32, 32)
    labels = torch.from_numpy(bunch.target).long()
    everything = ImageSet(images, labels, [f"digits/{index:04d}" for index in range(len(labels))])
    train, test = _stratified(labels, DATASETS["digits"].test)
    return everything.subset(train if split == "train" else test)


def _torchvision(dataset: str) -> Callable[[DataConfig, str], ImageSet]:
    def read(config: DataConfig, split: str) -> ImageSet:
        from torchvision import datasets

        return _read(getattr(datasets, dataset), config, split)

    return read


def _read(dataset: Callable[..., Any], config: DataConfig, split: str) -> ImageSet:
    """One split of a torchvision data set, as tensors."""
    where = f"data={config.name}: data.root={config.root}"
    try:
        try:
            read = dataset(config.root, train=split == "train", download=False)
        except RuntimeError as missing:
            if not config.download:
                raise UserError(
                    f"{where} lacks the files of {config.name}, or holds damaged ones; data.download=true fetches "
                    "them, or name the folder that has them in data.root"
                ) from missing
            read = dataset(config.root, train=split == "train", download=True)
    except PermissionError as error:
        raise UserError(f"{where}: no permission to read or write {error.filename or config.root}") from error
    except UserError:
        raise
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{where} lacks the files of {config.name} and they could not be downloaded ({shorten(str(error), 100)}); "
            "without a network, copy torchvision's files there by hand, or use data=digits, which needs none"
        ) from error
    except Exception as error:  # a damaged file can fail in any way while it is parsed
        raise UserError(
            f"{where}: a file of {config.name} is damaged or of another kind ({type(error).__name__}: {error}); "
            "delete it, so that it is downloaded again"
        ) from error
    images, labels = torch.as_tensor(read.data), torch.as_tensor(read.targets).long()
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()  # (N, C, H, W)
    return ImageSet(images, labels, [f"{config.name}/{split}/{index:05d}" for index in range(len(labels))])


def _parquet(config: DataConfig, split: str) -> ImageSet:
    files, where = hub.files_of(config)
    paths = files["train"] if split == "train" else parquet.reported(files, where)
    images, labels = parquet.read(paths, parquet.describe(files, where))
    ids = [f"{config.name}/{split}/{index:05d}" for index in range(len(labels))]
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), ids)


SOURCES: dict[str, Callable[[DataConfig, str], Split]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST"),
    "fashion_mnist": _torchvision("FashionMNIST"),
    "cifar10": _torchvision("CIFAR10"),
    "cifar100": _torchvision("CIFAR100"),
    "parquet": _parquet,
    "hub": _parquet,
    "imagenet": imagenet,
}
