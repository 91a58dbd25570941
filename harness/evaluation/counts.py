"""Exact integer counts of right answers.

Counts and predictions use the same tie rule: of equal scores the lower class index comes first, and an image with a
score that is not a number is wrong. The rank of the true class is the number of classes before it; an image is right
at k if that rank is below k. With fewer than five classes every image whose scores are numbers is right at 5: the
top-5 error is 0 and says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def rank_of_label(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the number of classes that come before the true one.

    Args:
        scores: floating point (N, K), higher is better.
        labels: int64 (N,).

    Returns:
        int64 (N,), 0 for a right answer; K if a score is not a number.
    """
    true = scores.gather(1, labels[:, None])
    # Sums of comparisons in float32 are five times as fast as in bool, and exact up to 2**24 classes.
    compared = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
    higher = torch.gt(scores, true, out=compared).sum(1).long()
    lower = torch.lt(scores, true, out=compared).sum(1).long()
    classes = scores.shape[1]
    odd = higher + lower != classes - 1  # rows with ties or NaN are rare, so only they pay for the slower rule
    if scores.is_cuda:
        return torch.where(odd, _rank_with_ties(scores, true, labels), higher)  # odd.any() would wait for the GPU
    if odd.any():
        higher[odd] = _rank_with_ties(scores[odd], true[odd], labels[odd])
    return higher


def _rank_with_ties(scores: torch.Tensor, true: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    rank = ((scores > true) | ((scores == true) & earlier)).sum(1)
    return torch.where(scores.isnan().any(1), scores.shape[1], rank)


def count_correct(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Count the images of a batch that are right at 1, right at 5, and all: int64 (3,), on the device of the scores."""
    rank = rank_of_label(scores, labels)
    right_of_numbers = rank < min(5, scores.shape[1])  # rank K marks NaN
    return torch.stack((rank == 0, right_of_numbers, torch.ones_like(right_of_numbers)), 1).sum(0)


def only(scores: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Return scores (N, K) with minus infinity for all other classes, so that none of them is an answer."""
    other = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
    other[list(classes)] = False
    return scores.masked_fill(other, -torch.inf)


def likeliest(scores: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Return the answer of each image, int64 (N,), that comes first by the tie rule.

    Args:
        scores: floating point (N, K).
        answers: right answers, int64 (N, L), in any order.
    """
    ordered = answers.sort(1).values
    return ordered.gather(1, scores.gather(1, ordered).argmax(1, keepdim=True))[:, 0]


def first_classes(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k best classes of each image by the tie rule.

    Returns:
        Classes, int64 (N, min(k, K)), all -1 for an image with a score that is not a number; and their scores, of the
        same shape.
    """
    ordered, classes = scores.sort(dim=1, descending=True, stable=True)
    bad = scores.isnan().any(1, keepdim=True)
    return classes[:, :k].masked_fill(bad, -1), ordered[:, :k]
