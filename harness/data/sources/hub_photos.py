"""data=hub_photos: a data set of the Hugging Face hub whose pictures have any size.

The pictures are unpacked once, to `root/<owner>/<name>/<commit>/`, and then read as `folder` is.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
import sys
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import FileLock

from harness.config.data import DataConfig, HubPhotosConfig
from harness.config.facts import DataSet
from harness.data.images.image_files import ImageFiles
from harness.data.sources import folder, parquet_files
from harness.data.sources.folder import Parts
from harness.data.sources.hub_cache import commit, find_files
from harness.data.sources.parquet_files import Files
from harness.data.sources.splits import Splits
from harness.errors import UserError
from harness.run.printable import say

FOLDERS = {"train": "train", "validation": "val", "test": "test"}  # a split's, as `folder` knows them


def describe(config: DataConfig) -> DataSet:
    """Facts of the pictures; unpacks them if that was not done yet.

    Raises:
        UserError: files that are missing or damaged, or cannot be downloaded.
    """
    return folder.facts_of(divide(config), config)


def load(config: DataConfig) -> Splits:
    """All splits; raises as `describe` does, and if no image is left to train on."""
    return folder.splits_of(divide(config), config)


def load_test(config: DataConfig) -> ImageFiles:
    """The test split alone; raises as `describe` does."""
    return folder.test_of(divide(config))


def as_viewed(config: DataConfig) -> bool:
    """Whether the pictures are decoded as a viewer shows them."""
    return True


def divide(config: DataConfig) -> Parts:
    """The splits of the unpacked pictures."""
    assert isinstance(config, HubPhotosConfig)
    parts = folder.divide(unpacked(config))
    return parts._replace(class_names=tuple(map(class_name, parts.class_names)))


def unpacked(config: HubPhotosConfig) -> HubPhotosConfig:
    """The same config with the folder of the pictures as its root; unpacks them if that was not done yet.

    A row's bytes become a file as they are, named after the row's number; a class's folder is called like the class,
    what cannot stand in the name of a file written as in a URL, `T-shirt%2Ftop`.

    Raises:
        UserError: files that are missing or damaged, or a disk that is full.
    """
    folder = Path(config.root, *config.repo.split("/"), "-".join(filter(None, (commit(config), config.subset))))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):  # other processes of this run, or of another
            if not folder.is_dir():
                _unpack(find_files(config), folder)
    except OSError as error:
        raise UserError(f"{folder}: pictures cannot be unpacked there ({error.strerror or error})") from error
    return dataclasses.replace(config, root=str(folder))


def _unpack(files: Files, folder: Path) -> None:
    """Write every picture of every split into a file of its own; all of them, or no folder."""
    unlabelled = [split for split, paths in files.items() if not parquet_files.is_labelled(paths)]
    files = {split: paths for split, paths in files.items() if split not in unlabelled}
    class_names = parquet_files.class_names(files)
    classes = [_folder_name(name) for name in class_names]
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    say(f"unpacking the pictures to {folder}", sys.stderr)
    for split in unlabelled:
        say(f"no image of {split} has a label: it is left out", sys.stderr)
    try:
        for split, paths in files.items():
            place = partial / FOLDERS[split] if len(files) > 1 else partial  # which is then divided
            for name in classes:
                (place / name).mkdir(parents=True)
            for number, (_, encoded, label) in enumerate(parquet_files.rows(paths, class_names)):
                (place / classes[label] / f"{number:07d}{_extension(encoded)}").write_bytes(encoded)
            for name in classes:
                if not any((place / name).iterdir()):
                    (place / name).rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def class_name(folder_name: str) -> str:
    """The class whose pictures lie in a folder of this name."""
    return unquote(folder_name)


def _folder_name(class_name: str) -> str:
    name = "".join(c if c.isprintable() and c not in "/\\%" else quote(c, safe="") for c in class_name)
    return f"%2E{name[1:]}" if name.startswith(".") else name  # a folder that begins with a dot is hidden


def _extension(encoded: bytes) -> str:
    """The ending of a file's name, by its content; `.jpg` for what is no picture, as reading it will tell."""
    from PIL import Image

    try:
        kind = str(Image.open(io.BytesIO(encoded)).format)
    except Exception:  # a damaged image can fail in any way
        kind = "JPEG"
    return {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}.get(kind, f".{kind.lower()}")
