"""ResNet: residual networks for ImageNet, and the plain networks that they are compared with.

Paper: He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385, sections 3 and 4.1.
Input: a colour image of 224x224 pixels less the training images' mean.

`resnet50_2015`, `resnet101_2015`, `resnet152_2015` and every network of two-layer blocks are the paper's. Where they
had to choose, or depart from it:
- weights start from N(0, 2/n), n being the inputs of a unit [He 2015, arXiv 1502.01852, eq. 10], the last layer's too;
  that paper allows n to be the outputs instead, and scales and shifts of the batch norms start at one and zero;
- the maximum after conv1 is padded by one pixel on each side, which gives the table's 56 positions;
- option A puts half of its zero maps before and half behind the others; the paper says only that there are zeros;
- images of other sizes (at least 32 pixels) are accepted, since conv5_x is averaged whatever its size.

`resnet50`, `resnet101` and `resnet152` are the form of the weights that the ecosystem has, often called v1.5:
- the 3x3 convolution of a block that halves the side has the stride of two instead of the 1x1 before it.
"""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

# Layers of a block, and blocks of conv2_x to conv5_x [He 2015, Table 1].
LAYERS = {
    18: (2, (2, 2, 2, 2)),
    34: (2, (3, 4, 6, 3)),
    50: (3, (3, 4, 6, 3)),
    101: (3, (3, 4, 23, 3)),
    152: (3, (3, 8, 36, 3)),
}
# Maps of conv2_x to conv5_x; the last layer of a three-layer block has four times as many [He 2015, Table 1].
MAPS = (64, 128, 256, 512)


@torch.fx.wrap
def check_size(images: torch.Tensor) -> None:
    """Raise `ValueError` if the images (N, C, H, W) leave conv5_x less than a pixel; a leaf to tracers."""
    height, width = images.shape[-2:]
    if height < 32 or width < 32:
        raise ValueError(f"ResNet needs images of at least 32 pixels a side, not {height} x {width}")


