"""ResNet for images of 32x32 pixels, plain networks, and residual networks with pre-activation.

Papers:
- He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385, section 4.2, for `resnet20`
  to `resnet1202` and `plain20` to `plain56`;
- He, Zhang, Ren, Sun 2016, Identity Mappings in Deep Residual Networks, arXiv 1603.05027, section 4 and the appendix,
  for `preact_resnet110`, `preact_resnet164` and `preact_resnet1001`.

Input: a colour image of 32x32 pixels less the training images' mean at each pixel.

This is where the networks differ from the papers, or where the papers leave a choice:
- the stages are called conv1 to conv4_x as in the first paper's Table 1. Section 4.2 gives only their sides and their
  numbers of filters;
- option A puts half of its zero channels before the others and half behind them. The papers say only that there are
  zeros;
- weights start from N(0, 2/n), where n is the number of inputs of a unit [He 2015, arXiv 1502.01852, eq. 10]. This
  holds for the last layer, too. That paper also allows n to be the number of outputs. The scales of the batch norms
  start at one, and their shifts at zero;
- convolutions have no biases, since the shift of the batch norm behind each takes their place, and the batch norms have
  torch's epsilon (1e-5) and momentum (0.1). The papers give none of them;
- every residual network offers `shortcut="B"`. The projections of `preact_resnet110` are then those of the appendix;
- the networks accept images of other sizes (at least 4 pixels), since conv4_x is averaged whatever its size.

Pre-activation is that of the appendix and of the authors' code: the first block has one activation for both of its
paths, projections see the activated input and have no batch norm, an activation follows the last addition, and the
first 1x1 of a three-layer block has its stride.
"""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from .network import Network, builder


@torch.fx.wrap
def check_size(images: torch.Tensor) -> None:
    """Raise `ValueError` if the images (N, C, H, W) leave conv4_x less than a pixel. Tracers do not look inside."""
    height, width = images.shape[-2:]
    if height < 4 or width < 4:
        raise ValueError(f"this ResNet needs images of at least 4 pixels a side, not {height} x {width}")


def check_shortcut(shortcut: str) -> None:
    """Raise `ValueError` unless the shortcut is one that these networks have."""
    if shortcut not in ("A", "B"):
        raise ValueError(f"shortcut must be option A or B of the paper, not {shortcut!r}; the ImageNet ResNets have C")


class ZeroPadding(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the channels that are new [He 2015, section 3.3]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.behind = out_channels - in_channels - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))

    def extra_repr(self) -> str:
        """The numbers that the layer was made with."""
        return f"stride={self.stride}, before={self.before}, behind={self.behind}"


