"""data=folder: a user's own pictures, one folder a class: divided as they lie, or by a rule that is fixed.

Either `root/train/<class>/` and `root/val/<class>/`, which is reported on; with a `root/test/<class>/` beside them,
that is, and `val` is for model selection. `SPLITS` has the other names that people give these folders. Without `train`
they can be reported on, and nothing is left to train on. Or `root/<class>/` alone: within every class the images are
ordered by a hash of their names, and the first ones are the test split, or those of one fold; with `data.test=100` all
of them are reported on, and nothing is left to train on. A class is its name, in every folder, in Unicode's form NFC:
some programs write an accent as a character of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.config.data import DataConfig, FolderConfig
from harness.config.facts import DataSet
from harness.data.images.folder import EXTENSIONS, Folder, index_folder, printable
from harness.data.images.image_files import ImageFiles
from harness.data.sources.splits import Splits
from harness.errors import UserError
from harness.run.log import log

SPLITS = {  # what people call their folders
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """One split.

    Attributes:
        folder: an index of images.
        positions: int64 (N,), which of them.
        labels: int64 (N,), positions in the class names.
        prefix: begins every image's id.
    """

    folder: Folder
    positions: Integers
    labels: Integers
    prefix: str

    def __len__(self) -> int:
        return len(self.positions)

    def where(self, chosen: Mask) -> Part:
        """The images at which the mask, bool (N,), is true."""
        return Part(self.folder, self.positions[chosen], self.labels[chosen], self.prefix)

    def sizes(self) -> Iterator[tuple[bytes, int]]:
        """Name of each image, and its size in bytes."""
        for position in self.positions.tolist():
            yield self.folder.name(position), self.folder.size(position)


class Parts(NamedTuple):
    """All splits.

    Attributes:
        class_names: in label order.
        train: images to train on.
        validation: images for model selection.
        test: images that are reported on.
        passed_over: a line about each folder of a split that is not used.
    """

    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    passed_over: tuple[str, ...] = ()


def describe(config: DataConfig) -> DataSet:
    """Facts of the pictures.

    Raises:
        UserError: a folder that is missing or not laid out as above, fewer than two classes, a class without images.
    """
    return facts_of(divide(config), config)


def load(config: DataConfig) -> Splits:
    """All splits; raises as `describe` does, and if no image is left to train on."""
    return splits_of(divide(config), config)


def load_test(config: DataConfig) -> ImageFiles:
    """The test split alone; raises as `describe` does."""
    return test_of(divide(config))


def facts_of(parts: Parts, config: DataConfig) -> DataSet:
    """Facts of pictures that were divided already."""
    train = len(parts.train) + len(parts.validation)
    return DataSet(None, None, len(config.mean), parts.class_names, train, len(parts.test))


def splits_of(parts: Parts, config: DataConfig) -> Splits:
    """The splits of pictures that were divided already.

    Raises:
        UserError: no image is left to train on.
    """
    assert isinstance(config, FolderConfig)
    if not len(parts.train):
        raise UserError(f"data.test={config.test} data.root={config.root}: no image is left to train on")
    _warn(parts)
    return Splits(_unread(parts.train), _unread(parts.validation), _unread(parts.test))


def test_of(parts: Parts) -> ImageFiles:
    """The test split alone of pictures that were divided already."""
    _warn(parts)
    return _unread(parts.test)


def _warn(parts: Parts) -> None:
    for line in parts.passed_over:
        log.warning(line)


def _unread(part: Part) -> ImageFiles:
    """The images of a part, which are decoded as any viewer shows them."""
    return ImageFiles.labelled(part.folder, part.positions, part.labels, part.prefix, as_viewed=True)


def fold_recorded(config: FolderConfig, parts: Parts) -> dict[str, object]:
    """What a record says of a fold: which one, and a SHA-256 that all folds of the same images have in common."""
    digest = hashlib.sha256(b"%d" % config.split_seed)
    for name, size in sorted(file for part in (parts.train, parts.validation, parts.test) for file in part.sizes()):
        digest.update(b"%d %d:%s" % (size, len(name), name))
    return {"folds": config.folds, "fold": config.fold, "division": digest.hexdigest()}


def as_viewed(config: DataConfig) -> bool:
    """Whether the pictures are decoded as a viewer shows them."""
    return True


def divide(config: DataConfig) -> Parts:
    """The splits of the folder that the config names; raises as `describe` does."""
    assert isinstance(config, FolderConfig)
    root = Path(config.root)
    if not root.is_dir():
        what = "is no folder" if root.exists() else "there is no such folder"
        raise UserError(f"data={config.name}: data.root={root}: {what}; name the one with your pictures")
    splits = _splits(root)
    if "train" in splits:
        return _as_they_lie(config, root, splits)
    reported = splits.get("test") or splits.get("val")
    if reported:
        return _to_report_on(reported, f"{config.name}/{reported.name}")
    if config.test == 100 and config.folds is None:
        return _to_report_on(root, config.name)
    return by_rule(config, *_training(root, config.name))


def by_rule(config: FolderConfig, whole: Part, class_names: tuple[str, ...]) -> Parts:
    """The splits of images that nobody has divided.

    Raises:
        UserError: too few images of a class.
    """
    keys = _keys(whole.folder, config.split_seed)
    if config.folds is not None:
        tested = _fold(whole.labels, keys, config.folds, config.fold, class_names)
    else:
        tested = _first(whole.labels, keys, config.test)
    if not tested.any():
        raise UserError(f"data={config.name}: data.root={config.root}: no class has two images, one of them to test on")
    held = np.zeros_like(tested)
    held[~tested] = _first(whole.labels[~tested], keys[~tested], config.validation)
    return Parts(class_names, whole.where(~tested & ~held), whole.where(held), whole.where(tested))


def _splits(root: Path) -> dict[str, Path]:
    """The folders under `root` that are called like a split and hold folders, by the names `train`, `val` and `test`.

    The last two are left out where none of these folders has a picture.

    Raises:
        UserError: two of them are the same split.
    """
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        name = next((split for split, names in SPLITS.items() if folder.name.casefold() in names), None)
        wanted = folder.glob("*/" if name == "train" else "*/**/*.*")
        if name is not None and any(name == "train" or path.suffix.lower() in EXTENSIONS for path in wanted):
            other = found.setdefault(name, folder)
            if other is not folder:
                raise UserError(f"{root}: {other.name} and {folder.name} are the same split; make them one folder")
    return found


def _as_they_lie(config: FolderConfig, root: Path, splits: dict[str, Path]) -> Parts:
    check_folds(config, [path.name for path in splits.values()])
    train, class_names = _training(splits["train"], f"{config.name}/{splits['train'].name}")
    others = {
        name: _others(path, f"{config.name}/{path.name}", class_names)
        for name, path in splits.items()
        if name != "train"
    }
    unused = sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and path.name.casefold() in (*SPLITS["val"], *SPLITS["test"]) and path not in splits.values()
    )
    passed_over = tuple(f"{path}: it has no pictures in folders of classes, and is passed over" for path in unused)
    if not others:
        trained = splits["train"]
        raise UserError(
            f"data={config.name}: data.root={root} has a folder {trained.name} and no val; put pictures to report on "
            f"there, or let {trained.name} be divided: data.root={trained}"
        )
    return as_given(config, class_names, train, others)._replace(passed_over=passed_over)


def check_folds(config: FolderConfig, splits: Sequence[str]) -> None:
    """Refuse folds of images that are divided already, into splits of these names."""
    if config.folds is not None:
        names = " and ".join(splits)
        raise UserError(
            f"data.folds={config.folds}: {config.root} is divided into {names} already; folds are of one whole"
        )


def as_given(config: FolderConfig, class_names: tuple[str, ...], train: Part, others: dict[str, Part]) -> Parts:
    """The splits of images that were divided by whoever made them; `others` are `val`, `test`, or both."""
    if len(others) == 2:
        return Parts(class_names, train, others["val"], others["test"])
    (reported,) = others.values()
    held = _first(train.labels, _keys(train.folder, config.split_seed), config.validation)
    return Parts(class_names, train.where(~held), train.where(held), reported)


def _to_report_on(root: Path, prefix: str) -> Parts:
    return to_report_on(_of_classes(root), prefix)


def to_report_on(folder: Folder, prefix: str) -> Parts:
    """All images of a folder that is not trained on; its classes may be any of a network's."""
    used, labels = np.unique(folder.label, return_inverse=True)  # a class without images is none of the data's
    whole = Part(folder, np.arange(len(folder)), labels.astype(np.int64), prefix)
    none = whole.where(np.zeros(len(folder), dtype=np.bool_))
    return Parts(tuple(folder.classes[label] for label in used), none, none, whole)


