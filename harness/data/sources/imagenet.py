"""ImageNet as it lies on a disk: `root/train/<wnid>/`, `root/val/<wnid>/`, or a flat `root/val/`.

Labels come from the wnid, the name of the class's folder, through the official order: any subset of the folders is
scored right. A flat `val` needs the development kit of ILSVRC 2012 beside it, `root/ILSVRC2012_devkit_t12/`, or else
Kaggle's `LOC_val_solution.csv`, in `root` or, as Kaggle's archive has it, three folders above, for `root` is then
`ILSVRC/Data/CLS-LOC`.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.config.data import DataConfig, ImageNetConfig
from harness.config.facts import DataSet
from harness.data.images.folder import Folder, index_folder, printable
from harness.data.images.image_files import ImageFiles
from harness.data.sources.splits import Splits, hold_out
from harness.errors import UserError
from harness.run.log import log
from harness.run.program import typed

Labels = npt.NDArray[np.int64]
DEVKIT = Path("ILSVRC2012_devkit_t12", "data")
REAL = "real.json"
READ_META = """
import sys
del sys.path[0]  # the working folder, whose files may be called like a module
import json
from scipy.io import loadmat
synsets = loadmat(sys.argv[1], squeeze_me=True)["synsets"]
print(json.dumps({int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}))
"""
SOLUTION = "LOC_val_solution.csv"
NUMBER = re.compile(rb"ILSVRC2012_val_(\d{8})\.JPEG")
IMAGENET_CLASSES = tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="ascii").split())  # wnids
FACTS = DataSet(None, None, 3, IMAGENET_CLASSES, 1_281_167, 50_000)


def describe(config: DataConfig) -> DataSet:
    """The facts of the whole data set; any part of it may be there."""
    return FACTS


def load(config: DataConfig) -> Splits:
    """All splits.

    Raises:
        UserError: a folder that is missing, empty, or not laid out as above, or folders of other classes.
    """
    return hold_out(_read(config, "train"), load_test(config), config)


def load_test(config: DataConfig) -> ImageFiles:
    """The official split `val`, which is the one that is reported on; raises as `load` does.

    With `data.labels=real`, images have the sets of labels of Beyer 2020, and those without any are left out.
    """
    split = _read(config, "val")
    return (
        _reassessed(split, Path(config.root))
        if isinstance(config, ImageNetConfig) and config.labels == "real"
        else split
    )


def _reassessed(split: ImageFiles, root: Path) -> ImageFiles:
    """The images that have labels in `real.json`, a list of all images' lists in order of the images' numbers."""
    path = root / REAL
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"data.labels=real: {path} cannot be read ({error.strerror}); google-research/reassessed-imagenet has it"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not the list of labels of {REAL} ({error})") from error
    classes = range(len(IMAGENET_CLASSES))
    if not isinstance(sets, list) or len(sets) != FACTS.test or not all(_is_set(answers, classes) for answers in sets):
        raise UserError(
            f"{path}: not the list of labels of {REAL}: {FACTS.test:,} lists of numbers below {len(classes):,}"
        )
    numbers = [number_of(split.folder, int(position), FACTS.test, path) for position in split.positions]
    chosen = np.flatnonzero([bool(sets[number - 1]) for number in numbers])
    if len(chosen) < len(split):
        log.info(
            f"data.labels=real: {len(split) - len(chosen):,} of {len(split):,} images have no label and are left out"
        )
    if not len(chosen):
        raise UserError(f"{path}: has no label for any of the {len(split):,} images of {split.folder.root}")
    kept = split.subset(chosen)
    answers = [sets[numbers[position] - 1] for position in chosen]
    most = max(map(len, answers))
    padded = kept.labels.new_tensor([[*own, *[own[-1]] * (most - len(own))] for own in answers])
    return dataclasses.replace(kept, labels=padded[:, 0], answers=padded)


def _is_set(answers: object, classes: range) -> bool:
    return isinstance(answers, list) and all(type(answer) is int and answer in classes for answer in answers)


def number_of(folder: Folder, position: int, images: int, source: Path) -> int:
    """The number in the name of a validation image, from 1.

    Raises:
        UserError: it is not called like one of the images that `source` knows.
    """
    match = NUMBER.fullmatch(folder.name(position).rpartition(b"/")[2])
    number = int(match[1]) if match else 0
    if not 0 < number <= images:
        name = printable(folder.name(position))
        raise UserError(f"{folder.root}/{name}: not the name of one of the {images:,} images of {source}")
    return number


def _read(config: DataConfig, split: str) -> ImageFiles:
    root = Path(config.root)
    if not (root / split).is_dir():
        raise UserError(
            f"data=imagenet: data.root={root} has no folder {split}; it should hold train/<wnid>/ and val/<wnid>/: "
            f"{typed('python tools/prepare_imagenet.py')} makes them from the official archives"
        )
    folder = index_folder(root / split)
    if folder.classes:
        labels = labels_by_wnid(folder, IMAGENET_CLASSES, "ImageNet")
    else:
        labels = _labels_of_numbers(folder, root)
    positions = np.arange(len(folder), dtype=np.int32)
    return ImageFiles.labelled(folder, positions, labels.astype(np.int64), f"imagenet/{split}")


def labels_by_wnid(folder: Folder, class_names: Sequence[str], data: str) -> Labels:
    """Labels of the images of a folder, by the name of their class's folder, int64 (N,).

    Args:
        folder: its class folders are called by wnid; it may lack some.
        class_names: all wnids in label order.
        data: name of the data set, for the message.

    Raises:
        UserError: a folder is not called like a class, or images lie beside the folders.
    """
    order = {wnid: label for label, wnid in enumerate(class_names)}
    unknown = [name for name in folder.classes if name not in order]
    if unknown:
        raise UserError(
            f"{folder.root}: {len(unknown)} of {len(folder.classes)} folders are not called like a class of {data} "
            f"({', '.join(unknown[:3])}); each should be a wnid, such as {class_names[0]}"
        )
    if (folder.label < 0).any():
        stray = printable(folder.name(int(np.flatnonzero(folder.label < 0)[0])))
        raise UserError(f"{folder.root}: images lie beside the folders of classes ({stray}); put each into its class's")
    labels: Labels = np.array([order[name] for name in folder.classes], dtype=np.int64)[folder.label]
    return labels


def _labels_of_numbers(folder: Folder, root: Path) -> Labels:
    """Labels of a flat folder: the number in a file's name is its line of the development kit's ground truth."""
    solution = next((place / SOLUTION for place in _places(root) if (place / SOLUTION).is_file()), None)
    if solution is not None:
        return _labels_of_solution(folder, solution)
    truth, meta = root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt", root / DEVKIT / "meta.mat"
    missing = next((path for path in (truth, meta) if not path.is_file()), None)
    if missing is not None:
        raise UserError(
            f"{folder.root}: images without folders of classes, and no ground truth for them at {missing}, nor "
            f"{SOLUTION} in {root}"
        )
    lines = truth_labels(truth, meta)
    numbers = [number_of(folder, position, len(lines), truth) for position in range(len(folder))]
    labels: Labels = lines[np.array(numbers) - 1]
    return labels


def _places(root: Path) -> list[Path]:
    """Where Kaggle's file may lie: beside the pictures, and above them."""
    whole = root.absolute()
    return [whole, *whole.parents][:4]


