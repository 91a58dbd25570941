"""What `tools/audit.py` finds: labels that were flipped by a seed, and copies that were planted in the other split.

Two sets of real pictures in folders of classes: scikit-learn's digits, and twelve species of flowers. Of each, 3% of
the pictures, drawn by the seed, are put into the folder of another class, drawn too. Five folds of `train.py` answer
on every picture: a LeNet-5 from scratch on the digits, a linear probe on the features of a network of other
photographs on the flowers. Copies are planted for a second question: a picture re-encoded, resized or mirrored lies
in another split than itself.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.pictures import digits
from harness.comparison.answers import Answers
from harness.errors import UserError
from harness.mistakes import duplicates, labels
from harness.mistakes.pictures import find_pictures
from harness.prediction.network import load
from harness.run.files import RESULT_FILE

ROOT = Path(__file__).parent.parent
FLIPPED, FOLDS = 0.03, 5
FOLDER = ("data=folder", f"data.folds={FOLDS}", "data.validation=0", "trainer=cpu", "trainer.threads=1")
DIGITS = (
    *(
        "model=lenet5",
        "recipe=sgd_cosine",
        "recipe.epochs=15",
        "recipe.crop_area=[0.8,1]",
        "recipe.crop_aspect=[0.8,1.25]",
        "data.image_size=32",
    ),
    *("data.resize=32", "data.mean=[0.1716]", "data.std=[0.2905]"),
)
FLOWERS = ("model=resnet18", "recipe=linear_probe", "data.image_size=128", "data.resize=146")


@dataclass(frozen=True)
class Named:
    """One picture: the name of its file, its class, and the file's content."""

    name: str
    label: str
    content: bytes


def of_digits() -> list[Named]:
    """All 1,797 digits, as 24 x 24 pixels padded to 32 x 32, in PNG files."""
    found: list[Named] = []
    for split in digits():
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            found.append(Named(f"{len(found):04d}.png", split.class_names[label], file.getvalue()))
    return found


def of_flowers(root: Path) -> list[Named]:
    """All pictures of both splits of the flowers."""
    paths = sorted(root.glob("*/*/*.jpg"))
    if not paths:
        raise UserError(f"--root {root}: no train/SPECIES/*.jpg there")
    return [Named(path.name, path.parent.name, path.read_bytes()) for path in paths]


def flip(pictures: Sequence[Named], seed: int) -> dict[str, str]:
    """The class that each flipped picture is given, by the name of its file."""
    draws = np.random.default_rng(seed)
    classes = sorted({picture.label for picture in pictures})
    chosen = draws.choice(len(pictures), round(FLIPPED * len(pictures)), replace=False)
    return {
        pictures[index].name: str(draws.choice([name for name in classes if name != pictures[index].label]))
        for index in sorted(chosen.tolist())
    }


@dataclass(frozen=True)
class Experiment:
    """The runs of the measurement under one folder; what is done already is not done again.

    Attributes:
        folder: of pictures and runs.
        flowers: folder of the flowers.
        weights: weights of the linear probe.
    """

    folder: Path
    flowers: Path
    weights: Path

    def measure(self, seeds: int) -> dict[str, Any]:
        """Precision and recall of both questions, in plain values."""
        sets = {
            "digits": (of_digits(), (*FOLDER, *DIGITS)),
            "flowers": (of_flowers(self.flowers), (*FOLDER, *FLOWERS, f"weights={self.weights}")),
        }
        flipped = [
            {"data": name, "seed": seed, **self._flipped(name, pictures, words, seed)}
            for name, (pictures, words) in sets.items()
            for seed in range(seeds)
        ]
        copies = [
            {"data": name, "copies": kind, **planted(pictures, kind)}
            for name, (pictures, _) in sets.items()
            for kind in COPIES
        ]
        return {"flipped": flipped, "copies": copies}

    def _flipped(self, name: str, pictures: Sequence[Named], words: Sequence[str], seed: int) -> dict[str, Any]:
        flips = flip(pictures, seed)
        root = self.folder / f"{name}-seed{seed}"
        for picture in pictures:
            place = root / flips.get(picture.name, picture.label) / picture.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.write_bytes(picture.content)
        folders = [
            self._fold(f"{name}-seed{seed}-fold{fold}", [*words, f"data.root={root}", f"data.fold={fold}"])
            for fold in range(FOLDS)
        ]
        each, answers = labels.answers_of(folders)
        found = [answers.images[index].rpartition("/")[2] for index in labels.suspects(answers)]
        return {
            "images": len(pictures),
            "top1_error": 100 * float((~answers.right).mean()),
            **_rates(set(found), set(flips)),
            "of_all_probabilities": _of_all(folders, each, answers, set(flips)),
            "right_among_first": len(set(found[: len(flips)]) & set(flips)),
        }

    def _fold(self, name: str, words: Sequence[str]) -> Path:
        """The folder of a run that is done."""
        runs = self.folder / "runs" / name
        if not sorted(runs.glob(f"*/*/{RESULT_FILE}")):
            print(f"{name}: train.py {' '.join(words)}", file=sys.stderr, flush=True)
            command = [sys.executable, "train.py", *words, f"runs={runs}"]
            code = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode
            if code:
                raise UserError(f"{name}: train.py ended with exit code {code}; started again, this goes on here")
        return sorted(runs.glob(f"*/*/{RESULT_FILE}"))[0].parent


