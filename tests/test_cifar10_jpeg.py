"""CIFAR-10 as JPEG: parquet files that are checked to be it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.config.compose import compose
from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources import cifar10_jpeg as source
from harness.data.sources.cifar import TEN
from harness.data.sources.table import describe, load, load_test
from harness.errors import UserError

pa = pytest.importorskip("pyarrow")


def settings(root: Path) -> DataConfig:
    return compose("train", ["data=cifar10_jpeg", "model=resnet20", f"data.root={root}", "data.validation=0"]).data


def write(path: Path, labels: list[int], names: tuple[str, ...] = TEN, side: int = 32) -> None:
    from pyarrow import parquet

    random = np.random.default_rng(0)
    encoded = []
    for _ in labels:
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "JPEG")
        encoded.append({"bytes": file.getvalue()})
    features = {"label": {"_type": "ClassLabel", "names": list(names)}}
    table = pa.table({"img": encoded, "label": labels})
    said = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(said), path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with twenty training pictures and ten to test."""
    monkeypatch.setattr(source, "FACTS", DataSet(32, None, 3, TEN, 20, 10))
    write(tmp_path / "train-00000-of-00001.parquet", [*range(10), *range(10)])
    write(tmp_path / "test-00000-of-00001.parquet", [*range(10)])
    return tmp_path


def test_the_pictures_are_read(small: Path) -> None:
    splits = load(settings(small))
    assert len(splits.train.labels) == 20 and splits.test.labels.tolist() == list(range(10))
    assert load_test(settings(small)).ids[0] == "cifar10_jpeg/test/00000"
    assert describe(settings(small)).class_names == TEN


@pytest.mark.parametrize("labels", [list(range(9)), [*range(10), 0]])
def test_another_number_of_pictures_is_refused(labels: list[int], small: Path) -> None:
    write(small / "test-00000-of-00001.parquet", labels)
    for read in (load, load_test):
        with pytest.raises(UserError, match=rf"holds other pictures: 20 \+ {len(labels)} of 10 classes and 32 pixels"):
            read(settings(small))


def test_other_classes_or_sizes_are_refused(small: Path) -> None:
    changes: tuple[dict[str, Any], ...] = ({"names": TEN[::-1]}, {"side": 28})
    for options in changes:
        for split, count in (("train", 20), ("test", 10)):
            labels = [number % 10 for number in range(count)]
            write(small / f"{split}-00000-of-00001.parquet", labels, **options)
        with pytest.raises(UserError, match="holds other pictures"):
            load_test(settings(small))


def test_the_real_pictures(cifar10_jpeg: Path) -> None:
    test = load_test(settings(cifar10_jpeg))
    assert (
        isinstance(test, ImageSet)
        and test.images.shape == (10_000, 3, 32, 32)
        and torch.bincount(test.labels).tolist() == [1000] * 10
    )
