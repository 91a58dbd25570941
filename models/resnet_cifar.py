"""ResNet for images of 32x32 pixels, plain networks, and residual networks with pre-activation.

Papers:
- He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385, section 4.2, for `resnet20`
  to `resnet1202` and `plain20` to `plain56`;
- He, Zhang, Ren, Sun 2016, Identity Mappings in Deep Residual Networks, arXiv 1603.05027, section 4 and the appendix,
  for `preact_resnet110`, `preact_resnet164` and `preact_resnet1001`.

Input: a colour image of 32x32 pixels less the training images' mean at each pixel.

Where the papers leave a choice, or the zoo departs from them:
- the stages are called conv1 to conv4_x as in the first paper's Table 1; section 4.2 gives only their sides and maps;
- option A puts half of its zero maps before and half behind the others; the papers say only that there are zeros;
- weights start from N(0, 2/n), n being the inputs of a unit [He 2015, arXiv 1502.01852, eq. 10], the last layer's too;
  that paper allows n to be the outputs instead, and scales and shifts of the batch norms start at one and zero;
- `shortcut="B"` is offered for every network, and projections of `preact_resnet110` are then those of the appendix;
- images of other sizes (at least 4 pixels) are accepted, since conv4_x is averaged whatever its size.

Pre-activation as the appendix and the authors' code have it: the first block is entered by one activation for both of
its paths, projections see the activated input and have no batch norm, an activation follows the last addition, and the
first 1x1 of a three-layer block has its stride.
"""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

# conv2_x, conv3_x and conv4_x have 2n layers each, of a side of 32, 16 and 8 [He 2015, section 4.2].
MAPS = (16, 32, 64)
# Three-layer blocks put out four times as many maps [He 2016, section 4].
WIDEN = 4


@torch.fx.wrap
def check_size(images: torch.Tensor) -> None:
    """Raise `ValueError` if the images (N, C, H, W) leave conv4_x less than a pixel; a leaf to tracers."""
    height, width = images.shape[-2:]
    if height < 4 or width < 4:
        raise ValueError(f"this ResNet needs images of at least 4 pixels a side, not {height} x {width}")


def check_option(shortcut: str) -> None:
    """Raise `ValueError` unless the shortcut is one that these networks have."""
    if shortcut not in ("A", "B"):
        raise ValueError(f"shortcut must be option A or B of the paper, not {shortcut!r}; the ImageNet ResNets have C")