def _labels_of_solution(folder: Folder, solution: Path) -> Labels:
    """Labels of a flat folder by Kaggle's file, whose lines are `ILSVRC2012_val_00000001,n01751748 111 108 ...`."""
    order = {wnid: label for label, wnid in enumerate(IMAGENET_CLASSES)}
    try:
        with solution.open(encoding="utf-8", newline="") as file:
            label_of = {row["ImageId"]: order[row["PredictionString"].split()[0]] for row in csv.DictReader(file)}
    except Exception as error:  # a damaged file can fail in any way while it is parsed
        raise UserError(f"{solution}: not Kaggle's list of labels ({type(error).__name__}: {error})") from error
    labels = []
    for position in range(len(folder)):
        name = printable(folder.name(position))
        if Path(name).stem not in label_of:
            raise UserError(f"{folder.root}/{name}: not the name of one of the {len(label_of):,} images of {solution}")
        labels.append(label_of[Path(name).stem])
    return np.array(labels, dtype=np.int64)


def truth_labels(truth: Path, meta: Path) -> Labels:
    """Labels of the validation images in order of their numbers, int64; `truth` holds ids that `meta` explains."""
    order = {wnid: label for label, wnid in enumerate(IMAGENET_CLASSES)}
    try:
        wnids = _wnids(meta)
        return np.array([order[wnids[int(line)]] for line in truth.read_text(encoding="ascii").split()])
    except Exception as error:  # a damaged file can fail in any way while it is parsed
        raise UserError(
            f"{truth.parent}: not the development kit of ILSVRC 2012 ({type(error).__name__}: {error})"
        ) from error


def _wnids(meta: Path) -> dict[int, str]:
    """The wnid of each id of ILSVRC 2012, read in another process, because a damaged file crashes SciPy's reader.

    Raises:
        ValueError: the file cannot be read.
    """
    command = [sys.executable, "-c", READ_META, str(meta.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        *_, last = done.stderr.strip().splitlines() or [""]
        raise ValueError(f"{meta.name}: {last if done.returncode == 1 else 'its reader crashed'}")
    return {int(number): wnid for number, wnid in json.loads(done.stdout).items()}
