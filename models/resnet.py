"""ResNet: residual networks for ImageNet, and the plain networks that they are compared with.

Paper: He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385, sections 3 and 4.1.
Input: a colour image of 224x224 pixels less the training images' mean.

`resnet50_2015`, `resnet101_2015`, `resnet152_2015` and every network of two-layer blocks are the paper's. This is where
they differ from the paper, or where the paper leaves a choice:
- weights start from N(0, 2/n), where n is the number of inputs of a unit [He 2015, arXiv 1502.01852, eq. 10]. This
  holds for the last layer, too. That paper also allows n to be the number of outputs. The scales of the batch norms
  start at one, and their shifts at zero;
- convolutions have no biases, since the shift of the batch norm behind each takes their place, and the batch norms have
  torch's epsilon (1e-5) and momentum (0.1). The paper gives none of them;
- the maximum after conv1 is padded by one pixel on each side, which gives the 56 positions of the table;
- option A puts half of its zero channels before the others and half behind them. The paper says only that there are
  zeros;
- the networks accept images of other sizes (at least 32 pixels), since conv5_x is averaged whatever its size.

`resnet50`, `resnet101` and `resnet152` have the form of the ecosystem's weights, which is often called v1.5:
- a three-layer block that halves the side does so in its 3x3 convolution instead of the 1x1 before it.
"""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from .network import Network, builder

# Depth: layers of a block, and the number of blocks in conv2_x to conv5_x [He 2015, Table 1].
LAYERS = {
    18: (2, (2, 2, 2, 2)),
    34: (2, (3, 4, 6, 3)),
    50: (3, (3, 4, 6, 3)),
    101: (3, (3, 4, 23, 3)),
    152: (3, (3, 8, 36, 3)),
}
# The last layer of a three-layer block has four times the channels of the other two [He 2015, Table 1].
EXPANSION = 4


@torch.fx.wrap
def check_size(images: torch.Tensor) -> None:
    """Raise `ValueError` if the images (N, C, H, W) leave conv5_x less than a pixel. Tracers do not look inside."""
    height, width = images.shape[-2:]
    if height < 32 or width < 32:
        raise ValueError(f"ResNet needs images of at least 32 pixels a side, not {height} x {width}")


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
    """The shortcut of a block by the paper's option A, B or C; `ValueError` for another one [He 2015, section 4.1]."""
    if shortcut not in ("A", "B", "C"):
        raise ValueError(f"shortcut must be option A, B or C of the paper, not {shortcut!r}")
    same = stride == 1 and in_channels == out_channels
    if shortcut == "A" and not same:
        return ZeroPadding(in_channels, out_channels, stride)
    if shortcut == "C" or (shortcut == "B" and not same):
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
    return nn.Identity()


class PlainBlock(nn.Module):
    """Two layers of 3x3 [He 2015, Fig. 3 middle]."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y, inplace=True)


class Block(PlainBlock):
    """Two layers of 3x3 with a shortcut around them [He 2015, Fig. 5 left]."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__(in_channels, channels, stride)
        self.shortcut = make_shortcut(shortcut, in_channels, channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)  # after the addition


class Bottleneck(nn.Module):
    """Layers of 1x1, 3x3 and 1x1 with a shortcut around them; `strided` names the one that has the stride.

    [He 2015, Fig. 5 right]
    """

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str, strided: str) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride if strided == "1x1" else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride if strided == "3x3" else 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)  # after the addition


class ResNet(Network):
    """Layers `conv1`, `conv2_x` to `conv5_x`, `fc` [He 2015, Table 1].

    Args:
        depth: a key of `LAYERS`.
        num_classes: length of the logits.
        in_channels: channels of the images.
        shortcut: option A, B or C. Where the output of a block has another shape than its input, the shortcut of "A"
            fills up with zeros and that of "B" is a projection. In "C" all shortcuts are projections.

    Raises:
        ValueError: another shortcut.
    """

    strided = "3x3"  # the layer that has the stride of a three-layer block

    def __init__(self, depth: int, num_classes: int = 1000, in_channels: int = 3, shortcut: str = "B") -> None:
        super().__init__()
        self.shortcut = shortcut
        self.layers, blocks = LAYERS[depth]
        self.expansion = EXPANSION if self.layers == 3 else 1
        self.num_features = self.expansion * 512
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2_x = self._stage(blocks[0], 64, 64, stride=1)
        self.conv3_x = self._stage(blocks[1], self.expansion * 64, 128, stride=2)
        self.conv4_x = self._stage(blocks[2], self.expansion * 128, 256, stride=2)
        self.conv5_x = self._stage(blocks[3], self.expansion * 256, 512, stride=2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.num_features, num_classes)
        self._initialise()

    def _stage(self, blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
        stage = nn.Sequential(self._block(in_channels, channels, stride))
        for _ in range(blocks - 1):
            stage.append(self._block(self.expansion * channels, channels, stride=1))
        return stage

    def _block(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        if self.layers == 2:
            return Block(in_channels, channels, stride, self.shortcut)
        return Bottleneck(in_channels, channels, stride, self.shortcut, self.strided)

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)  # (N, 64, 112, 112)
        x = self.pool1(x)  # (N, 64, 56, 56)
        x = self.conv2_x(x)  # (N, 64, 56, 56), of three-layer blocks (N, 256, 56, 56)
        x = self.conv3_x(x)  # (N, 128, 28, 28) or (N, 512, 28, 28)
        x = self.conv4_x(x)  # (N, 256, 14, 14) or (N, 1024, 14, 14)
        features: torch.Tensor = self.conv5_x(x)  # (N, 512, 7, 7) or (N, 2048, 7, 7)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = self.average(features).flatten(1)  # (N, 512) or (N, 2048)
        logits: torch.Tensor = self.fc(x)  # (N, num_classes)
        return logits


class ResNet2015(ResNet):
    """The paper's form of three-layer blocks: the first layer has the stride."""

    strided = "1x1"


class PlainNet(ResNet):
    """The layers of a ResNet without shortcuts [He 2015, Fig. 3 middle]."""

    def __init__(self, depth: int, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(depth, num_classes, in_channels)

    def _block(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        return PlainBlock(in_channels, channels, stride)


plain18 = builder(PlainNet, 18, "18 layers without shortcuts: 11,515,688 parameters.")
plain34 = builder(PlainNet, 34, "34 layers without shortcuts: 21,623,848 parameters.")
resnet18 = builder(ResNet, 18, "ResNet-18: 11,689,512 parameters with option B.")
resnet34 = builder(ResNet, 34, "ResNet-34: 21,797,672 parameters with option B.")
resnet50 = builder(ResNet, 50, "ResNet-50 v1.5, stride on the 3x3: 25,557,032 parameters with option B.")
resnet101 = builder(ResNet, 101, "ResNet-101 v1.5, stride on the 3x3: 44,549,160 parameters with option B.")
resnet152 = builder(ResNet, 152, "ResNet-152 v1.5, stride on the 3x3: 60,192,808 parameters with option B.")
resnet50_2015 = builder(ResNet2015, 50, "ResNet-50, stride on the first 1x1: 25,557,032 parameters with option B.")
resnet101_2015 = builder(ResNet2015, 101, "ResNet-101, stride on the first 1x1: 44,549,160 parameters with option B.")
resnet152_2015 = builder(ResNet2015, 152, "ResNet-152, stride on the first 1x1: 60,192,808 parameters with option B.")
