"""`channels_last` of a recipe and of a protocol: convolutions get images and weights that lie in memory like that."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_training import ALONE, NOWHERE, RECIPE, recipe
from torch import nn

from harness import build
from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import RecipeConfig
from harness.data.images.image_set import ImageSet
from harness.data.loading.module import TrainData
from harness.data.sources.splits import Splits
from harness.evaluation.evaluator import evaluate
from harness.evaluation.scores import class_scores, prepare
from harness.training.classifier import Classifier

PREPROCESSING = Preprocessing(3, 6, None, None, (0.5,) * 3, (0.5,) * 3)
PROTOCOL = ProtocolConfig("whole_image", 4, "32-true")


def lies(tensor: torch.Tensor) -> str:
    """How a tensor of more than one channel and pixel lies in memory."""
    assert min(tensor.shape[1:]) > 1, "of one channel or pixel both are true"
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return "channels last"
    return "contiguous" if tensor.is_contiguous() else "otherwise"


class Network(nn.Module):
    """Two convolutions that note how their inputs and weights lie, and during what."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 5, 3)
        self.fc = nn.Linear(5, 3)
        self.seen: set[tuple[str, str, str]] = set()
        for conv in (self.conv1, self.conv2):
            conv.register_forward_pre_hook(self.note)

    def note(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        during = "training" if layer.training else "evaluation"
        self.seen.add((during, lies(inputs[0]), lies(layer.weight)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3)))
        return logits


def images(count: int) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return ImageSet(pixels, torch.arange(count) % 3, [str(i) for i in range(count)])


def fit(network: Network, settings: RecipeConfig) -> None:
    data = TrainData(Splits(images(17), images(7), images(5)), PREPROCESSING, settings, PROTOCOL, 3, None)
    trainer = build.build_trainer(ALONE, NOWHERE, "32-true", [], max_epochs=1)
    trainer.fit(Classifier(network, settings, data.steps_per_epoch, seed=3), datamodule=data)


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize(("asked", "layout"), [(True, "channels last"), (False, "contiguous")])
def test_a_recipes_convolutions_get_what_it_says(asked: bool, layout: str, augmented: bool) -> None:
    """Also a last batch of one image: 17 in batches of 8."""
    network = Network()
    fit(network, recipe(epochs=1, channels_last=asked, flip=augmented, crop_padding=int(augmented)))
    assert network.seen == {("training", layout, layout), ("evaluation", layout, layout)}


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(("asked", "layout"), [(True, "channels last"), (False, "contiguous")])
def test_a_protocols_convolutions_get_what_it_says_however_the_network_was_trained(
    asked: bool, layout: str, trained: bool
) -> None:
    """An evaluation at the end of a run has the same layout, and so the same rounding, as one of its checkpoint."""
    network = Network()
    prepare(network, recipe(channels_last=trained))
    trainer = build.build_trainer(ALONE, NOWHERE, "32-true", [])
    evaluate(trainer, network, images(7), PREPROCESSING, dataclasses.replace(PROTOCOL, channels_last=asked))
    assert network.seen == {("evaluation", layout, layout)}


@pytest.mark.parametrize("views", [1, 10])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_every_view_of_a_batch_that_is_filled_up_has_the_layout(views: int, batch_size: int) -> None:
    network, how = Network().eval(), dataclasses.replace(PROTOCOL, channels_last=True)
    prepare(network, how)
    shape = (2, 3, 6, 6) if views == 1 else (2, views, 3, 6, 6)
    assert class_scores(network, torch.rand(shape), how, batch_size).shape == (2, 3)
    assert network.seen == {("evaluation", "channels last", "channels last")}


def test_the_layout_changes_no_more_than_rounding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain, last = Network(), Network()
    last.load_state_dict(plain.state_dict())
    for network, asked in ((plain, False), (last, True)):
        fit(network, dataclasses.replace(RECIPE, epochs=1, channels_last=asked))
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(last.state_dict()[key], value)
