"""Say when a network has not begun to learn: it gives every image the same scores."""

from __future__ import annotations

import math

from harness.config.recipe import RecipeConfig
from harness.run.history import Epoch

NEAR = 0.01  # largest distance of the loss from ln K, as a share of it
GUESSES = 1.5  # times as many right answers as guessing gives
EARLY = 50  # steps that prove nothing yet


def stuck(epoch: Epoch, recipe: RecipeConfig, num_classes: int) -> str | None:
    """Return a line if the cross-entropy of an epoch is ln K, that of the same scores for each of K classes.

    Heavy augmentation can keep the loss there while the network learns: then it has more right answers than guessing.

    AlexNet and VGG stay there if the rate is too high for weights that no batch norm rescales: units die, or the
    gradient of the first layers vanishes. Mixed and smoothed targets have the same ln K.

    Args:
        epoch: results of the epoch that has ended.
        recipe: how the network is trained.
        num_classes: K.
    """
    level = math.log(num_classes)
    learns = abs(epoch.train_loss - level) > NEAR * level or (
        epoch.train.correct_top1 * num_classes > GUESSES * epoch.train.seen
    )
    if recipe.loss != "cross_entropy" or epoch.step < EARLY or num_classes == 1 or learns:
        return None
    return (
        f"the loss is still ln {num_classes} = {level:.3f}, as if every image had the same scores: the network is not "
        f"learning. The usual cause, in a network without batch norm such as AlexNet or VGG, is too high a learning "
        f"rate at the start: try recipe.learning_rate={epoch.learning_rate / 10:.2g} or recipe.warmup_epochs=1, or a "
        "network with batch norm"
    )