class ZeroPadding(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the maps that are new [He 2015, section 3.3]."""

    def __init__(self, in_maps: int, out_maps: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_maps - in_maps) // 2
        self.behind = out_maps - in_maps - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


class Block(nn.Module):
    """Two layers of 3x3 [He 2015, Fig. 2], without a shortcut if `option` is None."""

    def __init__(self, in_maps: int, maps: int, stride: int, option: str | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_maps, maps, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps)
        self.shortcut: nn.Module | None = None if option is None else nn.Identity()
        if option == "A" and in_maps != maps:
            self.shortcut = ZeroPadding(in_maps, maps, stride)
        elif option == "B" and in_maps != maps:
            self.shortcut = nn.Sequential(nn.Conv2d(in_maps, maps, 1, stride, bias=False), nn.BatchNorm2d(maps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return F.relu(y)  # after the addition


def preact_shortcut(option: str, in_maps: int, out_maps: int, stride: int) -> nn.Module:
    """The shortcut of a block with pre-activation; a projection has no batch norm [He 2016, appendix]."""
    if in_maps == out_maps:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(in_maps, out_maps, stride)
    return nn.Conv2d(in_maps, out_maps, 1, stride, bias=False)


class PreactBlock(nn.Module):
    """Two layers of 3x3, each after its activation [He 2016, Fig. 1b].

    `shares` says whether the shortcut starts behind the first activation, too.
    """

    def __init__(self, in_maps: int, maps: int, stride: int, option: str, first: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_maps)
        self.conv1 = nn.Conv2d(in_maps, maps, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.shortcut = preact_shortcut(option, in_maps, maps, stride)
        self.shares = first or isinstance(self.shortcut, nn.Conv2d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(F.relu(self.bn2(y)))
        total: torch.Tensor = y + self.shortcut(a if self.shares else x)
        return total


class PreactBottleneck(nn.Module):
    """Layers of 1x1, 3x3 and 1x1, each after its activation [He 2016, appendix]; `shares` as in `PreactBlock`."""

    def __init__(self, in_maps: int, maps: int, stride: int, option: str, first: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_maps)
        self.conv1 = nn.Conv2d(in_maps, maps, 1, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(maps)
        self.conv3 = nn.Conv2d(maps, WIDEN * maps, 1, bias=False)
        self.shortcut = preact_shortcut(option, in_maps, WIDEN * maps, stride)
        self.shares = first or isinstance(self.shortcut, nn.Conv2d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(F.relu(self.bn2(y)))
        y = self.conv3(F.relu(self.bn3(y)))
        total: torch.Tensor = y + self.shortcut(a if self.shares else x)
        return total


def initialise(network: nn.Module) -> None:
    """Weights from N(0, 2/n), n being the inputs of a unit; biases zero [He 2015, arXiv 1502.01852, eq. 10]."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class CifarResNet(nn.Module):
    """Layers `conv1`, `conv2_x` to `conv4_x`, `fc`: 6n + 2 in all [He 2015, section 4.2].

    Args:
        depth: number of layers, 6n + 2.
        num_classes: length of the logits.
        in_channels: channels of the images.
        shortcut: option "A", zero maps where there are more, or "B", projections there.
        plain: whether there are no shortcuts at all.

    Raises:
        ValueError: another shortcut.
    """

    def __init__(
        self, depth: int, num_classes: int, in_channels: int, shortcut: str = "A", plain: bool = False
    ) -> None:
        super().__init__()
        check_option(shortcut)
        self.option = None if plain else shortcut
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2_x = self._stage(16, MAPS[0], n, stride=1)
        self.conv3_x = self._stage(MAPS[0], MAPS[1], n, stride=2)
        self.conv4_x = self._stage(MAPS[1], MAPS[2], n, stride=2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(MAPS[2], num_classes)
        initialise(self)

    def _stage(self, in_maps: int, maps: int, blocks: int, stride: int) -> nn.Sequential:
        first = Block(in_maps, maps, stride, self.option)
        return nn.Sequential(first, *(Block(maps, maps, 1, self.option) for _ in range(blocks - 1)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = F.relu(self.bn1(self.conv1(images)))  # (N, 16, 32, 32)
        x = self.conv2_x(x)  # (N, 16, 32, 32)
        x = self.conv3_x(x)  # (N, 32, 16, 16)
        x = self.conv4_x(x)  # (N, 64, 8, 8)
        x = self.average(x).flatten(1)  # (N, 64)
        logits: torch.Tensor = self.fc(x)  # (N, num_classes)
        return logits


class PreactResNet(nn.Module):
    """Layers `conv1`, `conv2_x` to `conv4_x`, `fc`, and the activation `bn` before the average [He 2016, section 4].

    Args:
        depth: number of layers, 6n + 2 of two-layer blocks or 9n + 2 of three-layer blocks.
        block_layers: 2 or 3.
        num_classes: length of the logits.
        in_channels: channels of the images.
        shortcut: option "A", zero maps where there are more, or "B", projections there.

    Raises:
        ValueError: another shortcut.
    """

    def __init__(self, depth: int, block_layers: int, num_classes: int, in_channels: int, shortcut: str) -> None:
        super().__init__()
        check_option(shortcut)
        self.option = shortcut
        self.block = PreactBlock if block_layers == 2 else PreactBottleneck
        widen = 1 if block_layers == 2 else WIDEN
        n = (depth - 2) // (3 * block_layers)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.conv2_x = self._stage(16, widen, MAPS[0], n, stride=1)
        self.conv3_x = self._stage(widen * MAPS[0], widen, MAPS[1], n, stride=2)
        self.conv4_x = self._stage(widen * MAPS[1], widen, MAPS[2], n, stride=2)
        self.bn = nn.BatchNorm2d(widen * MAPS[2])
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widen * MAPS[2], num_classes)
        initialise(self)

    def _stage(self, in_maps: int, widen: int, maps: int, blocks: int, stride: int) -> nn.Sequential:
        stage = nn.Sequential(self.block(in_maps, maps, stride, self.option, first=stride == 1))
        for _ in range(blocks - 1):
            stage.append(self.block(widen * maps, maps, 1, self.option, first=False))
        return stage

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = self.conv1(images)  # (N, 16, 32, 32)
        x = self.conv2_x(x)  # (N, 16, 32, 32), of three-layer blocks (N, 64, 32, 32)
        x = self.conv3_x(x)  # (N, 32, 16, 16) or (N, 128, 16, 16)
        x = self.conv4_x(x)  # (N, 64, 8, 8) or (N, 256, 8, 8)
        x = F.relu(self.bn(x))
        x = self.average(x).flatten(1)  # (N, 64) or (N, 256)
        logits: torch.Tensor = self.fc(x)  # (N, num_classes)
        return logits


def resnet20(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """ResNet-20: 269,722 parameters with option A."""
    return CifarResNet(20, num_classes, in_channels, shortcut)


def resnet32(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """ResNet-32: 464,154 parameters with option A."""
    return CifarResNet(32, num_classes, in_channels, shortcut)


def resnet44(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """ResNet-44: 658,586 parameters with option A."""
    return CifarResNet(44, num_classes, in_channels, shortcut)


def resnet56(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """ResNet-56: 853,018 parameters with option A."""
    return CifarResNet(56, num_classes, in_channels, shortcut)


def resnet110(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """ResNet-110: 1,727,962 parameters with option A."""
    return CifarResNet(110, num_classes, in_channels, shortcut)


def resnet1202(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """ResNet-1202: 19,421,274 parameters with option A."""
    return CifarResNet(1202, num_classes, in_channels, shortcut)


def plain20(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """20 layers without shortcuts: 269,722 parameters."""
    return CifarResNet(20, num_classes, in_channels, plain=True)


def plain32(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """32 layers without shortcuts: 464,154 parameters."""
    return CifarResNet(32, num_classes, in_channels, plain=True)


def plain44(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """44 layers without shortcuts: 658,586 parameters."""
    return CifarResNet(44, num_classes, in_channels, plain=True)


def plain56(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """56 layers without shortcuts: 853,018 parameters."""
    return CifarResNet(56, num_classes, in_channels, plain=True)


def preact_resnet110(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> PreactResNet:
    """ResNet-110 of two-layer blocks with pre-activation: 1,727,962 parameters."""
    return PreactResNet(110, 2, num_classes, in_channels, shortcut)


def preact_resnet164(num_classes: int = 10, in_channels: int = 3, shortcut: str = "B") -> PreactResNet:
    """ResNet-164 of three-layer blocks with pre-activation: 1,703,258 parameters."""
    return PreactResNet(164, 3, num_classes, in_channels, shortcut)


def preact_resnet1001(num_classes: int = 10, in_channels: int = 3, shortcut: str = "B") -> PreactResNet:
    """ResNet-1001 of three-layer blocks with pre-activation: 10,327,706 parameters."""
    return PreactResNet(1001, 3, num_classes, in_channels, shortcut)