def _training(root: Path, prefix: str) -> tuple[Part, tuple[str, ...]]:
    """All images of a folder that is trained on, and its classes."""
    folder = _of_classes(root)
    if {name.casefold() for name in folder.classes} <= {name for names in SPLITS.values() for name in names}:
        raise UserError(
            f"{root}: its folders are called like splits ({', '.join(folder.classes)}), not like classes; call them "
            "train and val, and a third one test, with a folder a class in each"
        )
    images = np.bincount(folder.label, minlength=len(folder.classes))
    empty = [name for name, count in zip(folder.classes, images, strict=True) if not count]
    if empty:
        raise UserError(
            f"{root}: no image in the folder of the class {empty[0]!r}; put some there, or take it away; names of "
            f"images end in {' '.join(EXTENSIONS)}"
        )
    if len(folder.classes) == 1:
        raise UserError(f"{root}: one class, {folder.classes[0]!r}: there is nothing to tell it from")
    return Part(folder, np.arange(len(folder)), folder.label.astype(np.int64), prefix), folder.classes


def _others(root: Path, prefix: str, class_names: tuple[str, ...]) -> Part:
    """All images of another folder, labelled by the names of its classes."""
    folder = _of_classes(root)
    order = {name: label for label, name in enumerate(class_names)}
    used = [folder.classes[label] for label in np.unique(folder.label)]
    unknown = [name for name in used if name not in order]
    if unknown:
        raise UserError(
            f"{root}: its class {unknown[0]!r} is none of the {len(class_names)} of {root.parent / 'train'}: "
            f"{', '.join(class_names[:5])}{', ...' if len(class_names) > 5 else ''}"
        )
    labels = np.array([order.get(name, -1) for name in folder.classes], dtype=np.int64)[folder.label]
    return Part(folder, np.arange(len(folder)), labels, prefix)


