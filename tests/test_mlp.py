"""The fully connected baseline: counts, and every choice that the file's docstring names."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models import build_model
from models.mlp import MLP


@pytest.mark.parametrize(
    ("side", "channels", "hidden", "parameters"),
    [
        (28, 1, (300,), 238_510),  # LeCun 1998, section III-C.5: 28x28-300-10
        (28, 1, (1000,), 795_010),  # section III-C.5: 28x28-1000-10
        (28, 1, (300, 100), 266_610),  # section III-C.6: 28x28-300-100-10
        (28, 1, (500, 150), 469_160),  # section III-C.6: 28x28-500-150-10
        (32, 3, (512,), 1_578_506),  # CIFAR-10
        (28, 1, (), 7_850),  # a linear classifier
    ],
)
def test_parameters(side: int, channels: int, hidden: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        network = build_model("mlp", in_channels=channels, image_size=side, hidden=hidden)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_departs_from_the_paper_as_its_docstring_says() -> None:
    torch.manual_seed(0)
    network = build_model("mlp")
    assert isinstance(network, MLP)
    fc1, fc2 = network.get_submodule("fc1"), network.get_submodule("fc2")
    assert isinstance(fc1, nn.Linear) and isinstance(fc2, nn.Linear)
    for layer, gain in ((fc1, 2), (fc2, 1)):  # He 2015, eq. 10: a rectifier halves the variance
        assert layer.weight.std().item() == pytest.approx(math.sqrt(gain / layer.in_features), rel=0.05)
        assert layer.bias is not None and not layer.bias.any()
    image = torch.randn(2, 1, 28, 28)
    assert torch.equal(network(image), fc2(fc1(image.flatten(1)).clamp(min=0)))


def test_a_layer_needs_units() -> None:
    with pytest.raises(ValueError, match="at least one unit, not 784-0-10"):
        build_model("mlp", hidden=(0,))


def test_hidden_layers_are_a_list() -> None:
    with pytest.raises(ValueError, match=r"hidden of mlp is a list, a number for each layer: \[30\], not 30"):
        build_model("mlp", hidden=30)


def test_images_of_another_size_or_number_of_channels() -> None:
    network = build_model("mlp")
    for shape in ((1, 1, 32, 32), (1, 3, 28, 28)):
        with pytest.raises(ValueError, match=f"takes images of 784 values, not {shape[1]} x {shape[2]} x {shape[3]}"):
            network(torch.zeros(shape))