def _of_all(folders: Sequence[Path], each: Sequence[Answers], answers: Answers, flips: set[str]) -> dict[str, Any]:
    """What is found by all probabilities of the networks; a record has the five largest of each picture."""
    shares = []
    for folder, one in zip(folders, each, strict=True):
        pictures, network = find_pictures([one], None), load(folder, None, None, [])
        paths = [os.fsdecode(pictures.path(image) or b"") for image in one.images]
        for said in network.predict(paths, top=len(one.class_names)):
            shares.append([said[name] for name in one.class_names])
    whole = np.array(shares)
    found = labels.issues(answers.labels, whole / whole.sum(axis=1, keepdims=True))
    return _rates({answers.images[index].rpartition("/")[2] for index in found}, flips)


def jpeg(image: Image.Image) -> Image.Image:
    """The picture compressed as JPEG of quality 50."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=50)
    return Image.open(file)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same pixels": lambda image: image,
    "JPEG of quality 50": jpeg,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "15% brighter": lambda image: image.point(lambda level: min(255, int(1.15 * level))),
    "cut by 5%": lambda image: image.crop((image.width // 20, image.height // 20, image.width, image.height)),
}


def planted(pictures: Sequence[Named], kind: str) -> dict[str, Any]:
    """Put copies of every tenth picture into a second split; which pairs are found.

    The first split has all pictures of even positions, the second those of odd ones and the copies. Pictures that have
    a near-duplicate in the set already are left out, so that every pair that is found is a planted one or a mistake.
    """
    images = [np.asarray(Image.open(io.BytesIO(picture.content))) for picture in pictures]
    looks = np.stack([duplicates.look(image) for image in images])
    alone = _alone(looks)
    first, second = alone[::2], alone[1::2]
    originals = first[::5]
    copied = [np.asarray(COPIES[kind](Image.fromarray(images[index]))) for index in originals]
    one, other = ([images[index] for index in first], [*(images[index] for index in second), *copied])
    pairs = duplicates.across({"first": _seen(one), "second": _seen(other)})
    wanted = {(5 * number, len(second) + number) for number in range(len(copied))}
    return _rates({(pair.first[1], pair.second[1]) for pair in pairs}, wanted)


def _alone(looks: duplicates.Looks) -> list[int]:
    """Positions of the pictures that are near no other one, plain or mirrored."""
    turned = looks.reshape(-1, duplicates.SIDE, duplicates.SIDE, 3)[:, :, ::-1].reshape(looks.shape)
    near = (looks @ looks.T > 1 - duplicates.NEAR**2 / 2) | (looks @ turned.T > 1 - duplicates.NEAR**2 / 2)
    np.fill_diagonal(near, False)
    alone: list[int] = np.flatnonzero(~near.any(axis=1)).tolist()
    return alone


def _seen(images: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> duplicates.Seen:
    return duplicates.Seen(
        np.stack([duplicates.look(image) for image in images]),
        [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest() for image in images],
    )


def _rates(found: set[Any], wanted: set[Any]) -> dict[str, Any]:
    right = len(found & wanted)
    return {
        "wanted": len(wanted),
        "found": len(found),
        "right": right,
        "precision": 100 * right / len(found) if found else None,
        "recall": 100 * right / len(wanted),
    }
