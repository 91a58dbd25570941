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
    recipe = of("data=cifar10", "model=resnet56").recipe
    assert sgd(recipe) == (0.1, 0.9, 1e-4, False) and recipe.batch_size == 128
    assert (recipe.crop_padding, recipe.flip, recipe.loss, recipe.warmup_epochs) == (4, True, "cross_entropy", 0)
    steps = math.ceil(50_000 / 128)
    assert (recipe.epochs - 1) * steps < 64_000 <= recipe.epochs * steps
    rates = [learning_rate(recipe, step, steps) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_he_2015_warms_up_110_layers() -> None:
    """[He 2015, section 4.2]: 0.01 until the training error is below 80%, about 400 iterations; then as the others."""
    deep, shallow = of("data=cifar10", "model=resnet110").recipe, of("data=cifar10", "model=resnet56").recipe
    assert [learning_rate(deep, step, 391) for step in (0, 399)] == [0.01, 0.01]
    others = range(400, 64_000, 100)
    assert [learning_rate(deep, step, 391) for step in others] == [learning_rate(shallow, s, 391) for s in others]


def test_he_2016_warms_up_every_network_on_cifar() -> None:
    """[He 2016, appendix]: 0.01 for the first 400 iterations, then the schedule of 2015."""
    recipe = of("recipe=he_2016_cifar", "data=cifar10", "model=preact_resnet164").recipe
    assert sgd(recipe) == (0.1, 0.9, 1e-4, False) and recipe.batch_size == 128
    rates = [learning_rate(recipe, step, 391) for step in (0, 399, 400, 31_999, 32_000, 48_000)]
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.001])


def test_lecuns_passes() -> None:
    """[LeCun 1998, section III-B]: 20 passes at 5e-4, 2e-4, 1e-4, 5e-5, then 1e-5; here four at each of these rates."""
    recipe = of("recipe=lecun_1998", "data=mnist", "model=lenet5_1998").recipe
    assert recipe.epochs == 20 and (recipe.momentum, recipe.weight_decay) == (0, 0)
    rates = [learning_rate(recipe, 6000 * epoch, 6000) / recipe.learning_rate for epoch in range(1, 20)]
    published = [5e-4] * 3 + [2e-4] * 4 + [1e-4] * 4 + [5e-5] * 4 + [1e-5] * 4  # the first pass is our warm-up
    assert rates == pytest.approx([rate / 5e-4 for rate in published])


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


def test_torchvisions_second_weights() -> None:
    """[torchvision, references/classification; PyTorch blog, TorchVision's latest primitives]."""
    config = of("recipe=torchvision_v2", "data=imagenet", "model=resnet50", "data.resize=232")
    recipe = config.recipe
    assert sgd(recipe) == (0.5, 0.9, 2e-5, False) and recipe.batch_size == 8 * 128 and recipe.epochs == 600
    assert (recipe.mixup, recipe.cutmix, recipe.label_smoothing, recipe.erasing) == (0.2, 1.0, 0.1, 0.1)
    assert (recipe.norm_weight_decay, recipe.bias_weight_decay) == (0.0, None)
    assert (recipe.auto_augment, recipe.repeats, recipe.train_size) == ("trivial_augment_wide", 4, [176])
    assert [recipe.size_at(epoch, 224) for epoch in (0, 599)] == [176, 176]
    for epoch in (5, 100, 300, 599):
        cosine = 0.25 * (1 + math.cos(math.pi * (epoch - 5) / 595))
        assert learning_rate(recipe, 1251 * epoch, 1251) == pytest.approx(cosine)


