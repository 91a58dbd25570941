"""One evaluation in this process: each image counted once, found again by hand, also where some cannot be read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import ALONE, NOWHERE
from torch import nn

from harness import build
from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.images.image_set import ImageSet
from harness.data.loading.loader import Unreadable
from harness.evaluation.evaluator import Evaluator, evaluate
from harness.evaluation.scores import class_scores

CLASSES, IMAGES = 7, 23
PREPROCESSING = Preprocessing(3, 8, 8, "bilinear", (0.0,) * 3, (1.0,) * 3)


class Levels(nn.Module):
    """Class k stands for the grey level k / 6; scores are minus the distance of an image's own, squared."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = images.mean((1, 2, 3))
        return -16 * (levels[:, None] - torch.arange(CLASSES) / (CLASSES - 1)) ** 2


def level(number: int) -> int:
    return 83 * number % 256


def label(number: int) -> int:
    return 5 * number % CLASSES


def by_hand(number: int) -> tuple[list[int], list[float]]:
    """Classes of an image in order, and their probabilities."""
    scores = [-16 * (level(number) / 255 - k / (CLASSES - 1)) ** 2 for k in range(CLASSES)]
    total = sum(map(math.exp, scores))
    order = sorted(range(CLASSES), key=lambda k: -scores[k])
    return order, [math.exp(scores[k]) / total for k in order]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    """An image of each number in the folder of its label."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(IMAGES):
        folder = tmp_path / "images" / f"class{label(number)}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 12, 3), level(number), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    index = index_folder(tmp_path / "images")
    return ImageFiles(index, np.arange(IMAGES), torch.from_numpy(index.label).long(), "test")


def evaluated(split: ImageSet | ImageFiles, batch_size: int, protocol: str = "center_crop") -> Evaluator:
    trainer, how = build.build_trainer(ALONE, NOWHERE, "32-true", []), ProtocolConfig(protocol, batch_size, "32-true")
    return evaluate(trainer, Levels(), split, PREPROCESSING, how, decoder="fast", workers=0)


def check(evaluator: Evaluator, numbers: list[int], unread: set[int]) -> None:
    """Counts and predictions of the images of these numbers, of which some could not be read."""
    order = {number: by_hand(number) for number in numbers}
    right = [number for number in numbers if number not in unread]
    counts = evaluator.counts
    assert counts.seen == len(numbers) and evaluator.classes == CLASSES
    assert counts.correct_top1 == sum(order[number][0][0] == label(number) for number in right)
    assert counts.correct_top5 == sum(label(number) in order[number][0][:5] for number in right)
    assert 0 < counts.correct_top1 < counts.correct_top5 < len(right)
    predictions = evaluator.predictions
    assert predictions is not None and predictions.labels.tolist() == [label(number) for number in numbers]
    for row, number in enumerate(numbers):
        classes, probabilities = order[number]
        assert predictions.classes[row].tolist() == ([-1] * 5 if number in unread else classes[:5])
        expected = [0.0] * 5 if number in unread else probabilities[:5]
        assert predictions.probabilities[row].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
@pytest.mark.parametrize("protocol", ["center_crop", "ten_crop"])
@pytest.mark.parametrize("unread", [(), (3, 0, 22), (8,)], ids=["all-read", "three-unread", "one-unread"])
def test_an_evaluation_of_files_is_the_one_by_hand(
    files: ImageFiles, unread: tuple[int, ...], protocol: str, batch_size: int
) -> None:
    numbers = [int(Path(name).stem) for name in files.ids]
    for number in unread:
        Path(files.path(numbers.index(number)).decode()).write_bytes(b"text")
    evaluator = evaluated(files, batch_size, protocol)
    check(evaluator, numbers, set(unread))
    bad = sorted(numbers.index(number) for number in unread)
    assert evaluator.unreadable == [Unreadable(index, "not an image") for index in bad]


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
def test_an_evaluation_in_memory_is_the_one_by_hand(batch_size: int) -> None:
    pixels = torch.tensor([level(number) for number in range(IMAGES)], dtype=torch.uint8)
    labels = torch.tensor([label(number) for number in range(IMAGES)])
    split = ImageSet(pixels[:, None, None, None].expand(-1, 3, 8, 8).contiguous(), labels, [""] * IMAGES)
    check(evaluated(split, batch_size, "whole_image"), list(range(IMAGES)), set())


def test_of_files_none_of_which_can_be_read_all_are_counted(files: ImageFiles) -> None:
    for index in range(IMAGES):
        Path(files.path(index).decode()).write_bytes(b"text")
    evaluator = evaluated(files, 4)
    assert (evaluator.counts.seen, evaluator.counts.correct_top1, evaluator.counts.correct_top5) == (IMAGES, 0, 0)
    assert len(evaluator.unreadable) == IMAGES and evaluator.classes == 0


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11])
def test_the_score_of_several_views_is_the_logarithm_of_their_mean_probability(batch_size: int) -> None:
    """Of the images alone, not of what fills a batch up."""
    torch.manual_seed(0)
    network, how = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), ProtocolConfig("ten_crop", 1, "32-true")
    views = torch.randn(3, 10, 3, 2, 2)
    expected = torch.stack([network(image).softmax(1).mean(0) for image in views])
    torch.testing.assert_close(class_scores(network, views, how, batch_size).exp(), expected)
    single = class_scores(network, views[:, 0], how, batch_size)
    torch.testing.assert_close(single, network(views[:, 0]))
