"""The pictures of a record, found again where its data lie: only if they are the very images that were evaluated."""

from __future__ import annotations

import dataclasses
import io
import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote_from_bytes

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness.comparison.answers import Answers
from harness.config.compose import compose_groups, schema_of
from harness.config.data import DATA_SCHEMAS, DataConfig
from harness.config.files import CONFIG_FILE
from harness.config.plain import made
from harness.config.plain_yaml import read_yaml
from harness.data.images.decode import ORIENTATION, decode, read
from harness.data.images.folder import Place
from harness.data.images.image_files import ImageFiles
from harness.data.images.opening import UnreadableError, formats
from harness.data.sources.splits import Split, relabelled
from harness.data.sources.table import describe, load_test
from harness.errors import UserError
from harness.evaluation.plausibility import match_classes

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a record, or none of them.

    Attributes:
        splits: of images, one behind the other.
        note: why there are no pictures; empty if there are.
    """

    splits: tuple[Split, ...] = ()
    note: str = ""
    _at: dict[str, tuple[Split, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in self.splits:
            self._at.update((image, (split, index)) for index, image in enumerate(split.ids))

    def pixels(self, image: str) -> Pixels | None:
        """Pixels (H, W) or (H, W, 3) of an image, by its id; None for one that cannot be read."""
        if image not in self._at:
            return None
        return pixels_of(*self._at[image])

    def path(self, image: str) -> bytes | None:
        """Where the file of an image lies, an absolute path; None if it has no file of its own."""
        split, index = self._at.get(image, (None, 0))
        place = split.place(index) if isinstance(split, ImageFiles) else None
        return os.path.abspath(place) if isinstance(place, bytes) else None  # noqa: PTH100  # bytes

    def link(self, image: str) -> str | None:
        """The address of that file, which a browser opens."""
        path = self.path(image)
        return None if path is None else f"file://{quote_from_bytes(path)}"

    def sizes(self, images: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """Widths and heights (N, 2) in pixels, from the files' heads; not a number where they cannot be read.

        None where there are no pictures, or all have one size because their source says so.
        """
        if not self.splits or not all(isinstance(split, ImageFiles) for split in self.splits):
            return None
        found = np.full((len(images), 2), np.nan)
        for row, image in enumerate(images):
            split, index = self._at[image]
            if isinstance(split, ImageFiles) and (size := size_in_head(split.place(index), split.as_viewed)):
                found[row] = size
        return found


def pixels_of(split: Split, index: int) -> Pixels | None:
    """Pixels (H, W) or (H, W, 3) of one image of a split; None for one that cannot be read."""
    if isinstance(split, ImageFiles):
        try:
            return decode(read(split.place(index)), "fast", split.as_viewed)
        except UnreadableError:
            return None
    pixels: Pixels = split.images[index].permute(1, 2, 0).contiguous().numpy()
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def size_in_head(place: Place, as_viewed: bool) -> tuple[int, int] | None:
    """Width and height of a picture, without its pixels; None for a file that is no picture."""
    try:
        with _opened(place) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats()) as image:
                width, height = image.size
                turned = as_viewed and image.format == "JPEG" and image.getexif().get(ORIENTATION, 1) >= 5
    except Exception:  # a damaged file can fail in any way while it is parsed
        return None
    return (height, width) if turned else (width, height)


def _opened(place: Place) -> IO[bytes]:
    """An image, to read its head alone; of a tar all of it, which is one read.

    Raises:
        OSError: there is no such file.
        UnreadableError: it is no file, or cannot be read.
    """
    if not isinstance(place, bytes):
        return io.BytesIO(read(place))
    file = open(os.open(place, os.O_RDONLY | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115  # a pipe must not hold it up
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise UnreadableError("not a file")


def find_pictures(answers: Sequence[Answers], root: Path | None) -> Pictures:
    """Find the pictures of one record, or of all folds of a cross-validation.

    Args:
        answers: of each.
        root: folder of the data, where the user names it.

    Raises:
        UserError: the user named a folder, and it has other pictures.
    """
    splits = []
    for one in answers:
        try:
            splits.append(_checked(one, settings_of_data(one, root)))
        except (UserError, OSError) as error:
            if root is not None:
                raise
            return Pictures(note=f"the pictures are not shown: {error}; if they have moved, --root says where they are")
    return Pictures(tuple(splits))


def _checked(answers: Answers, data: DataConfig) -> Split:
    """The test split that the settings name, if it is the one that the record was made on."""
    split = load_test(data)
    classes = match_classes(describe(data).class_names, answers.class_names, data.name, "the record", True)
    split = relabelled(split, classes)
    recorded = answers.content["data"]["fingerprint"]
    if len(split) != len(answers) or split.fingerprint() != recorded:
        raise UserError(
            f"{data.root}: holds other images of {data.name} than those of {answers.record.path} ({len(split):,} and "
            f"{len(answers):,} images, or other names, labels or sizes)"
        )
    return split


def settings_of_data(answers: Answers, root: Path | None = None) -> DataConfig:
    """Settings of the data that a record was made on.

    They stand in the `config.yaml` beside the record, or in that of the run that was evaluated, or in the record; what
    is in none of them is as `configs/data` has it. Nothing is ever downloaded.

    Raises:
        UserError: nothing says what the data are.
    """
    content, folder = answers.content, answers.record.path.parent
    name = str(content["data"]["name"])
    plain = _in_config(folder / CONFIG_FILE, name) or content.get("training_data")
    try:
        if isinstance(plain, dict) and plain.get("name") == name:
            if "root" not in plain:
                plain = {**plain, "root": _default(name).root, "download": False}
            data: DataConfig = made(schema_of(plain, DATA_SCHEMAS.values()), plain)
        else:
            data = _default(name)
    except (LookupError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: its settings of the data are damaged ({error})") from error
    return dataclasses.replace(data, download=False, root=data.root if root is None else str(root))


def _in_config(path: Path, name: str, deep: int = 1) -> dict[str, Any] | None:
    """The settings of these data in a `config.yaml`, or in the one of the run that it evaluates."""
    plain = read_yaml(path) if path.is_file() else None
    if not isinstance(plain, dict):
        return None
    data = plain.get("data")
    if isinstance(data, dict) and data.get("name") == name:
        return data
    place = plain.get("run") or plain.get("checkpoint")
    if not isinstance(place, str) or not deep:
        return None
    run = Path(place) if plain.get("run") else Path(place).parent.parent
    return _in_config(run / CONFIG_FILE, name, deep - 1)


def _default(name: str) -> DataConfig:
    (data,) = compose_groups("eval", [f"data={name}"], "data")
    assert isinstance(data, DataConfig)
    return data