@pytest.mark.parametrize(
    ("name", "epochs", "rate", "decay", "smoothing", "threshold", "magnitude", "mixup", "repeats", "depth", "size"),
    [
        ("strikes_back_a1", 600, 5e-3, 0.01, 0.1, None, 7, 0.2, 3, 0.05, []),
        ("strikes_back_a2", 300, 5e-3, 0.02, 0.0, 0.2, 7, 0.1, 3, 0.05, []),
        ("strikes_back_a3", 100, 8e-3, 0.02, 0.0, 0.2, 6, 0.1, 1, 0.0, [160]),
    ],
)
def test_resnet_strikes_back(
    name: str,
    epochs: int,
    rate: float,
    decay: float,
    smoothing: float,
    threshold: float | None,
    magnitude: int,
    mixup: float,
    repeats: int,
    depth: float,
    size: list[int],
) -> None:
    """[Wightman 2021, arXiv 2110.00476, Table 2]."""
    recipe = of(f"recipe={name}", "data=imagenet", "model=resnet50").recipe
    assert (recipe.epochs, recipe.learning_rate, recipe.weight_decay) == (epochs, rate, decay)
    assert (recipe.optimizer, recipe.batch_size, recipe.loss) == ("lamb", 2048, "binary_cross_entropy")
    assert (recipe.label_smoothing, recipe.bce_threshold, recipe.mixup, recipe.cutmix) == (
        smoothing,
        threshold,
        mixup,
        1.0,
    )
    assert (recipe.auto_augment, recipe.rand_augment_magnitude) == ("rand_augment_increasing", magnitude)
    assert (recipe.repeats, recipe.stochastic_depth, recipe.train_size) == (repeats, depth, size)
    assert (recipe.schedule, recipe.warmup_epochs, recipe.erasing) == ("cosine", 5, 0.0)


def test_ffcvs_sixteen_epochs() -> None:
    """[ffcv-imagenet, rn18_configs/rn18_16_epochs.yaml and train_imagenet.py, get_lr_schedule and get_resolution]."""
    recipe = of("recipe=fast", "data=imagenet", "model=resnet18").recipe
    assert sgd(recipe) == (0.5, 0.9, 5e-5, False) and recipe.batch_size == 1024
    assert (recipe.label_smoothing, recipe.norm_weight_decay, recipe.epochs) == (0.1, 0.0, 16)
    for epoch, rate in ((2, 0.5), (9, 0.25), (12.5, 0.125)):  # a line from epoch 2 to nothing after 16
        assert learning_rate(recipe, int(epoch * 1250), 1250) == pytest.approx(rate)
    assert learning_rate(recipe, 1249, 1250) == pytest.approx(0.25)  # a line from nothing to the peak
    assert [recipe.size_at(epoch, 256) for epoch in range(16)] == [160] * 12 + [192] * 4


def test_modern_has_the_pieces_of_torchvisions_second_recipe() -> None:
    modern, theirs = (of(f"recipe={name}", "data=imagenet", "model=resnet50").recipe for name in MODERN)
    pieces = "momentum schedule warmup_epochs label_smoothing mixup auto_augment erasing norm_weight_decay train_size"
    for name in (*pieces.split(), "crop_area", "crop_aspect", "flip", "loss", "optimizer"):
        assert getattr(modern, name) == getattr(theirs, name), name
    assert modern.learning_rate / modern.batch_size == theirs.learning_rate / theirs.batch_size
    assert (modern.epochs, modern.cutmix, modern.repeats) == (100, 0.0, 1)


MODERN = ("modern", "torchvision_v2")
WITHOUT_BATCH_NORM = ("alexnet", "alexnet_2012", "vgg11", "vgg11_lrn", "vgg13", "vgg16", "vgg16_c", "vgg19")


@pytest.mark.parametrize("name", ["torchvision_v1", "modern", "fast", "scratch_small"])
def test_networks_without_batch_norm_learn_at_a_tenth_of_the_rate(name: str) -> None:
    usual = of("data=imagenet", f"recipe={name}", "model=resnet50").recipe.learning_rate
    for model in WITHOUT_BATCH_NORM:
        assert of("data=imagenet", f"recipe={name}", f"model={model}").recipe.learning_rate == pytest.approx(usual / 10)


@pytest.mark.parametrize("name", ["torchvision_v1", "he_2015_imagenet"])
def test_vgg_with_batch_norm_warms_up(name: str) -> None:
    """Its fully connected layers have no batch norm: at the full rate its loss grew from the first steps."""
    warm = of("data=imagenet", f"recipe={name}", "model=vgg16_bn").recipe
    assert [learning_rate(warm, step, 5000) for step in (0, 199, 399, 400)] == pytest.approx(
        [0.1 / 400, 0.05, 0.1, 0.1]
    )
    assert learning_rate(of("data=imagenet", f"recipe={name}", "model=resnet50").recipe, 0, 5000) == 0.1
