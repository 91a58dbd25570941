"""data=parquet: pictures are read as they are, and files that are missing, damaged or foreign are named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_script
from PIL import Image

from harness.config import DataConfig
from harness.data import sources
from harness.data.datasets import DATASETS, facts
from harness.data.sources import ImageSet
from harness.errors import UserError

NAMES = ["cat", "dog", "äpfel"]
FEATURES = {"img": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}


def config(root: Path, validation: int = 3) -> DataConfig:
    return DataConfig("parquet", str(root), False, validation, [0.5] * 3, [0.5] * 3)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, images: Any, labels: Any, metadata: bytes | None = None) -> None:
    table = pa.table({"img": images, "label": labels})
    pq.write_table(table.replace_schema_metadata(metadata and {"huggingface": metadata}), path)


def pixels(count: int, seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_set(root: Path, shape: tuple[int, ...] = (8, 8, 3), named: bool = True) -> dict[str, np.ndarray]:
    """Twelve training images in two files, as bytes and as structs, and six test images."""
    root.mkdir(parents=True, exist_ok=True)
    metadata = json.dumps({"info": {"features": FEATURES}}).encode() if named else None
    train, test = pixels(12, 0, shape), pixels(6, 1, shape)
    write(root / "train-0.parquet", [png(image) for image in train[:6]], [0, 1, 2] * 2, metadata)
    write(root / "train-1.parquet", [{"bytes": png(i), "path": None} for i in train[6:]], [2, 1, 0] * 2, metadata)
    write(root / "test.parquet", [png(image) for image in test], [2, 1, 0] * 2, metadata)
    return {"train": train, "test": test}


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8)], ids=["colour", "grey"])
def test_pixels_labels_and_names(tmp_path: Path, shape: tuple[int, ...]) -> None:
    written = write_set(tmp_path / "with spaces & é", shape)
    data = config(tmp_path / "with spaces & é")
    known = facts(data)
    assert (known.image_size, known.channels) == (8, 3 if len(shape) == 3 else 1)
    assert (known.train, known.test, known.class_names) == (12, 6, tuple(NAMES))
    splits = sources.load(data)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (9, 3, 6)
    assert isinstance(splits.test, ImageSet)
    expected = written["test"].reshape(6, 8, 8, -1).transpose(0, 3, 1, 2)
    assert np.array_equal(splits.test.images.numpy(), expected) and splits.test.labels.tolist() == [2, 1, 0] * 2
    everything = sources.load(config(tmp_path / "with spaces & é", validation=0)).train
    assert isinstance(everything, ImageSet)
    assert np.array_equal(everything.images.numpy(), written["train"].reshape(12, 8, 8, -1).transpose(0, 3, 1, 2))
    assert everything.labels.tolist() == [0, 1, 2] * 2 + [2, 1, 0] * 2
    assert sorted([*splits.train.ids, *splits.validation.ids]) == [f"parquet/train/{i:05d}" for i in range(12)]
    assert splits.test.ids[5] == "parquet/test/00005"
    assert sorted(splits.validation.labels.tolist()) == [0, 1, 2]  # every class in proportion


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    write_set(tmp_path, named=False)
    assert facts(config(tmp_path)).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (png(pixels(1, 0, (4, 8, 3))[0]), 1, "row 1: an image of 8 x 4 pixels among those of 8 x 8"),
        (b"no image", 1, r"row 1: an image that cannot be read \(UnidentifiedImageError\)"),
        (png(pixels(1, 0)[0])[:40], 1, r"row 1: an image that cannot be read"),
        (None, 1, "row 1: no bytes of an image"),
        (png(pixels(1, 0)[0]), 3, "row 1: label 3 is none of the 3 classes"),
        (png(pixels(1, 0)[0]), -1, "row 1: label -1 is none of the 3 classes"),
        (png(pixels(1, 0)[0]), None, "row 1: label None is none of the 3 classes"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, image: bytes | None, label: int | None, message: str) -> None:
    write_set(tmp_path)
    metadata = pq.read_schema(tmp_path / "test.parquet").metadata[b"huggingface"]
    write(tmp_path / "train-1.parquet", [png(pixels(1, 0)[0]), image], [0, label], metadata)
    with pytest.raises(UserError, match=rf"train-1.parquet: {message}") as caught:
        sources.load(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_foreign_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root=.*: no train\*.parquet in it; it should hold"):
        facts(config(tmp_path))
    write_set(tmp_path)
    good = (tmp_path / "test.parquet").read_bytes()
    for content in (b"", b"PAR1", good[:-20], b"<html>"):
        (tmp_path / "test.parquet").write_bytes(content)
        with pytest.raises(UserError, match=r"test.parquet: damaged, or not a parquet file"):
            facts(config(tmp_path))
    (tmp_path / "test.parquet").write_bytes(good[:60] + bytes(200) + good[260:])
    with pytest.raises(UserError, match=r"test.parquet: "):
        sources.load(config(tmp_path))
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"no column 'img' or 'image'; it has: picture, label"):
        facts(config(tmp_path))
    pq.write_table(pa.table({"img": [b""], "label": ["cat"]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"the column 'label' holds string where integers belong"):
        facts(config(tmp_path))
    pq.write_table(
        pa.table({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), tmp_path / "test.parquet"
    )
    with pytest.raises(UserError, match=r"test.parquet: it holds no image"):
        facts(config(tmp_path))


def test_a_mistake_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    done = run_script("train.py", "data=parquet", "data.root=nowhere", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "data=parquet: data.root=nowhere: no train*.parquet in it" in done.stderr
    write_set(tmp_path / "grey", (8, 8))
    done = run_script("train.py", "data=parquet", "data.root=grey", "model=mlp", "model.hidden=[9]", cwd=tmp_path)
    assert done.returncode == 2 and "has 1 channels; give one value each" in done.stderr


def test_real_cifar10(cifar10_jpeg: Path) -> None:
    known = facts(config(cifar10_jpeg))
    assert (known.image_size, known.channels, known.train, known.test) == (32, 3, 50_000, 10_000)
    assert known.class_names == DATASETS["cifar10"].class_names
    test = sources.load_test(config(cifar10_jpeg))
    assert isinstance(test, ImageSet)
    assert test.images.shape == (10_000, 3, 32, 32) and test.labels.bincount().tolist() == [1000] * 10
