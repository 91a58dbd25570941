"""Counts and predictions follow one tie rule, found again here by brute force."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binomtest

from harness.evaluation.counts import _rank_with_ties, count_correct, first_classes, likeliest, only, rank_of_label
from harness.evaluation.intervals import wilson
from harness.run.history import Counts


def slow_ranks(scores: torch.Tensor, labels: torch.Tensor) -> list[int]:
    ranks = []
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda k: (-row[k], k))
        ranks.append(len(row) if any(map(math.isnan, row)) else order.index(label))
    return ranks


def awkward(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with many ties, infinities and rows that hold NaN."""
    generator = torch.Generator().manual_seed(classes)
    scores = torch.randint(-3, 3, (500, classes), generator=generator).float()
    scores[::7] = torch.randn(len(scores[::7]), classes, generator=generator)
    scores[3::11, 0] = math.inf
    scores[4::11, classes - 1] = -math.inf
    scores[5::13, generator.initial_seed() % classes] = math.nan
    scores[6::13] = math.nan
    scores[8::17] = 0.5
    return scores, torch.randint(0, classes, (500,), generator=generator)


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 10, 1000])
def test_ranks_and_counts_equal_brute_force(classes: int) -> None:
    scores, labels = awkward(classes)
    ranks = slow_ranks(scores, labels)
    assert rank_of_label(scores, labels).tolist() == ranks
    true = scores.gather(1, labels[:, None])
    assert _rank_with_ties(scores, true, labels).tolist() == ranks  # what a GPU computes where a row is odd
    top1 = sum(rank == 0 for rank in ranks)
    top5 = sum(rank < 5 and rank < classes for rank in ranks)
    assert count_correct(scores, labels).tolist() == [top1, top5, 500]


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_predictions_agree_with_counts(classes: int) -> None:
    scores, labels = awkward(classes)
    chosen, best = first_classes(scores, 5)
    assert chosen.shape == best.shape == (500, min(5, classes))
    right = count_correct(scores, labels)
    assert int((chosen[:, 0] == labels).sum()) == right[0]
    assert int((chosen == labels[:, None]).any(1).sum()) == right[1]


def test_tie_free_counts_equal_topk() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(2000, 100, generator=generator)
    labels = torch.randint(0, 100, (2000,), generator=generator)
    top5 = scores.topk(5).indices
    expected = [int((top5[:, 0] == labels).sum()), int((top5 == labels[:, None]).any(1).sum()), 2000]
    assert count_correct(scores, labels).tolist() == expected


def test_a_constant_or_nan_network_is_not_perfect() -> None:
    labels = torch.arange(10).repeat(10)
    assert count_correct(torch.zeros(100, 10), labels).tolist() == [10, 50, 100]
    assert count_correct(torch.full((100, 10), math.nan), labels).tolist() == [0, 0, 100]


def test_errors_are_percent() -> None:
    counts = Counts(90, 98, 100)
    assert counts.top1_error == 10.0 and counts.top5_error == 2.0


@pytest.mark.parametrize(("errors", "images"), [(0, 360), (3, 360), (360, 360), (95, 10_000), (1, 2)])
def test_wilson_equals_scipy(errors: int, images: int) -> None:
    expected = binomtest(errors, images).proportion_ci(0.95, "wilson")
    assert wilson(errors, images) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


@pytest.mark.parametrize("classes", [5, 6, 10])
def test_of_several_answers_the_one_that_ranks_first_is_the_label(classes: int) -> None:
    scores, _ = awkward(classes)
    answers = torch.randint(0, classes, (len(scores), 3), generator=torch.Generator().manual_seed(1))
    chosen = likeliest(scores, answers)
    known = ~scores.isnan().any(1)
    ranks = torch.stack([torch.tensor(slow_ranks(scores, column)) for column in answers.T]).min(0).values
    assert torch.equal(rank_of_label(scores, chosen)[known], ranks[known])
    assert ((chosen[:, None] == answers).any(1)).all()


def test_other_classes_are_no_answers() -> None:
    scores = torch.tensor([[5.0, 1.0, 2.0, 4.0], [0.0, 0.0, 9.0, 0.0]])
    assert first_classes(only(scores, [1, 3]), 2)[0].tolist() == [[3, 1], [1, 3]]
    assert count_correct(only(scores, [1, 3]), torch.tensor([3, 3])).tolist()[0] == 1
