"""Parts of data sets, written as the parquet files that `data=parquet` reads."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from harness.config.data import DataConfig
from harness.data.images.image_set import ImageSet
from harness.data.sources.table import describe, load


@dataclass(frozen=True)
class Pictures:
    """Pictures of one split.

    Attributes:
        images: uint8 (N, H, W) or (N, H, W, 3).
        labels: int64 (N,).
        class_names: in label order.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]

    def classes(self, first: int, last: int) -> Pictures:
        """Those of classes `first` to `last` - 1, which become classes 0 and on."""
        chosen = (self.labels >= first) & (self.labels < last)
        return Pictures(self.images[chosen], self.labels[chosen] - first, self.class_names[first:last])

    def few(self, images_per_class: int, seed: int) -> tuple[Pictures, Pictures]:
        """So many of every class, drawn by the seed, and the others; what fewer hold, more hold too."""
        shuffled = np.random.default_rng(seed).permutation(len(self.labels))
        each = [shuffled[self.labels[shuffled] == label] for label in range(len(self.class_names))]
        chosen = np.concatenate([positions[:images_per_class] for positions in each])
        others = np.setdiff1d(shuffled, chosen)
        return self._at(np.sort(chosen)), self._at(others)

    def _at(self, positions: npt.NDArray[np.int64]) -> Pictures:
        return Pictures(self.images[positions], self.labels[positions], self.class_names)

    def write(self, path: Path) -> None:
        """As a parquet file; losslessly, as PNG."""
        features = {"img": {"_type": "Image"}, "label": {"names": self.class_names, "_type": "ClassLabel"}}
        table = pa.table({"img": [{"bytes": _png(image), "path": None} for image in self.images], "label": self.labels})
        metadata = json.dumps({"info": {"features": features}})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), path)


def digits() -> tuple[Pictures, Pictures]:
    """Training and test split of scikit-learn's digits, as `data=digits` has them."""
    return _splits(DataConfig("digits", "", False, 0, [0.5], [0.5]))


def parquet(root: Path) -> tuple[Pictures, Pictures]:
    """Training and test split of a data set of parquet files.

    Raises:
        UserError: files that are missing or damaged.
    """
    return _splits(DataConfig("parquet", str(root), False, 0, [0.5], [0.5]))


def _splits(config: DataConfig) -> tuple[Pictures, Pictures]:
    splits, names = load(config), describe(config).class_names
    assert isinstance(splits.train, ImageSet) and isinstance(splits.test, ImageSet)
    train, test = (Pictures(_hwc(split), split.labels.numpy(), names) for split in (splits.train, splits.test))
    return train, test


def _hwc(split: ImageSet) -> npt.NDArray[np.uint8]:
    """Images (N, C, H, W) as Pillow takes them."""
    pixels: npt.NDArray[np.uint8] = split.images.permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
