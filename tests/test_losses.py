"""Losses with soft targets: equal to torch's and timm's, and refused where they would mean nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_training import recipe
from timm.loss.binary_cross_entropy import BinaryCrossEntropy
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy

from harness.errors import UserError
from harness.training.losses import LOSSES, binary_cross_entropy, loss_of, one_hot

LABELS = torch.tensor([0, 6, 3, 3, 1])


def logits() -> torch.Tensor:
    return 4 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0))


def shares() -> torch.Tensor:
    """Targets of five images, each of up to two classes."""
    return 0.7 * one_hot(LABELS, 7) + 0.3 * one_hot(LABELS.flip(0), 7)


def test_a_recipe_without_smoothing_has_the_plain_loss() -> None:
    for name, loss in LOSSES.items():
        assert loss_of(recipe(loss=name)) is loss
    assert LOSSES["cross_entropy"] is F.cross_entropy


def test_smoothing_is_timms_and_that_of_soft_targets() -> None:
    loss = loss_of(recipe(label_smoothing=0.1))
    expected = LabelSmoothingCrossEntropy(0.1)(logits(), LABELS)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss(logits(), LABELS), expected)
    torch.testing.assert_close(loss(logits(), one_hot(LABELS, 7)), expected)
    smoothed = 0.9 * shares() + 0.1 / 7
    by_hand = -(smoothed * logits().log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss(logits(), shares()), by_hand)


@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.1}, {"bce_threshold": 0.2}, {"bce_threshold": 0.3}, {"bce_threshold": 0.7}]
)
def test_binary_cross_entropy_is_timms(settings: dict[str, float]) -> None:
    loss = loss_of(recipe(loss="binary_cross_entropy", **settings))
    smoothing = settings.get("label_smoothing", 0.0)
    timms = BinaryCrossEntropy(smoothing, settings.get("bce_threshold"))
    torch.testing.assert_close(loss(logits(), LABELS), timms(logits(), LABELS))
    smoothed = (1 - smoothing) * shares() + smoothing / 7  # timm leaves that to its mixup
    torch.testing.assert_close(loss(logits(), shares()), timms(logits(), smoothed))


def test_binary_cross_entropy_is_a_sigmoid_for_each_class() -> None:
    p = logits().double().sigmoid()
    right = one_hot(LABELS, 7).double()
    expected = -(right * p.log() + (1 - right) * (1 - p).log()).mean()
    torch.testing.assert_close(binary_cross_entropy(logits(), LABELS).double(), expected, rtol=1e-5, atol=0)


def test_binary_cross_entropy_of_half_precision_is_computed_in_float32() -> None:
    half = logits().bfloat16()
    loss = binary_cross_entropy(half, LABELS, threshold=0.2)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, binary_cross_entropy(half.float(), LABELS), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"label_smoothing": 1.0}, "recipe.label_smoothing=1.0: must be at least 0 and below 1"),
        (
            {"label_smoothing": 0.1, "loss": "lecun_map"},
            "recipe.label_smoothing=0.1: works only with recipe.loss=cross_entropy or binary_cross_entropy, not",
        ),
        ({"mixup": 0.2, "loss": "lecun_mle"}, "recipe.mixup=0.2 recipe.cutmix=0: works only with recipe.loss="),
        ({"cutmix": 1.0, "loss": "lecun_mle"}, "recipe.mixup=0 recipe.cutmix=1: works only with recipe.loss="),
        ({"bce_threshold": 0.2}, "recipe.bce_threshold=0.2: works only with recipe.loss=binary_cross_entropy"),
        ({"bce_threshold": 0.0, "loss": "binary_cross_entropy"}, "recipe.bce_threshold=0.0: must be above 0"),
        (
            {"bce_threshold": 0.2, "label_smoothing": 0.1, "loss": "binary_cross_entropy"},
            "recipe.bce_threshold=0.2 recipe.label_smoothing=0.1: the threshold makes every target 0 or 1 again",
        ),
        ({"class_weights": "balanced", "loss": "binary_cross_entropy"}, "works only with recipe.loss=cross_entropy"),
        ({"class_weights": "balanced", "label_smoothing": 0.1}, "does not work with recipe.class_weights=balanced"),
        ({"class_weights": "balanced", "mixup": 0.2}, "does not work with recipe.class_weights=balanced"),
        (
            {"trains": "head", "flip": False, "crop_padding": None, "cutmix": 1.0},
            "recipe.trains=head has no images to mix",
        ),
        ({"mixup": 0.2, "batch_size": 1}, "needs recipe.batch_size of at least 2"),
        ({"mixup": -0.1}, "recipe.mixup=-0.1: must be at least 0"),
        ({"cutmix": 101.0}, "recipe.cutmix=101.0: must be at most 100"),
    ],
)
def test_what_does_not_work_together_is_refused_in_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe(**settings)
    assert line in str(caught.value) and "\n" not in str(caught.value)
