"""LeNet: convolutional networks for handwritten digits.

Paper: LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document Recognition, section II-B.
Input: one grey image of 32x32 pixels; digits of 28x28 are padded by two pixels on each side.

`lenet5`, the form that is taught today, keeps the paper's layers and their sizes. Deviations from the paper:
- C3 sees all six maps of S2 instead of the subsets of Table I: 2,416 parameters instead of 1,516;
- S2 and S4 are plain averages, without the trainable coefficient and bias and without a squashing function;
- the hyperbolic tangent is not scaled, and the initialisation is Glorot's (2010) with zero biases;
- the output is a fully connected layer that gives logits instead of ten radial basis functions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 with average pooling and a linear output [LeCun 1998, Fig. 2]."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, kernel_size=5)
        self.s4 = nn.AvgPool2d(2)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        for layer in (self.c1, self.c3, self.c5, self.f6, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # every layer above was made with a bias

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.tanh(self.c1(images))  # (N, 6, 28, 28)
        x = self.s2(x)  # (N, 6, 14, 14)
        x = F.tanh(self.c3(x))  # (N, 16, 10, 10)
        x = self.s4(x)  # (N, 16, 5, 5)
        x = F.tanh(self.c5(x))  # (N, 120, 1, 1)
        x = F.tanh(self.f6(x.flatten(1)))  # (N, 84)
        logits: torch.Tensor = self.output(x)  # (N, num_classes)
        return logits


def lenet5(num_classes: int = 10, in_channels: int = 1) -> LeNet5:
    """LeNet-5 as it is taught today: 61,706 parameters."""
    return LeNet5(num_classes, in_channels)
