"""scikit-learn's 1,797 digits of 8x8 pixels and 16 greys, upscaled to 24x24 and padded to 32x32, for `lenet1` to 28x28.

There is no official split: 360 images are the test split, stratified, chosen by random state 0. The file does not say
who wrote which digit, so the same writers are on both sides.
"""

from __future__ import annotations

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources.splits import Splits, checked, hold_out, stratified

FACTS = DataSet(32, None, 1, tuple("0123456789"), 1_437, 360, cropped_size=28)


def describe(config: DataConfig) -> DataSet:
    """The facts."""
    return FACTS


def load(config: DataConfig) -> Splits:
    """All splits.

    Raises:
        UserError: images for validation that cannot be held out.
    """
    train, test = _read(config)
    return hold_out(train, test, config)


def load_test(config: DataConfig) -> ImageSet:
    """The test split alone."""
    return _read(config)[1]


def _read(config: DataConfig) -> tuple[ImageSet, ImageSet]:
    """The images to train on, those for validation among them, and those to test on."""
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None]  # (1797, 1, 8, 8), 0 to 16
    upscaled = F.interpolate(small, size=24, mode="bilinear", align_corners=False)
    images = F.pad(upscaled.mul(255 / 16).round().to(torch.uint8), (4, 4, 4, 4))  # (1797, 1, 32, 32)
    labels = torch.from_numpy(bunch.target).long()
    every = ImageSet(images, labels, [f"digits/{index:04d}" for index in range(len(labels))])
    train, test = map(every.subset, stratified(labels.numpy(), FACTS.test))
    return checked(train, "train", config, FACTS), checked(test, "test", config, FACTS)
