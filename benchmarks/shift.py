"""How many digits a network gets wrong when they are shifted: error by pixels, for weights that ship with the program.

An image is first padded to the size that the network takes, and then moved to the left, right, up and down; black
comes in at the other side. The error at a distance is the mean over the four directions. A network that takes 28x28
pixels loses the ink that leaves its image, so that the record also says how much of it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.rounds import machine
from harness import compose, load
from harness.config.facts import Preprocessing
from harness.data.images.image_set import ImageSet
from harness.data.images.pixels import Normalise, pad_to
from harness.data.sources.table import load_test
from harness.errors import UserError
from models.catalogue import RELEASED, WEIGHTS, Released

DISTANCES = (0, 1, 2, 3, 4, 5, 6)  # pixels
DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # rows and columns: left, right, up, down
DATA = "mnist"
BATCH = 1000


def measure(root: str) -> dict[str, Any]:
    """Errors on MNIST's test split of every released network that was trained on MNIST.

    Args:
        root: folder of torchvision's files.

    Raises:
        UserError: MNIST is not there, or no released weights of it.
    """
    place = {"data.root": root, "data.download": False}
    config = compose("eval", "model=lenet5", "weights=MNIST", f"data={DATA}", **place)
    assert config.data is not None
    test = load_test(config.data)
    assert isinstance(test, ImageSet)
    released = [row for row in RELEASED if row.data == DATA and (WEIGHTS / row.file).is_file()]
    if not released:
        raise UserError(f"{WEIGHTS} holds no weights that were trained on {DATA}")
    return {
        "benchmark": "shift",
        "data": {"name": DATA, "split": "test", "images": len(test), "fingerprint": test.fingerprint()},
        "distances": list(DISTANCES),
        "directions": ["left", "right", "up", "down"],
        "networks": [_measured(row, test) for row in released],
        "machine": machine(),
    }


def _measured(row: Released, test: ImageSet) -> dict[str, Any]:
    loaded = load(row.model, weights=row.name)
    preprocessing, training = loaded.trained.preprocessing, loaded.trained.training
    assert training is not None
    return {
        "model": row.model,
        "weights": row.name,
        "sha256": row.sha256,
        "image_size": preprocessing.size,
        "training": {key: training["recipe"][key] for key in ("name", "crop_padding", "distortion")},
        "ink_lost_percent": [round(ink_lost(test, preprocessing.size, distance), 4) for distance in DISTANCES],
        "top1_error": errors_by_shift(loaded.network, test, preprocessing),
    }


def errors_by_shift(
    network: nn.Module, test: ImageSet, preprocessing: Preprocessing, distances: Sequence[int] = DISTANCES
) -> list[float]:
    """Return the error in percent at each distance, the mean over four directions.

    Args:
        network: in evaluation mode, on the CPU; it maps images (N, C, size, size) to logits.
        test: images and labels, uint8 and int64.
        preprocessing: of the network.
        distances: pixels.
    """
    errors = []
    for distance in distances:
        wrong = [_wrong(network, test, preprocessing, distance * y, distance * x) for y, x in DIRECTIONS]
        errors.append(100 * sum(wrong) / (len(DIRECTIONS) * len(test)))
    return errors


@torch.inference_mode()
def _wrong(network: nn.Module, test: ImageSet, preprocessing: Preprocessing, down: int, right: int) -> int:
    """The number of wrong answers; a tie goes to the lower class."""
    normalise, wrong = Normalise(preprocessing, "cpu"), 0
    for images, labels in zip(torch.split(test.images, BATCH), torch.split(test.labels, BATCH), strict=True):
        logits = network(normalise(shifted(pad_to(images, preprocessing.size), down, right)))
        answers = logits.sort(dim=1, descending=True, stable=True).indices[:, 0]
        wrong += int((answers != labels).sum())
    return wrong


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Return images (N, C, H, W) moved by pixels, negative ones up and left; black comes in at the other side."""
    return F.pad(images, (right, -right, down, -down))


def ink_lost(test: ImageSet, size: int, distance: int) -> float:
    """Percent of the ink, the sum of all pixels, that leaves images of this side; the mean over four directions."""
    padded = pad_to(test.images, size)
    kept = [int(shifted(padded, distance * y, distance * x).sum()) for y, x in DIRECTIONS]
    return 100 - 100 * sum(kept) / (len(DIRECTIONS) * int(padded.sum()))