def make_shortcut(shortcut: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut of a block by the paper's option A or B; `ValueError` for another one [He 2015, section 4.1]."""
    check_shortcut(shortcut)
    if in_channels == out_channels:
        return nn.Identity()
    if shortcut == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class PlainBlock(nn.Module):
    """Two layers of 3x3 [He 2015, section 4.2]."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y)


class Block(PlainBlock):
    """Two layers of 3x3 with a shortcut around them [He 2015, Fig. 2]."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__(in_channels, channels, stride)
        self.shortcut = make_shortcut(shortcut, in_channels, channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y + self.shortcut(x)
        return F.relu(y)  # after the addition


def make_preact_shortcut(shortcut: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut of a block with pre-activation. A projection has no batch norm [He 2016, appendix]."""
    check_shortcut(shortcut)
    if in_channels == out_channels:
        return nn.Identity()
    if shortcut == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class PreactBlock(nn.Module):
    """Two layers of 3x3, each after its activation [He 2016, Fig. 1b].

    `shares` says whether the shortcut, too, starts behind the first activation. It does in the `first` block of the
    network, and where it is a projection.
    """

    layers = 2
    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str, first: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = make_preact_shortcut(shortcut, in_channels, channels, stride)
        self.shares = first or isinstance(self.shortcut, nn.Conv2d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(F.relu(self.bn2(y)))
        total: torch.Tensor = y + self.shortcut(a if self.shares else x)
        return total

    def extra_repr(self) -> str:
        """Where the shortcut starts."""
        return f"shares={self.shares}"


class PreactBottleneck(nn.Module):
    """Layers of 1x1, 3x3 and 1x1, each after its activation [He 2016, appendix]; `shares` as in `PreactBlock`."""

    layers = 3
    expansion = 4  # the last layer has four times the channels of the other two [He 2016, section 4]

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str, first: bool) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.shortcut = make_preact_shortcut(shortcut, in_channels, out_channels, stride)
        self.shares = first or isinstance(self.shortcut, nn.Conv2d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(F.relu(self.bn2(y)))
        y = self.conv3(F.relu(self.bn3(y)))
        total: torch.Tensor = y + self.shortcut(a if self.shares else x)
        return total

    def extra_repr(self) -> str:
        """Where the shortcut starts."""
        return f"shares={self.shares}"


def initialise(network: nn.Module) -> None:
    """Weights from N(0, 2/n), where n is a unit's number of inputs; biases zero [He 2015, arXiv 1502.01852, eq. 10]."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class CifarResNet(Network):
    """Layers `conv1`, `conv2_x` to `conv4_x`, `fc`: 6n + 2 in all [He 2015, section 4.2].

    Args:
        depth: number of layers, 6n + 2.
        num_classes: length of the logits.
        in_channels: channels of the images.
        shortcut: option A or B. Where the output of a block has another shape than its input, the shortcut of "A"
            fills up with zeros and that of "B" is a projection.

    Raises:
        ValueError: another shortcut.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> None:
        super().__init__()
        self.shortcut = shortcut
        self.num_features = 64
        n = (depth - 2) // 6  # blocks of a stage
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2_x = self._stage(n, 16, 16, stride=1)
        self.conv3_x = self._stage(n, 16, 32, stride=2)
        self.conv4_x = self._stage(n, 32, 64, stride=2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        initialise(self)

    def _stage(self, blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
        stage = nn.Sequential(self._block(in_channels, channels, stride))
        for _ in range(blocks - 1):
            stage.append(self._block(channels, channels, stride=1))
        return stage

    def _block(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        return Block(in_channels, channels, stride, self.shortcut)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = F.relu(self.bn1(self.conv1(images)))  # (N, 16, 32, 32)
        x = self.conv2_x(x)  # (N, 16, 32, 32)
        x = self.conv3_x(x)  # (N, 32, 16, 16)
        features: torch.Tensor = self.conv4_x(x)  # (N, 64, 8, 8)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = self.average(features).flatten(1)  # (N, 64)
        logits: torch.Tensor = self.fc(x)  # (N, num_classes)
        return logits


class CifarPlainNet(CifarResNet):
    """The layers of a `CifarResNet` without shortcuts [He 2015, section 4.2]."""

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__(depth, num_classes, in_channels)

    def _block(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        return PlainBlock(in_channels, channels, stride)


class PreactResNet(Network):
    """Layers `conv1`, `conv2_x` to `conv4_x`, `fc`, and the activation `bn` before the average [He 2016, section 4].

    Args:
        depth: number of layers, 6n + 2 of two-layer blocks or 9n + 2 of three-layer blocks.
        block: the kind of block.
        num_classes: length of the logits.
        in_channels: channels of the images.
        shortcut: option A or B. Where the output of a block has another shape than its input, the shortcut of "A"
            fills up with zeros and that of "B" is a projection.

    Raises:
        ValueError: another shortcut.
    """

    def __init__(
        self,
        depth: int,
        block: type[PreactBlock] | type[PreactBottleneck],
        num_classes: int,
        in_channels: int,
        shortcut: str,
    ) -> None:
        super().__init__()
        self.block, self.shortcut = block, shortcut
        self.num_features = block.expansion * 64
        n = (depth - 2) // (3 * block.layers)  # blocks of a stage
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.conv2_x = self._stage(n, 16, 16, stride=1)
        self.conv3_x = self._stage(n, block.expansion * 16, 32, stride=2)
        self.conv4_x = self._stage(n, block.expansion * 32, 64, stride=2)
        self.bn = nn.BatchNorm2d(self.num_features)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.num_features, num_classes)
        initialise(self)

    def _stage(self, blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
        stage = nn.Sequential(self.block(in_channels, channels, stride, self.shortcut, first=stride == 1))
        for _ in range(blocks - 1):
            stage.append(self.block(self.block.expansion * channels, channels, 1, self.shortcut, first=False))
        return stage

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = self.conv1(images)  # (N, 16, 32, 32)
        x = self.conv2_x(x)  # (N, 16, 32, 32), of three-layer blocks (N, 64, 32, 32)
        x = self.conv3_x(x)  # (N, 32, 16, 16) or (N, 128, 16, 16)
        x = self.conv4_x(x)  # (N, 64, 8, 8) or (N, 256, 8, 8)
        return F.relu(self.bn(x))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = self.average(features).flatten(1)  # (N, 64) or (N, 256)
        logits: torch.Tensor = self.fc(x)  # (N, num_classes)
        return logits


resnet20 = builder(CifarResNet, 20, "ResNet-20: 269,722 parameters with option A.")
resnet32 = builder(CifarResNet, 32, "ResNet-32: 464,154 parameters with option A.")
resnet44 = builder(CifarResNet, 44, "ResNet-44: 658,586 parameters with option A.")
resnet56 = builder(CifarResNet, 56, "ResNet-56: 853,018 parameters with option A.")
resnet110 = builder(CifarResNet, 110, "ResNet-110: 1,727,962 parameters with option A.")
resnet1202 = builder(CifarResNet, 1202, "ResNet-1202: 19,421,274 parameters with option A.")
plain20 = builder(CifarPlainNet, 20, "20 layers without shortcuts: 269,722 parameters.")
plain32 = builder(CifarPlainNet, 32, "32 layers without shortcuts: 464,154 parameters.")
plain44 = builder(CifarPlainNet, 44, "44 layers without shortcuts: 658,586 parameters.")
plain56 = builder(CifarPlainNet, 56, "56 layers without shortcuts: 853,018 parameters.")


def preact_resnet110(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> PreactResNet:
    """ResNet-110 of two-layer blocks with pre-activation: 1,727,962 parameters with option A."""
    return PreactResNet(110, PreactBlock, num_classes, in_channels, shortcut)


def preact_resnet164(num_classes: int = 10, in_channels: int = 3, shortcut: str = "B") -> PreactResNet:
    """ResNet-164 of three-layer blocks with pre-activation: 1,703,258 parameters with option B."""
    return PreactResNet(164, PreactBottleneck, num_classes, in_channels, shortcut)


def preact_resnet1001(num_classes: int = 10, in_channels: int = 3, shortcut: str = "B") -> PreactResNet:
    """ResNet-1001 of three-layer blocks with pre-activation: 10,327,706 parameters with option B."""
    return PreactResNet(1001, PreactBottleneck, num_classes, in_channels, shortcut)
