"""Settings of a data set, `data.*`: where it lies, and how its training images are split and normalised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from harness.config.facts import INTERPOLATIONS, MOST_PIXELS
from harness.config.fields import Declared, chosen, is_url, setting
from harness.errors import UserError

AT_URL = ("shards",)  # data sets whose `root` may be a URL; by name, since a checkpoint's schema is found by its keys
DECODERS = ("fast", "pil")
LABELS = ("original", "real")  # of ImageNet's validation split
VARIANTS = ("matched-frequency", "threshold0.7", "top-images")  # of ImageNet-V2


@dataclass
class DataConfig(Declared):
    """Settings of any data set."""

    group: ClassVar[str] = "data"
    name: str = chosen("data")
    root: str = setting("folder that holds, or will hold, the files", path=True, aliases=("data_dir", "data_path"))
    download: bool = setting("whether missing files may be downloaded")
    validation: int = setting(
        "images taken out of the training split for model selection; 0 trains on all", least=0, aliases=("val_split",)
    )
    mean: list[float] = setting("mean of each channel, on the scale 0 to 1", least=0, most=1)
    std: list[float] = setting("standard deviation of each channel, on the same scale", least=1e-6, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if is_url(self.root):
            self._check_url()
        if len(self.mean) != len(self.std):
            raise UserError(
                f"data.mean has {len(self.mean)} values and data.std has {len(self.std)}: give both one value a channel"
            )

    def _check_url(self) -> None:
        """Raise `UserError` for a URL that cannot be read, or holds what must not stand in a record."""
        scheme, _, rest = self.root.partition("://")
        authority, slash, path = re.split(r"[?#]", rest)[0].partition("/")
        user, at, host = authority.rpartition("@")
        shown = f"data={self.name}: data.root={scheme}://{host}{slash}{path}"
        if self.name not in AT_URL:
            raise UserError(f"{shown}: a URL, and this data set is read from a folder; data=shards reads tars at a URL")
        if re.search(r"[?#]", rest) or (at and (":" in user or scheme.lower() in ("http", "https"))):
            raise UserError(
                f"{shown}: leave out the name, the password and what follows ? or #, which every record would hold; "
                "fsspec finds credentials in ~/.netrc, in variables and in its own configuration"
            )


@dataclass
class ImageFilesConfig(DataConfig):
    """Settings of a data set of image files of any size, which are decoded when they are used."""

    image_size: int = setting(
        "side in pixels of the square images that the network gets",
        least=1,
        most=MOST_PIXELS,
        aliases=("img_size", "input_size", "crop_size"),
    )
    resize: int = setting(
        "pixels of the shorter edge after resizing, before an evaluation crops", least=1, most=MOST_PIXELS
    )
    interpolation: str = setting("interpolation of every resizing; always antialiased", choices=INTERPOLATIONS)
    decoder: str = setting(
        "decoder of image files; pil gives torchvision's pixels bit for bit, fast is quicker", choices=DECODERS
    )
    cache: int | None = setting(
        "shorter edge in pixels of a cache of small pictures that training reads instead of files; null for none",
        None,
        least=1,
        most=MOST_PIXELS,
    )
    downloadable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resize < self.image_size:
            raise UserError(f"data.resize={self.resize}: must be at least data.image_size={self.image_size}")
        if self.cache is not None and self.cache < self.image_size:
            raise UserError(f"data.cache={self.cache}: must be at least data.image_size={self.image_size}")
        if self.download and not self.downloadable and self.name not in AT_URL:
            raise UserError(
                f"data.download=true: this program cannot download {self.name}; put the files into data.root"
            )


@dataclass
class ImageNetConfig(ImageFilesConfig):
    """Settings of ImageNet itself."""

    labels: str = setting(
        "labels of the validation images: original, or real, the sets of labels of Beyer 2020 in data.root/real.json",
        "original",
        choices=LABELS,
    )


@dataclass
class ImageNetV2Config(ImageFilesConfig):
    """Settings of ImageNet-V2."""

    variant: str = setting("which of its three sets", "matched-frequency", choices=VARIANTS)


@dataclass
class FolderConfig(ImageFilesConfig):
    """Settings of own pictures: `root/train/<class>/` and `root/val/<class>/`, or `root/<class>/` to be divided."""

    validation: int = setting(
        "percent of each class's training images that are taken out for model selection",
        least=0,
        most=99,
        aliases=("val_split",),
    )
    test: int = setting(
        "percent of each class of an undivided folder that become the test split; 100 evaluates on all of it",
        least=1,
        most=100,
        aliases=("test_split",),
    )
    split_seed: int = setting("seed of the division into splits", least=0, most=2**63 - 1)
    folds: int | None = setting(
        "number of folds of a cross-validation over an undivided folder; it replaces data.test", least=2
    )
    fold: int = setting("fold that is the test split, counted from 0", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.mean) not in (1, 3):
            raise UserError(
                f"data.mean={self.mean}: give three values for pictures in colour, or one, which makes them grey"
            )
        if self.fold >= (self.folds or 1):
            wanted = "there are no folds; set data.folds" if self.folds is None else f"from 0 to {self.folds - 1}"
            raise UserError(f"data.fold={self.fold}: {wanted}")


@dataclass
class HubSource(Declared):
    """Settings that name a data set of the Hugging Face hub."""

    group: ClassVar[str] = "data"
    repo: str = setting("name of the data set, such as uoft-cs/cifar10")
    revision: str = setting(
        "commit, branch or tag; only a commit pins the files; a copy in the hub's cache comes first"
    )
    subset: str | None = setting("folder of the data set to read if it has several; null for the only one")


@dataclass
class HubConfig(DataConfig, HubSource):
    """Settings of a hub data set with pictures of one size: it is read like `parquet`, and `root` is not used."""


@dataclass
class HubPhotosConfig(FolderConfig, HubSource):
    """Settings of a hub data set with pictures of any size: it is unpacked once under `root` and read like `folder`."""

    downloadable: ClassVar[bool] = True


@dataclass
class ShardsConfig(FolderConfig):
    """Settings of pictures in tars, `root/train-000000.tar` and so on, or `root/000000.tar`, to be divided.

    `root` may be a URL: the tars are fetched once into the user's cache.
    """


DATA_SCHEMAS: dict[str, type[DataConfig]] = {
    "data": DataConfig,
    "image_files": ImageFilesConfig,
    "imagenet": ImageNetConfig,
    "imagenet_v2": ImageNetV2Config,
    "folder": FolderConfig,
    "hub": HubConfig,
    "hub_photos": HubPhotosConfig,
    "shards": ShardsConfig,
}
