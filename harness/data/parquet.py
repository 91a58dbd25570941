"""Pictures in parquet files: columns `img` (an encoded image, or a struct with its `bytes`) and `label` (an integer).

Files whose names begin with `train` are the training split, those with `test` the test split, each in order of their
names. Class names are read from the Hugging Face metadata of the schema; without it they are numbers. Nothing here
imports torch, so that `describe` answers before that is loaded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.data.datasets import DataSet
from harness.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = ("img", "label")
CHANNELS = {"L": 1, "RGB": 3}


def describe(root: Path) -> DataSet:
    """Facts of the files, size and channels as the first image of the test split has them.

    Raises:
        UserError: files that are missing, damaged or without the two columns.
    """
    files = {split: _files(root, split) for split in ("train", "test")}
    train, test = (sum(_open(path).metadata.num_rows for path in files[split]) for split in ("train", "test"))
    first = files["test"][0]
    encoded = next(_rows(first, "img"), None)
    if encoded is None:
        raise UserError(f"{first}: it holds no image")
    picture = _decode(encoded, f"{first}: row 0")
    names = _class_names(first)
    if names is None:
        labels = (label for paths in files.values() for path in paths for label in _rows(path, "label"))
        highest = max((label for label in labels if label is not None), default=-1)
        names = tuple(str(label) for label in range(highest + 1))
    return DataSet(picture.height, None, CHANNELS.get(picture.mode, 3), names, train, test)


def read(root: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """One split, `train` or `test`: images (N, C, H, W), all of one size, and labels (N,).

    Images are converted to the colours of the first one of the test split, grey or RGB.

    Raises:
        UserError: files that are missing or damaged, or an image that cannot be read or has another size.
    """
    facts = describe(root)
    size, channels, classes = facts.image_size, facts.channels, len(facts.class_names)
    assert size is not None, "pictures of parquet files have one size"
    mode = {count: name for name, count in CHANNELS.items()}[channels]
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for path in _files(root, split):
        for row, (encoded, label) in enumerate(zip(_rows(path, "img"), _rows(path, "label"), strict=True)):
            where = f"{path}: row {row}"
            picture = _decode(encoded, where)
            if picture.size != (size, size):
                raise UserError(
                    f"{where}: an image of {picture.width} x {picture.height} pixels among those of {size} x {size}; "
                    "data=parquet takes square images of one size"
                )
            if label is None or not 0 <= label < classes:
                raise UserError(f"{where}: label {label} is none of the {classes} classes")
            images.append(np.asarray(picture.convert(mode), dtype=np.uint8).reshape(size, size, channels))
            labels.append(label)
    if not images:
        raise UserError(f"data=parquet: the {split}*.parquet in data.root={root} hold no image")
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)), np.array(labels, dtype=np.int64)


def _files(root: Path, split: str) -> list[Path]:
    files = sorted(root.glob(f"{split}*.parquet"))
    if not files:
        raise UserError(
            f"data=parquet: no {split}*.parquet in data.root={root}; name the folder that holds the files of both "
            "splits, train*.parquet and test*.parquet"
        )
    return files


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, types
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError("data=parquet needs pyarrow: pip install 'cnn-zoo[hub]'") from error
    try:
        file = ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged, or not a parquet file ({type(error).__name__})") from error
    missing = [column for column in COLUMNS if column not in file.schema_arrow.names]
    if missing:
        found = ", ".join(file.schema_arrow.names)
        raise UserError(f"{path}: no column {missing[0]!r}; data=parquet reads 'img' and 'label', it has: {found}")
    if not types.is_integer(kind := file.schema_arrow.field("label").type):
        raise UserError(f"{path}: the column 'label' holds {kind} where integers belong")
    return file


def _rows(path: Path, column: str) -> Iterator[Any]:
    """The values of a column, read piece by piece."""
    from pyarrow import ArrowException

    file = _open(path)
    try:
        for batch in file.iter_batches(batch_size=4096, columns=[column]):
            yield from batch.column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__})") from error


def _class_names(path: Path) -> tuple[str, ...] | None:
    metadata = (_open(path).schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(json.loads(metadata)["info"]["features"]["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return None


def _decode(encoded: Any, where: str) -> Image:
    from PIL import Image

    encoded = encoded.get("bytes") if isinstance(encoded, dict) else encoded
    if not isinstance(encoded, bytes):
        raise UserError(f"{where}: no bytes of an image in the column 'img'")
    try:
        picture = Image.open(io.BytesIO(encoded))
        picture.load()
    except Exception as error:  # a damaged image can fail in any way while it is decoded
        raise UserError(f"{where}: an image that cannot be read ({type(error).__name__})") from error
    return picture