def _of_classes(root: Path) -> Folder:
    folder = index_folder(root)
    if not folder.classes:
        raise UserError(f"{root}: images without folders; put them into one folder a class: {root}/CLASS/IMAGE")
    stray = np.flatnonzero(folder.label < 0)
    if len(stray):
        name = printable(folder.name(int(stray[0])))
        raise UserError(f"{root}: images lie beside the folders of classes ({name}); put each into its class's")
    return _composed(folder)


@functools.lru_cache(maxsize=8)
def _composed(folder: Folder) -> Folder:
    """The same folder, its classes' names in Unicode's form NFC; the same object for the same folder."""
    class_names = tuple(unicodedata.normalize("NFC", name) for name in folder.classes)
    if len(set(class_names)) < len(class_names):
        twice = next(name for name in class_names if class_names.count(name) > 1)
        raise UserError(
            f"{folder.root}: two folders are called {twice!r}, their accents written differently; make them one"
        )
    return dataclasses.replace(folder, classes=class_names)


@functools.lru_cache(maxsize=8)
def _keys(folder: Folder, seed: int) -> npt.NDArray[np.uint64]:
    """A number for every image, of its name alone: another image changes nobody's."""
    digests = b"".join(hashlib.sha256(b"%d:%s" % (seed, name)).digest()[:8] for name in folder.every_name())
    return np.frombuffer(digests, dtype=np.uint64)


def _ranks(labels: Integers, keys: npt.NDArray[np.uint64]) -> tuple[Integers, Integers, Integers]:
    """Each image's rank by key within its class; how many images its class has, and how many all classes before it."""
    counts = np.bincount(labels)
    before = counts.cumsum() - counts
    order = np.lexsort((keys, labels))
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - before[labels[order]]
    return ranks, counts[labels], before[labels]


def _first(labels: Integers, keys: npt.NDArray[np.uint64], percent: int) -> Mask:
    """A mask of so many percent of every class: at least one image, if it is above 0, and never all."""
    ranks, images, _ = _ranks(labels, keys)
    wanted = np.maximum(np.rint(percent / 100 * images), percent > 0)
    mask: Mask = ranks < np.minimum(wanted, images - 1)
    return mask


def _fold(labels: Integers, keys: npt.NDArray[np.uint64], folds: int, fold: int, class_names: tuple[str, ...]) -> Mask:
    """A mask of one fold; the folds are as equal in size as can be, and hold every class in proportion."""
    ranks, images, before = _ranks(labels, keys)
    smallest = int(images.min())
    if smallest < folds:
        name = class_names[int(labels[images.argmin()])]
        raise UserError(f"data.folds={folds}: the class {name!r} has {smallest} images, too few for one in every fold")
    mask: Mask = (ranks + before) % folds == fold
    return mask
