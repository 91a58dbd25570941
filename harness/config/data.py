"""Settings of a data set, `data.*`: where it lies, and how its training images are split and normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.config.fields import Declared, chosen, setting
from harness.errors import UserError

DECODERS = ("fast", "pil")
INTERPOLATIONS = ("bilinear", "bicubic")
MOST_PIXELS = 8192  # of a side


@dataclass
class DataConfig(Declared):
    """A data set."""

    group: ClassVar[str] = "data"
    name: str = chosen("data")
    root: str = setting("folder that holds, or will hold, the files", path=True, aliases=("data_dir", "data_path"))
    download: bool = setting("whether missing files may be downloaded")
    validation: int = setting(
        "images taken out of the training split for model selection; 0 trains on all", least=0, aliases=("val_split",)
    )
    mean: list[float] = setting("of each channel, on the scale 0 to 1", least=0, most=1)
    std: list[float] = setting("standard deviation of each channel, on the same scale", least=1e-6, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.mean) != len(self.std):
            raise UserError(f"data.mean has {len(self.mean)} channels and data.std {len(self.std)}: give one each")


@dataclass
class ImageFilesConfig(DataConfig):
    """A data set whose images are files of any size, decoded when they are used."""

    image_size: int = setting(
        "side in pixels of the square that a network trained here sees",
        least=1,
        most=MOST_PIXELS,
        aliases=("img_size", "input_size", "crop_size"),
    )
    resize: int = setting(
        "side in pixels that the shorter edge is resized to before an evaluation's crops", least=1, most=MOST_PIXELS
    )
    interpolation: str = setting("of every resizing, which is always antialiased", choices=INTERPOLATIONS)
    decoder: str = setting("fast, or pil, which gives torchvision's pixels bit for bit", choices=DECODERS)
    downloadable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resize < self.image_size:
            raise UserError(f"data.resize={self.resize}: must be at least data.image_size={self.image_size}")
        if self.download and not self.downloadable:
            raise UserError(f"data.download=true: {self.name} cannot be downloaded; see data.root")


@dataclass
class FolderConfig(ImageFilesConfig):
    """A user's own pictures: `root/train/<class>/` and `root/val/<class>/`, or `root/<class>/`, which is divided."""

    validation: int = setting(
        "percent of every class's training images that are taken out for model selection",
        least=0,
        most=99,
        aliases=("val_split",),
    )
    test: int = setting(
        "percent of every class of an undivided folder that are reported on; 100 evaluates on all of it",
        least=1,
        most=100,
        aliases=("test_split",),
    )
    split_seed: int = setting("of the division", least=0, most=2**63 - 1)
    folds: int | None = setting("of a cross-validation over an undivided folder, in place of test", least=2)
    fold: int = setting("the one that is reported on, counted from 0", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.mean) not in (1, 3):
            raise UserError(f"data.mean={self.mean}: give three values for pictures in colour; one makes them grey")
        if self.fold >= (self.folds or 1):
            has = "there are no folds; set data.folds" if self.folds is None else f"from 0 to {self.folds - 1}"
            raise UserError(f"data.fold={self.fold}: {has}")


@dataclass
class HubSource(Declared):
    """Which data set of the Hugging Face hub."""

    group: ClassVar[str] = "data"
    repo: str = setting("name of the data set, such as uoft-cs/cifar10")
    revision: str = setting("a commit, which pins it, a branch or a tag; a copy in the hub's cache comes first")
    subset: str | None = setting("folder of its files, where it has several; null for the only one")


@dataclass
class HubConfig(DataConfig, HubSource):
    """A data set of the hub whose pictures have one size: it is read like `parquet`, and `root` is not used."""


@dataclass
class HubPhotosConfig(FolderConfig, HubSource):
    """A data set of the hub whose pictures have any size: unpacked once under `root`, and read like `folder`."""

    downloadable: ClassVar[bool] = True


DATA_SCHEMAS: dict[str, type[DataConfig]] = {
    "data": DataConfig,
    "image_files": ImageFilesConfig,
    "folder": FolderConfig,
    "hub": HubConfig,
    "hub_photos": HubPhotosConfig,
}
