"""imagenette [fastai/imagenette]: ten easily told classes of ImageNet, 9,469 + 3,925 photographs, second version.

Classes are called by wnid like ImageNet's, so that a network of ImageNet can be evaluated on them; programs that print
for people add the English names. `root` holds `train/<wnid>/` and `val/<wnid>/`, or one of the folders that the
publisher's archives unpack to: `imagenette2`, `imagenette2-320` (shorter edge of 320 pixels), `imagenette2-160`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.sources.imagenet import labels_by_wnid
from harness.data.sources.splits import Splits, hold_out
from harness.errors import UserError

CLASSES = {  # wnid -> name, in label order
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
UNPACKED = ("imagenette2", "imagenette2-320", "imagenette2-160")  # what the archives unpack to
FACTS = DataSet(None, None, 3, tuple(CLASSES), 9_469, 3_925)


def describe(config: DataConfig) -> DataSet:
    """The facts."""
    return FACTS


def load(config: DataConfig) -> Splits:
    """All splits.

    Raises:
        UserError: a folder that is missing or not laid out as above, or images of another split or of a part of it.
    """
    return hold_out(_read(config, "train", FACTS.train), load_test(config), config)


def load_test(config: DataConfig) -> ImageFiles:
    """The official split `val`, which is the one that is reported on; raises as `load` does."""
    return _read(config, "val", FACTS.test)


def _read(config: DataConfig, split: str, images: int) -> ImageFiles:
    root = _root(Path(config.root))
    if not (root / split).is_dir():
        raise UserError(
            f"data=imagenette: data.root={root} has no folder {split}; it should hold train/<wnid>/ and val/<wnid>/, "
            f"or what an archive of fastai/imagenette unpacks to: {', '.join(UNPACKED)}"
        )
    folder = index_folder(root / split)
    if len(folder) != images:
        raise UserError(
            f"data=imagenette: {folder.root} has {len(folder):,} images instead of {images:,}; unpack the archive of "
            "the second version again, or read any other photographs with data=folder"
        )
    labels = labels_by_wnid(folder, FACTS.class_names, "imagenette")
    return ImageFiles.labelled(folder, np.arange(images, dtype=np.int32), labels, f"imagenette/{split}")


def _root(root: Path) -> Path:
    """The folder that holds the splits: `root` itself, or the one of the publisher's folders in it."""
    if (root / "train").is_dir() or (root / "val").is_dir():
        return root
    found = [root / name for name in UNPACKED if (root / name).is_dir()]
    if len(found) > 1:
        raise UserError(
            f"data=imagenette: data.root={root} holds {' and '.join(path.name for path in found)}; say which one, such "
            f"as data.root={found[0]}"
        )
    return found[0] if found else root
