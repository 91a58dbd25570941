"""VGG: depth out of 3x3 convolutions.

Paper: Simonyan, Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556,
sections 2 and 3. Input: a colour image of 224x224 pixels less the training images' mean colour.

Where the networks depart from the paper, or had to choose:
- initialisation: the paper draws from N(0, variance 0.01), copies four convolutions and the fully connected layers of
  a trained A into the deeper networks, and notes that the procedure of Glorot and Bengio (2010) does without. At that
  variance training overflows, so A and A-LRN start from N(0, 0.01^2) and the deeper ones by Glorot and Bengio;
- A-LRN normalises the rectified output of conv1_1, with torch's alpha being n times the paper's since torch divides it;
- dropout doubles the units that it keeps instead of halving every output at test time;
- images of other sizes (at least 32 pixels) are accepted, since pool5 is averaged to 7x7; at 224 this changes nothing;
- the names that end in `_bn` normalise each convolution's batch before its rectifier; the paper has no such network.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

# A column is a stage that ends in a 2x2 maximum, its head the maps of the stage's layers; 3 stands for conv3 and 1 for
# conv1, the kernel's side, and LRN for response normalisation [Simonyan 2014, Table 1].
# fmt: off
MAPS = (           64,      128,   256,       512,       512)
CONFIGURATIONS = {
    "A":         ("3",     "3",   "3 3",     "3 3",     "3 3"),
    "A-LRN":     ("3 LRN", "3",   "3 3",     "3 3",     "3 3"),
    "B":         ("3 3",   "3 3", "3 3",     "3 3",     "3 3"),
    "C":         ("3 3",   "3 3", "3 3 1",   "3 3 1",   "3 3 1"),
    "D":         ("3 3",   "3 3", "3 3 3",   "3 3 3",   "3 3 3"),
    "E":         ("3 3",   "3 3", "3 3 3 3", "3 3 3 3", "3 3 3 3"),
}
# fmt: on


class ResponseNorm(nn.Module):
    """b_i = a_i / (2 + 1e-4 sum_j a_j^2)^0.75, j from i - 2 to i + 2 [Krizhevsky 2012, section 3.3]."""

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        squares = (0.01 * a).square()  # scaled first, since squares of half precision overflow at 256
        squares = F.pad(squares, (0, 0, 0, 0, 2, 2))  # (N, C + 4, H, W)
        total = reduce(torch.add, (squares.narrow(1, first, a.shape[1]) for first in range(5)))
        return a * (2 + total) ** -0.75  # (N, C, H, W)


@torch.fx.wrap
def check_size(images: torch.Tensor) -> None:
    """Raise `ValueError` if the images (N, C, H, W) leave nothing to pool5; a leaf to tracers."""
    height, width = images.shape[-2:]
    if height < 32 or width < 32:
        raise ValueError(f"VGG needs images of at least 32 pixels a side, not {height} x {width}")


class VGG(nn.Module):
    """Convolutions `conv1_1` to `conv5_4`, pooling `pool1` to `pool5`, fully connected `fc6` to `fc8`.

    torchvision's feature extractor takes the end of such a name for a count of its own, and calls the nodes of conv1_1
    and conv1_2 conv1 and conv1_1; a forward hook on the attribute has no such surprise.

    Args:
        configuration: a key of `CONFIGURATIONS`.
        num_classes: length of the logits.
        in_channels: channels of the images.
        dropout: probability of dropping a unit of fc6 and of fc7.
        batch_norm: whether `bn1_1`, ... follow the convolutions.
    """

    def __init__(
        self, configuration: str, num_classes: int, in_channels: int, dropout: float, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.layers: list[list[str]] = []  # the names of each stage's layers, in their order
        channels = in_channels
        for stage, (column, maps) in enumerate(zip(CONFIGURATIONS[configuration], MAPS, strict=True), start=1):
            self.layers.append([])
            for position, symbol in enumerate(column.split(), start=1):
                if symbol == "LRN":
                    self._append(f"norm{stage}", ResponseNorm())
                    continue
                kernel = int(symbol)
                self._append(f"conv{stage}_{position}", nn.Conv2d(channels, maps, kernel, padding=kernel // 2))
                if batch_norm:
                    self._append(f"bn{stage}_{position}", nn.BatchNorm2d(maps))
                self._append(f"relu{stage}_{position}", nn.ReLU())
                channels = maps
            self._append(f"pool{stage}", nn.MaxPool2d(2))
        self.average = nn.AdaptiveAvgPool2d(7)
        self.fc6 = nn.Linear(512 * 7 * 7, 4096)
        self.dropout6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.dropout7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(4096, num_classes)
        self._initialise(shallow=configuration in ("A", "A-LRN"))

    def _append(self, name: str, layer: nn.Module) -> None:
        self.add_module(name, layer)
        self.layers[-1].append(name)

    def _initialise(self, shallow: bool) -> None:
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                assert layer.bias is not None
                if shallow:
                    nn.init.normal_(layer.weight, std=0.01)
                else:
                    nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def _stage(self, stage: int, x: torch.Tensor) -> torch.Tensor:
        for name in self.layers[stage - 1]:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = self._stage(1, images)  # (N, 64, 112, 112)
        x = self._stage(2, x)  # (N, 128, 56, 56)
        x = self._stage(3, x)  # (N, 256, 28, 28)
        x = self._stage(4, x)  # (N, 512, 14, 14)
        x = self._stage(5, x)  # (N, 512, 7, 7)
        x = self.average(x).flatten(1)  # (N, 25088)
        x = self.dropout6(F.relu(self.fc6(x)))  # (N, 4096)
        x = self.dropout7(F.relu(self.fc7(x)))  # (N, 4096)
        logits: torch.Tensor = self.fc8(x)  # (N, num_classes)
        return logits


def vgg11(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration A: 132,863,336 parameters."""
    return VGG("A", num_classes, in_channels, dropout)


def vgg11_lrn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration A-LRN: 132,863,336 parameters."""
    return VGG("A-LRN", num_classes, in_channels, dropout)


def vgg13(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration B: 133,047,848 parameters."""
    return VGG("B", num_classes, in_channels, dropout)


def vgg16_c(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration C: 133,638,952 parameters."""
    return VGG("C", num_classes, in_channels, dropout)


def vgg16(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration D: 138,357,544 parameters."""
    return VGG("D", num_classes, in_channels, dropout)


def vgg19(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration E: 143,667,240 parameters."""
    return VGG("E", num_classes, in_channels, dropout)


def vgg11_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration A with batch normalisation: 132,868,840 parameters."""
    return VGG("A", num_classes, in_channels, dropout, batch_norm=True)


def vgg13_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration B with batch normalisation: 133,053,736 parameters."""
    return VGG("B", num_classes, in_channels, dropout, batch_norm=True)


def vgg16_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration D with batch normalisation: 138,365,992 parameters."""
    return VGG("D", num_classes, in_channels, dropout, batch_norm=True)


def vgg19_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Configuration E with batch normalisation: 143,678,248 parameters."""
    return VGG("E", num_classes, in_channels, dropout, batch_norm=True)
