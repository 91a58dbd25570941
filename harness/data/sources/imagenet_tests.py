"""Test sets for networks that know ImageNet's classes, as they are published; none has images to train on.

- ImageNet-V2 [Recht 2019]: three sets of 10 new photographs a class, in folders called by the class's number.
- ImageNet-A [Hendrycks 2019]: photographs that ResNet-50 gets wrong, of 200 classes, in folders called by wnid.
- ImageNet-R [Hendrycks 2020]: paintings, toys and the like, of 200 classes, in folders called by wnid.
- ImageNet-Sketch [Wang 2019]: drawings of all classes, in folders called by wnid.

On -A and -R a network chooses among the 200 classes alone, as in their papers. `root` is the folder of the classes, or
the one in which an archive was unpacked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.config.data import DataConfig, ImageNetV2Config
from harness.config.facts import DataSet
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.sources.imagenet import IMAGENET_CLASSES, labels_by_wnid
from harness.data.sources.splits import Splits
from harness.errors import UserError

NUMBERS = tuple(str(label) for label in range(len(IMAGENET_CLASSES)))


@dataclass(frozen=True)
class TestSet:
    """A source without training images.

    Attributes:
        title: its name in print.
        unpacked: folder that its archive unpacks to.
        images: number of its images, by its paper.
        classes: number of its classes.
        names: names of its folders in label order, if they are not wnids.
    """

    __test__ = False  # pytest takes the class for a test

    title: str
    unpacked: str
    images: int
    classes: int
    names: tuple[str, ...] = IMAGENET_CLASSES

    def describe(self, config: DataConfig) -> DataSet:
        """The facts; which classes a part of ImageNet's has, its folders say.

        Raises:
            UserError: there are no such folders, or as many as the paper has.
        """
        if self.classes == len(IMAGENET_CLASSES):
            return DataSet(None, None, 3, IMAGENET_CLASSES, 0, self.images)
        root = self._root(config)
        present = {path.name for path in root.iterdir() if path.is_dir()}
        classes = tuple(wnid for wnid in IMAGENET_CLASSES if wnid in present)
        if len(classes) != self.classes:
            raise self._other(config, root, f"{len(classes):,} folders called by a wnid instead of {self.classes}")
        return DataSet(None, None, 3, classes, 0, self.images, restricted=True)

    def load(self, config: DataConfig) -> Splits:
        """No splits.

        Raises:
            UserError: always; there is nothing to train on.
        """
        raise UserError(f"data={config.name}: {self.title} has no images to train on; eval.py evaluates networks on it")

    def load_test(self, config: DataConfig) -> ImageFiles:
        """All images.

        Raises:
            UserError: a folder that is missing or not laid out as above, or another number of images than the paper's.
        """
        root = self._root(config)
        folder, known = index_folder(root), self.describe(config)
        if len(folder) != self.images:
            raise self._other(config, root, f"{len(folder):,} images instead of {self.images:,}")
        names = self.names if self.classes == len(IMAGENET_CLASSES) else known.class_names
        labels = labels_by_wnid(folder, names, self.title)
        return ImageFiles.labelled(folder, np.arange(len(folder), dtype=np.int32), labels, self._prefix(config))

    def _root(self, config: DataConfig) -> Path:
        root = Path(config.root)
        inside = root / self._unpacked(config)
        if not root.is_dir():
            raise UserError(f"data={config.name}: data.root={root}: there is no such folder")
        return inside if inside.is_dir() else root

    def _unpacked(self, config: DataConfig) -> str:
        return self.unpacked.format(variant=config.variant) if isinstance(config, ImageNetV2Config) else self.unpacked

    def _prefix(self, config: DataConfig) -> str:
        return f"{config.name}/{config.variant}" if isinstance(config, ImageNetV2Config) else config.name

    def _other(self, config: DataConfig, root: Path, what: str) -> UserError:
        return UserError(
            f"data={config.name}: {root} holds {what}; data.root should be {self._unpacked(config)}, as the archive of "
            f"{self.title} unpacks, or the folder that holds it"
        )


imagenet_v2 = TestSet("ImageNet-V2", "imagenetv2-{variant}-format-val", 10_000, 1_000, NUMBERS)
imagenet_a = TestSet("ImageNet-A", "imagenet-a", 7_500, 200)
imagenet_r = TestSet("ImageNet-R", "imagenet-r", 30_000, 200)
imagenet_sketch = TestSet("ImageNet-Sketch", "sketch", 50_889, 1_000)
