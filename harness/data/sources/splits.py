"""The splits of a data set, and what all sources do with them. Nothing here loads torch before there are images.

The official test split is only ever reported on; images for model selection are taken out of the training split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_files import ImageFiles
from harness.data.images.image_set import ImageSet
from harness.errors import UserError

Split = ImageSet | ImageFiles
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """A data set; `validation` is empty where none was asked for."""

    train: Split
    validation: Split
    test: Split


def relabelled(split: Split, classes: Sequence[int]) -> Split:
    """The same images with other labels: class k becomes `classes[k]`."""
    order = split.labels.new_tensor(classes)
    if isinstance(split, ImageFiles) and split.answers is not None:
        return dataclasses.replace(split, labels=order[split.labels], answers=order[split.answers])
    return dataclasses.replace(split, labels=order[split.labels])


def hold_out(train: Split, test: Split, config: DataConfig) -> Splits:
    """The splits of a run: `data.validation` images are taken out of those to train on.

    Raises:
        UserError: more images are asked for than there are, or so many that a class has none left.
    """
    images = len(train.labels)
    if config.validation >= images:
        raise UserError(f"data.validation={config.validation}: only {images:,} training images to take them from")
    chosen, held_out = stratified(train.labels.numpy(), config.validation)
    return Splits(train.subset(chosen), train.subset(held_out), test)


def stratified(labels: Integers, held_out: int) -> tuple[Integers, Integers]:
    """Positions of the rest and of `held_out` images, every class in proportion; fixed by random state 0."""
    positions = np.arange(len(labels))
    if held_out == 0:
        return positions, positions[:0]
    from sklearn.model_selection import train_test_split

    images = np.unique(labels, return_counts=True)[1]
    if held_out < len(images):
        raise UserError(f"data.validation={held_out}: fewer than one image of each of {len(images)} classes")
    if len(labels) - held_out < len(images) or images.min() < 2:
        raise UserError(
            f"data.validation={held_out}: would leave a class without training images; data.validation=0 holds out none"
        )
    rest, out = train_test_split(positions, test_size=held_out, stratify=labels, random_state=0)
    return np.sort(rest), np.sort(out)


def checked(images: ImageSet, split: str, config: DataConfig, known: DataSet) -> ImageSet:
    """The split `train` or `test`, if it is what the facts of the data set say.

    Raises:
        UserError: files of another data set.
    """
    count = known.train if split == "train" else known.test
    shape, labels = images.images.shape, images.labels
    where = f"data={config.name}: what lies under data.root={config.root} is not {config.name}"
    if shape[:2] != (count, known.channels) or len(labels) != count:
        raise UserError(f"{where}: {shape[0]:,} images of {shape[1]} channels instead of {count:,} of {known.channels}")
    if shape[2:] != (known.image_size,) * 2:
        raise UserError(f"{where}: images of {shape[2]} x {shape[3]} pixels instead of {known.image_size} each way")
    odd = [label for label in (int(labels.min()), int(labels.max())) if not 0 <= label < len(known.class_names)]
    if odd:
        raise UserError(f"{where}: a label of {odd[0]:,}, and there are {len(known.class_names)} classes")
    return images
