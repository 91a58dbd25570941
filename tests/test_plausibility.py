"""Scores that mean nothing are refused, with the likely cause; scores that mean something are not."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from harness.config.protocol import ProtocolConfig
from harness.data.images.image_set import ImageSet
from harness.errors import UserError
from harness.evaluation.evaluator import Evaluator, Predictions
from harness.evaluation.plausibility import check_labels, check_score, match_classes
from harness.run.history import Counts

IMAGES, CLASSES = 200, 1000
LABELS = 4 * torch.arange(IMAGES) + 3


def split(labels: torch.Tensor) -> ImageSet:
    return ImageSet(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels, [str(i) for i in range(len(labels))])


def evaluated(answers: torch.Tensor) -> Evaluator:
    evaluator = Evaluator(nn.Identity(), split(LABELS), ProtocolConfig("center_crop", 1, "32-true"))
    right = int((answers == LABELS).sum())
    evaluator.classes, evaluator.counts = CLASSES, Counts(right, right, IMAGES)
    evaluator.predictions = Predictions(LABELS, answers[:, None], torch.ones(IMAGES, 1))
    return evaluator


@pytest.mark.parametrize(
    ("answers", "line"),
    [
        (torch.full((IMAGES,), 2), "0 of 200 images right, no better than guessing among 1,000 classes: are these"),
        (torch.full((IMAGES,), 7), "1 of 200 images right, no better than guessing"),
        (torch.cat((LABELS[:2], torch.full((IMAGES - 2,), 2))), "2 of 200 images right, no better than guessing"),
        (LABELS + 1, r"the labels look shifted by one: the classes are in another order \(200 right with \+1\)"),
        (LABELS - 1, r"200 right with -1"),
        (torch.full((IMAGES,), -1), "every score was not a number"),
    ],
    ids=["none right", "one right", "two right", "one above", "one below", "no numbers"],
)
def test_guessing_is_refused_with_its_cause(answers: torch.Tensor, line: str) -> None:
    with pytest.raises(UserError, match=line + ".*force=true"):
        check_score(evaluated(answers))


def test_pictures_of_which_none_can_be_read_are_no_score() -> None:
    evaluator = evaluated(torch.full((IMAGES,), -1))
    evaluator.classes = 0
    with pytest.raises(UserError, match="top-1: none of 200 images could be read, so there is no score; force=true"):
        check_score(evaluator)


def test_a_bad_network_that_knows_something_passes() -> None:
    answers = torch.full((IMAGES,), 2)
    answers[:4] = LABELS[:4]
    check_score(evaluated(answers))


@pytest.mark.parametrize(("right", "passes"), [(0, False), (2, False), (3, False), (4, True)])
def test_four_images_of_two_classes_tell_little(right: int, passes: bool) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    answers = torch.cat((labels[:right], 1 - labels[right:]))
    evaluator = Evaluator(nn.Identity(), split(labels), ProtocolConfig("center_crop", 1, "32-true"))
    evaluator.classes, evaluator.counts = 2, Counts(right, 4, 4)
    evaluator.predictions = Predictions(labels, answers[:, None], torch.ones(4, 1))
    with nullcontext() if passes else pytest.raises(UserError, match=f"{right} of 4 images right, no better than"):
        check_score(evaluator)


def test_images_of_one_class_are_refused() -> None:
    with pytest.raises(UserError, match="here: all 3 images are of one class"):
        check_labels(split(torch.tensor([4, 4, 4])), "here")
    check_labels(split(torch.tensor([4, 4, 5])), "here")
    check_labels(split(torch.tensor([4])), "here")


def test_classes_are_matched_by_name_in_any_order_and_number() -> None:
    theirs = ("a", "c", "b")
    assert match_classes(("a", "b", "c"), theirs, "d", "weights", force=False) == (0, 2, 1)
    assert match_classes(("b",), theirs, "d", "weights", force=False) == (2,)
    with pytest.raises(UserError, match="the network knows no 'x'; it knows a, c, b; force=true"):
        match_classes(("a", "x", "b"), theirs, "d", "weights", force=False)
    assert match_classes(("a", "x", "b"), theirs, "d", "weights", force=True) == (0, 1, 2)
    for force in (False, True):
        with pytest.raises(UserError, match=r"the network knows no 'x' \(and 1 more\); it knows a, c, b$"):
            match_classes(("a", "x", "y", "b"), theirs, "d", "weights", force=force)
