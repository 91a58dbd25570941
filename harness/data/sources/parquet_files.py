"""Pictures in parquet files: a column of encoded images (or structs with their `bytes`) and one of integer labels.

The columns are the first of `IMAGE_COLUMNS` and of `LABEL_COLUMNS` that a file has. A file belongs to the split that
its name begins with, or that its folder is called; the files of a split are read in order of their paths, and all of
them must be there: `train-00000-of-00003` says how many. Class names are read from the Hugging Face metadata of the
schema; without it they are numbers. Every file has an order of its own: that of the first training file holds for all,
and the labels of the others are matched by name. Nothing here loads torch.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.config.facts import DataSet
from harness.data.images.opening import UnreadableError, mode_of, open_whole
from harness.errors import UserError
from harness.run.log import log

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")
CHANNELS = {"L": 1, "RGB": 3}
SPLITS = {"train": ("train",), "test": ("test",), "validation": ("val", "dev")}  # beginnings of their files' names
NUMBERED = re.compile(r"(?P<set>.*?)(?P<number>\d+)[-_]of[-_](?P<total>\d+)(-[0-9a-f]+)?")  # the hub's older: a hash
MOST_CLASSES = 100_000  # ImageNet as a whole has 21,841
BATCH = 256  # rows at a time: photographs have a hundred kilobytes each

Files = Mapping[str, Sequence[Path]]  # of each split


class Row(NamedTuple):
    """One picture: where it stands, its bytes, and its label, a position in the class names that were asked for."""

    where: str
    encoded: bytes
    label: int


def find_files(root: Path, where: str, subset: str | None = None, cached: bool = False) -> dict[str, list[Path]]:
    """The files of `train`, `test` and `validation` under a folder, of those splits that it has.

    Args:
        root: the folder.
        where: it came from, for a message, such as `data=parquet data.root=photos`.
        subset: the folder inside it that holds them; None: those that lie in `root`, or else in its only subset.
        cached: whether it is the hub's cache, which downloads again what is deleted.

    Raises:
        UserError: no files of any split, several subsets with some, not the one that was chosen, or a split whose file
            names say that it is not whole.
    """
    subsets: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(root.rglob("*.parquet")):
        folders = path.relative_to(root).parts[:-1]
        split = _split(path.stem) or (_split(folders[-1]) if folders else None)
        if folders and _split(folders[-1]) == split:
            folders = folders[:-1]
        if split is not None:
            subsets.setdefault("/".join(folders), {}).setdefault(split, []).append(path)
    whole = {name: files for name, files in subsets.items() if "train" in files} or subsets
    if subset is None and "" not in whole and len(whole) > 1:
        raise UserError(f"{where}: it holds several sets of pictures, {', '.join(whole)}: choose one")
    chosen = subset or ("" if "" in whole else next(iter(whole), ""))
    if chosen not in whole:
        named = f" under {chosen}, but under {', '.join(whole) or 'nothing else'}" if chosen else ""
        raise UserError(f"{where}: no train*.parquet in it{named}; it should hold train*.parquet and test*.parquet")
    for paths in whole[chosen].values():
        _check_complete(paths, where, cached)
    return whole[chosen]


def _check_complete(paths: Sequence[Path], where: str, cached: bool) -> None:
    """Refuse files of a split whose names, such as `train-00000-of-00003`, say that some are missing or of two sets."""
    names = {path: NUMBERED.fullmatch(path.stem) for path in paths}
    if not any(names.values()):
        return
    sets: dict[object, Path] = {}
    numbers: dict[int, Path] = {}
    total = 0
    for path, name in names.items():
        sets.setdefault(name and (name["set"], int(name["total"])), path)
        twin = numbers.setdefault(int(name["number"]), path) if name else path
        if len(sets) > 1 or twin is not path:
            other = next(iter(sets.values())) if len(sets) > 1 else twin
            raise UserError(f"{where}: {other} and {path} cannot both be of one split; take one of them away")
        total = int(name["total"]) if name else total
    if len(numbers) != total or max(numbers) - min(numbers) != total - 1 or min(numbers) > 1:  # some count from 1
        place = "the hub's cache" if cached else str(paths[0].parent)
        again = f"a download that was cut short; delete {paths[0].parent}, so that it starts again"
        raise UserError(
            f"{where}: {place} holds {len(paths)} of {total} files like {paths[0].name}: "
            f"{again if cached else 'put the others beside it'}"
        )


def _split(name: str) -> str | None:
    return next((split for split, beginnings in SPLITS.items() if name.startswith(beginnings)), None)


def reported(files: Files, where: str) -> Sequence[Path]:
    """The files of the split that is reported on: `test`, or `validation` where there is none with labels.

    Raises:
        UserError: neither is there, or neither has labels.
    """
    there = [split for split in ("test", "validation") if files.get(split)]
    if not there:
        raise UserError(f"{where}: no test*.parquet, nor validation*.parquet in its place, to report on")
    split = next((split for split in there if is_labelled(files[split])), None)
    if split is None:
        raise UserError(f"{where}: no image of {' or '.join(there)} has a label, so there is none to report on")
    return files[split]


def warn_of_unlabelled(files: Files, where: str) -> None:
    """Say that `validation` is reported on, where no image of `test` has a label."""
    if files.get("test") and reported(files, where) != files["test"]:
        log.warning(f"{where}: no image of test has a label, so validation is reported on")


def is_labelled(paths: Sequence[Path]) -> bool:
    """Whether any image of a split has a label, those of competitions being -1 or empty; true without images."""
    labels = [label for path in paths for label in _values(path, LABEL_COLUMNS)]
    return not labels or any(label not in (None, -1) for label in labels)


def describe(files: Files, where: str) -> DataSet:
    """Facts of the files, of the size that the first image of the test split has, in colour if any image is.

    Raises:
        UserError: files that are missing, damaged or without the two columns, an image that is not square, or files
            whose labels cannot be matched.
    """
    counted = {"train": files.get("train", ()), "test": reported(files, where)}
    train, test = (sum(_open(path).metadata.num_rows for path in paths) for paths in counted.values())
    first = counted["test"][0]
    encoded = next((value for value in _values(first, IMAGE_COLUMNS)), None)
    if encoded is None:
        raise UserError(f"{first}: it holds no image")
    picture = _decode(_bytes(encoded, f"{first}: row 0"), f"{first}: row 0")
    if picture.width != picture.height:
        raise _of_many_sizes(f"{first}: row 0", picture, f"{picture.height} x {picture.height}")
    classes = class_names(files)
    paths = (*counted["test"], *counted["train"])
    channels = _channels(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths))
    return DataSet(picture.height, None, channels, classes, train, test)


@functools.lru_cache(maxsize=8)
def _channels(files: Sequence[tuple[Path, int, int]]) -> int:
    """Three if any image of the files is in colour, which is known by path, size and time of change; one otherwise."""
    for path, *_ in files:
        for row, encoded in enumerate(_values(path, IMAGE_COLUMNS)):
            where = f"{path}: row {row}"
            try:
                mode = mode_of(_bytes(encoded, where))
            except UnreadableError as error:
                raise _unreadable(where, error) from error
            if CHANNELS.get(mode, 3) == 3:
                return 3
    return 1


def class_names(files: Files) -> tuple[str, ...]:
    """The names of the classes, in the label order of the first file, of `train` if there is any; else numbers.

    Raises:
        UserError: files that are damaged or without the two columns, or one that names a class that the first does not
            know, or names none where others do, so that nothing says what its labels are.
    """
    first, *others = (path for split in sorted(files, key=lambda split: split != "train") for path in files[split])
    names = _class_names(first)
    for path in others:
        own = _class_names(path)
        if names is None or own is None:
            _check_numbers(first, path, named=[names, own])
        else:
            _check_names(first, path, names, own)
    if names is not None:
        return names
    labels = (label for paths in files.values() for path in paths for label in _values(path, LABEL_COLUMNS))
    highest = max((label for label in labels if label is not None), default=-1)
    if highest >= MOST_CLASSES:
        raise UserError(
            f"{first}: its split has a label of {highest:,}, and {MOST_CLASSES:,} classes are the most: count them "
            "from 0, or write their names beside them"
        )
    return tuple(str(label) for label in range(highest + 1))


def _check_names(first: Path, path: Path, names: tuple[str, ...], own: tuple[str, ...]) -> None:
    """Refuse a file with a class that the first training file does not know; it may have fewer, in any order."""
    unknown = [name for name in own if name not in names]
    if unknown:
        raise UserError(
            f"{path}: its class {unknown[0]!r} is none of the {len(names)} of {first}: {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}"
        )


def _check_numbers(first: Path, path: Path, named: Sequence[tuple[str, ...] | None]) -> None:
    """Refuse two files of which one names its classes, or whose labels are of columns with different names."""
    if any(named):
        silent, other = (first, path) if named[0] is None else (path, first)
        raise UserError(
            f"{silent}: it does not say the names of its classes, as {other} does, so its labels may be in another "
            "order; write both in the same way"
        )
    ours, theirs = (_column(_open(file), LABEL_COLUMNS, file) for file in (first, path))
    if ours != theirs:
        raise UserError(f"{path}: its labels are called {theirs!r}, those of {first} {ours!r}; rename one of them")


def read(paths: Sequence[Path], facts: DataSet) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """One split: images (N, C, H, W), all of the size and colours that the facts say, and labels (N,).

    Raises:
        UserError: files that are missing or damaged, a label without a class, or an image that cannot be read or has
            another size.
    """
    size, channels = facts.image_size, facts.channels
    assert size is not None, "pictures of parquet files have one size"
    mode = {count: name for name, count in CHANNELS.items()}[channels]
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for where, encoded, label in rows(paths, facts.class_names):
        picture = _decode(encoded, where)
        if picture.size != (size, size):
            raise _of_many_sizes(where, picture, f"{size} x {size}")
        images.append(np.asarray(picture.convert(mode), dtype=np.uint8).reshape(size, size, channels))
        labels.append(label)
    if not images:
        raise UserError(f"{paths[0]}: it holds no image, nor do the other files of its split")
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)), np.array(labels, dtype=np.int64)


def rows(paths: Sequence[Path], class_names: Sequence[str]) -> Iterator[Row]:
    """Every picture of the files, in order.

    Args:
        paths: of the files.
        class_names: of all splits, as the function of this name gives them; the files may have them in other orders.

    Raises:
        UserError: files that are missing or damaged, or a row without the bytes of an image or the label of a class.
    """
    position = {name: label for label, name in enumerate(class_names)}
    for path in paths:
        own = _class_names(path)
        classes = range(len(class_names)) if own is None else [position[name] for name in own]
        both = zip(_values(path, IMAGE_COLUMNS), _values(path, LABEL_COLUMNS), strict=True)
        for row, (encoded, label) in enumerate(both):
            where = f"{path}: row {row}"
            image = _bytes(encoded, where)
            if label is None or not 0 <= label < len(classes):
                raise UserError(f"{where}: label {label} is none of the {len(classes)} classes")
            yield Row(where, image, classes[label])


def _of_many_sizes(where: str, picture: Image, size: str) -> UserError:
    return UserError(
        f"{where}: an image of {picture.width} x {picture.height} pixels among those of {size}; data=parquet and "
        "data=hub take square images of one size, data=hub_photos takes any"
    )


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, types
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError("data=parquet and data=hub need pyarrow: pip install 'cnn-zoo[hub]'") from error
    try:
        file = ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged, or not a parquet file ({type(error).__name__})") from error
    _column(file, IMAGE_COLUMNS, path)
    label = _column(file, LABEL_COLUMNS, path)
    if not (types.is_integer(kind := file.schema_arrow.field(label).type) or types.is_null(kind)):
        raise UserError(f"{path}: the column {label!r} holds {kind} where integers belong")
    return file


def _column(file: Any, columns: Sequence[str], path: Path) -> str:
    """The first of these columns that the file has."""
    found = file.schema_arrow.names
    for column in columns:
        if column in found:
            return column
    raise UserError(f"{path}: no column {' or '.join(map(repr, columns))}; it has: {', '.join(found)}")


def _values(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """The values of the first of these columns that there is, read piece by piece."""
    from pyarrow import ArrowException

    file = _open(path)
    try:
        for batch in file.iter_batches(batch_size=BATCH, columns=[_column(file, columns, path)]):
            yield from batch.column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__})") from error


def _class_names(path: Path) -> tuple[str, ...] | None:
    """The names of the classes, in the label order of this file; None where it does not say them."""
    file = _open(path)
    metadata = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(metadata)["info"]["features"][_column(file, LABEL_COLUMNS, path)]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: two of its classes are called {twice!r}")
    return tuple(names)


def _bytes(encoded: Any, where: str) -> bytes:
    encoded = encoded.get("bytes") if isinstance(encoded, dict) else encoded
    if not isinstance(encoded, bytes):
        raise UserError(f"{where}: no bytes of an image in it")
    return encoded


def _decode(encoded: bytes, where: str) -> Image:
    try:
        return open_whole(encoded)
    except UnreadableError as error:
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: UnreadableError) -> UserError:
    return UserError(f"{where}: an image that cannot be read ({error})")
