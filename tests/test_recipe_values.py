"""Numbers of recipes and data sets that a paper or a publisher gives, each with its source."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from harness.config.commands import TrainConfig
from harness.config.compose import compose
from harness.config.data import DataConfig, ImageFilesConfig
from harness.config.recipe import RecipeConfig
from harness.data.images.image_set import ImageSet
from harness.data.sources import table as sources
from harness.training.schedules import learning_rate


def of(*choices: str) -> TrainConfig:
    return compose("train", [*choices])


def sgd(recipe: RecipeConfig) -> tuple[float, float, float, bool]:
    return recipe.learning_rate, recipe.momentum, recipe.weight_decay, recipe.nesterov


def test_he_2015_on_cifar() -> None:
    """[He 2015, section 4.2]: batch 128, 0.1 divided by 10 after 32,000 and 48,000 of 64,000 iterations, all images."""
    recipe = of("data=cifar10").recipe
    assert sgd(recipe) == (0.1, 0.9, 1e-4, False) and recipe.batch_size == 128
    assert (recipe.crop_padding, recipe.flip, recipe.loss, recipe.warmup_epochs) == (4, True, "cross_entropy", 0)
    steps = math.ceil(50_000 / 128)
    assert (recipe.epochs, *recipe.milestones) == tuple(round(step / steps) for step in (64_000, 32_000, 48_000))
    rates = [learning_rate(recipe, epoch * steps, steps) for epoch in (0, 81, 82, 122, 123, 163)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_torchvisions_first_weights() -> None:
    """[torchvision, references/classification]: 8 devices of 32, 0.1 divided by 10 every 30 of 90 epochs."""
    recipe = of("data=imagenet", "model=resnet50").recipe
    assert sgd(recipe) == (0.1, 0.9, 1e-4, False) and recipe.batch_size == 8 * 32
    assert (recipe.epochs, recipe.milestones, recipe.gamma, recipe.warmup_epochs) == (90, [30, 60], 0.1, 0)
    assert (recipe.crop_area, recipe.flip) == ([0.08, 1.0], True)
    assert recipe.crop_aspect == pytest.approx([3 / 4, 4 / 3])


def test_imagenets_preprocessing_is_torchvisions() -> None:
    data = of("data=imagenet", "model=resnet50").data
    assert isinstance(data, ImageFilesConfig)
    assert (data.image_size, data.resize, data.interpolation) == (224, 256, "bilinear")
    assert (data.mean, data.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_mnists_statistics_are_those_of_its_training_images(mnist_root: Path) -> None:
    levels = MNIST(mnist_root, train=True).data.double() / 255
    data = of("data=mnist").data
    assert (data.mean, data.std) == ([round(float(levels.mean()), 4)], [round(float(levels.std()), 4)])


@pytest.mark.slow
def test_cifar10s_statistics_are_those_of_its_training_images(cifar10_jpeg: Path) -> None:
    """Of the originals; those of a copy that was compressed as JPEG differ a little."""
    copy = DataConfig("parquet", str(cifar10_jpeg), False, 0, [0.5] * 3, [0.5] * 3)
    images = sources.load(copy).train
    assert isinstance(images, ImageSet)
    levels = images.images.transpose(0, 1).flatten(1).double() / 255
    data = of("data=cifar10").data
    torch.testing.assert_close(levels.mean(1).tolist(), data.mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(levels.std(1).tolist(), data.std, atol=2e-3, rtol=0)