class ZeroPadding(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the maps that are new [He 2015, section 3.3]."""

    def __init__(self, in_maps: int, out_maps: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_maps - in_maps) // 2
        self.behind = out_maps - in_maps - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


def shortcut_of(option: str | None, in_maps: int, out_maps: int, stride: int) -> nn.Module | None:
    """The shortcut of a block by the paper's option, None for a plain network's [He 2015, section 4.1]."""
    if option is None:
        return None
    changes = stride != 1 or in_maps != out_maps
    if option == "A" and changes:
        return ZeroPadding(in_maps, out_maps, stride)
    if option == "C" or (option == "B" and changes):
        return nn.Sequential(nn.Conv2d(in_maps, out_maps, 1, stride, bias=False), nn.BatchNorm2d(out_maps))
    return nn.Identity()


class Block(nn.Module):
    """Two layers of 3x3 [He 2015, Fig. 5 left], or of a plain network if `option` is None [He 2015, Fig. 3 middle]."""

    def __init__(self, in_maps: int, maps: int, stride: int, option: str | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_maps, maps, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps)
        self.shortcut = shortcut_of(option, in_maps, maps, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            y += self.shortcut(x)
        return F.relu(y, inplace=True)  # after the addition


class Bottleneck(nn.Module):
    """Layers of 1x1, 3x3 and 1x1 [He 2015, Fig. 5 right]; `strided` names the one that has the stride."""

    def __init__(self, in_maps: int, maps: int, stride: int, option: str | None, strided: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_maps, maps, 1, stride if strided == "1x1" else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, stride if strided == "3x3" else 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps)
        self.conv3 = nn.Conv2d(maps, 4 * maps, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * maps)
        self.shortcut = shortcut_of(option, in_maps, 4 * maps, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        if self.shortcut is not None:
            y += self.shortcut(x)
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """Layers `conv1`, `conv2_x` to `conv5_x`, `fc` [He 2015, Table 1].

    Args:
        depth: a key of `LAYERS`.
        num_classes: length of the logits.
        in_channels: channels of the images.
        shortcut: option "A", zero maps where there are more; "B", projections there; "C", projections everywhere.
        strided: the layer of a three-layer block that has its stride, "1x1" (the first) or "3x3".
        plain: whether there are no shortcuts at all.

    Raises:
        ValueError: another shortcut.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        in_channels: int,
        shortcut: str = "B",
        strided: str = "3x3",
        plain: bool = False,
    ) -> None:
        super().__init__()
        if shortcut not in ("A", "B", "C"):
            raise ValueError(f"shortcut must be option A, B or C of the paper, not {shortcut!r}")
        self.option, self.strided = None if plain else shortcut, strided
        self.layers, blocks = LAYERS[depth]
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        widen = 4 if self.layers == 3 else 1
        self.conv2_x = self._stage(64, MAPS[0], blocks[0], stride=1)
        self.conv3_x = self._stage(widen * MAPS[0], MAPS[1], blocks[1], stride=2)
        self.conv4_x = self._stage(widen * MAPS[1], MAPS[2], blocks[2], stride=2)
        self.conv5_x = self._stage(widen * MAPS[2], MAPS[3], blocks[3], stride=2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widen * MAPS[3], num_classes)
        self._initialise()

    def _stage(self, in_maps: int, maps: int, blocks: int, stride: int) -> nn.Sequential:
        stage = nn.Sequential()
        for block in range(blocks):
            step = stride if block == 0 else 1
            if self.layers == 2:
                stage.append(Block(in_maps, maps, step, self.option))
                in_maps = maps
            else:
                stage.append(Bottleneck(in_maps, maps, step, self.option, self.strided))
                in_maps = 4 * maps
        return stage

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)  # (N, 64, 112, 112)
        x = self.pool1(x)  # (N, 64, 56, 56)
        x = self.conv2_x(x)  # (N, 64, 56, 56), of three-layer blocks (N, 256, 56, 56)
        x = self.conv3_x(x)  # (N, 128, 28, 28) or (N, 512, 28, 28)
        x = self.conv4_x(x)  # (N, 256, 14, 14) or (N, 1024, 14, 14)
        x = self.conv5_x(x)  # (N, 512, 7, 7) or (N, 2048, 7, 7)
        x = self.average(x).flatten(1)  # (N, 512) or (N, 2048)
        logits: torch.Tensor = self.fc(x)  # (N, num_classes)
        return logits


def plain18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """18 layers without shortcuts: 11,515,688 parameters."""
    return ResNet(18, num_classes, in_channels, plain=True)


def plain34(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """34 layers without shortcuts: 21,623,848 parameters."""
    return ResNet(34, num_classes, in_channels, plain=True)


def resnet18(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-18: 11,689,512 parameters with option B."""
    return ResNet(18, num_classes, in_channels, shortcut)


def resnet34(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-34: 21,797,672 parameters with option B."""
    return ResNet(34, num_classes, in_channels, shortcut)


def resnet50(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-50 v1.5, stride on the 3x3: 25,557,032 parameters with option B."""
    return ResNet(50, num_classes, in_channels, shortcut, strided="3x3")


def resnet101(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-101 v1.5, stride on the 3x3: 44,549,160 parameters with option B."""
    return ResNet(101, num_classes, in_channels, shortcut, strided="3x3")


def resnet152(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-152 v1.5, stride on the 3x3: 60,192,808 parameters with option B."""
    return ResNet(152, num_classes, in_channels, shortcut, strided="3x3")


def resnet50_2015(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-50 of the paper, stride on the first 1x1: 25,557,032 parameters with option B."""
    return ResNet(50, num_classes, in_channels, shortcut, strided="1x1")


def resnet101_2015(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-101 of the paper, stride on the first 1x1: 44,549,160 parameters with option B."""
    return ResNet(101, num_classes, in_channels, shortcut, strided="1x1")


def resnet152_2015(num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> ResNet:
    """ResNet-152 of the paper, stride on the first 1x1: 60,192,808 parameters with option B."""
    return ResNet(152, num_classes, in_channels, shortcut, strided="1x1")
