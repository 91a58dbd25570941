"""AlexNet: the network that won ILSVRC 2012, and its form on one tower of 2014.

Papers:
- Krizhevsky, Sutskever, Hinton 2012, ImageNet Classification with Deep Convolutional Neural Networks, sections 3 to 5,
  for `alexnet_2012`;
- Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997, for `alexnet`.

Input: a colour image of 224x224 pixels less the training images' mean.

`alexnet_2012` is the network on two GPUs. One sequence of layers holds the halves of both GPUs, as two groups of
channels. This is where it differs from the paper, or where the paper leaves a choice:
- section 3.5 needs 55x55 positions in conv1, which do not follow from 224 pixels, kernels of 11 and a stride of 4. The
  original code rounds up over the right and bottom edges, so three zeros are padded there;
- response normalisation sums alpha times the squares as the formula of section 3.3 does. The original code divides
  alpha by n, which makes it a fifth. The window crosses from one group to the other, since the formula's N is the
  number of all kernels of the layer;
- dropout doubles the units that it keeps. The paper's dropout halves every output at test time instead;
- the network accepts images of other sizes (at least 64 pixels), since pool5 is averaged to 6x6. At 224 pixels the
  average changes nothing.

`alexnet` has the form of the ecosystem's weights: 64-192-384-256-256 channels, no groups, no response normalisation,
and a conv1 that is padded by two pixels. Deviations from the paper of 2014:
- conv4 has 256 channels instead of 384;
- fc8 gives logits for softmax. The paper has 1,000 logistic units there, each of which answers for its class alone;
- dropout comes before fc6 and fc7 instead of after them;
- the initialisation is that of 2012, since the paper of 2014 says nothing of it;
- the network accepts images of other sizes (at least 63 pixels) in the same way.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from .network import Network


class ResponseNorm(nn.Module):
    """b_i = a_i / (k + alpha sum_j a_j^2)^beta, with j within n / 2 channels of i [Krizhevsky 2012, section 3.3].

    `torch.nn.LocalResponseNorm` divides alpha by n and has no half precision on the CPU.
    """

    def __init__(self, k: float = 2.0, n: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        self.k, self.n, self.alpha, self.beta = k, n, alpha, beta

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        squares = (self.alpha**0.5 * a).square()  # scaled first, since squares of half precision overflow at 256
        squares = F.pad(squares, (0, 0, 0, 0, self.n // 2, self.n // 2))  # (N, C + n - 1, H, W)
        total = reduce(torch.add, (squares.narrow(1, first, a.shape[1]) for first in range(self.n)))
        return a * (self.k + total) ** -self.beta  # (N, C, H, W)

    def extra_repr(self) -> str:
        """The constants of the formula."""
        return f"k={self.k}, n={self.n}, alpha={self.alpha}, beta={self.beta}"


def initialise(network: nn.Module) -> None:
    """Weights from N(0, 0.01^2); biases 1 in conv2, conv4, conv5, fc6 and fc7, else 0 [Krizhevsky 2012, section 5]."""
    for name, layer in network.named_children():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, 1.0 if name in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0.0)


@torch.fx.wrap
def check_size(images: torch.Tensor, smallest: int) -> None:
    """Raise `ValueError` if the images (N, C, H, W) have less than one pixel for every window of the last pooling."""
    height, width = images.shape[-2:]
    if height < smallest or width < smallest:
        raise ValueError(f"this AlexNet needs images of at least {smallest} pixels a side, not {height} x {width}")


class AlexNet2012(Network):
    """AlexNet on two GPUs: 60,965,224 parameters [Krizhevsky 2012, Fig. 2]."""

    num_features = 256

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, kernel_size=11, stride=4)
        self.norm1 = ResponseNorm()
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(96, 256, kernel_size=5, padding=2, groups=2)
        self.norm2 = ResponseNorm()
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(256, 384, kernel_size=3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, kernel_size=3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, kernel_size=3, padding=1, groups=2)
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.average = nn.AdaptiveAvgPool2d(6)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.dropout6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.dropout7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(4096, num_classes)
        initialise(self)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images, 64)
        x = F.relu(self.conv1(F.pad(images, (0, 3, 0, 3))))  # (N, 96, 55, 55)
        x = self.pool1(self.norm1(x))  # (N, 96, 27, 27)
        x = F.relu(self.conv2(x))  # (N, 256, 27, 27)
        x = self.pool2(self.norm2(x))  # (N, 256, 13, 13)
        x = F.relu(self.conv3(x))  # (N, 384, 13, 13)
        x = F.relu(self.conv4(x))  # (N, 384, 13, 13)
        x = F.relu(self.conv5(x))  # (N, 256, 13, 13)
        features: torch.Tensor = self.pool5(x)  # (N, 256, 6, 6)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = self.average(features).flatten(1)  # (N, 9216)
        x = self.dropout6(F.relu(self.fc6(x)))  # (N, 4096)
        x = self.dropout7(F.relu(self.fc7(x)))  # (N, 4096)
        logits: torch.Tensor = self.fc8(x)  # (N, num_classes)
        return logits


class AlexNet(Network):
    """AlexNet on one tower: 61,100,840 parameters [Krizhevsky 2014, the network of its experiments]."""

    num_features = 256

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2)
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(64, 192, kernel_size=5, padding=2)
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(192, 384, kernel_size=3, padding=1)
        self.conv4 = nn.Conv2d(384, 256, kernel_size=3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, kernel_size=3, padding=1)
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.average = nn.AdaptiveAvgPool2d(6)
        self.dropout6 = nn.Dropout(dropout)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.dropout7 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes)
        initialise(self)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images, 63)
        x = F.relu(self.conv1(images))  # (N, 64, 55, 55)
        x = self.pool1(x)  # (N, 64, 27, 27)
        x = F.relu(self.conv2(x))  # (N, 192, 27, 27)
        x = self.pool2(x)  # (N, 192, 13, 13)
        x = F.relu(self.conv3(x))  # (N, 384, 13, 13)
        x = F.relu(self.conv4(x))  # (N, 256, 13, 13)
        x = F.relu(self.conv5(x))  # (N, 256, 13, 13)
        features: torch.Tensor = self.pool5(x)  # (N, 256, 6, 6)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = self.average(features).flatten(1)  # (N, 9216)
        x = F.relu(self.fc6(self.dropout6(x)))  # (N, 4096)
        x = F.relu(self.fc7(self.dropout7(x)))  # (N, 4096)
        logits: torch.Tensor = self.fc8(x)  # (N, num_classes)
        return logits


def alexnet_2012(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> AlexNet2012:
    """AlexNet of the paper: 60,965,224 parameters."""
    return AlexNet2012(num_classes, in_channels, dropout)


def alexnet(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> AlexNet:
    """AlexNet on one tower: 61,100,840 parameters."""
    return AlexNet(num_classes, in_channels, dropout)
