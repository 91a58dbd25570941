"""The fully connected baseline that convolution is compared with.

Paper: LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document Recognition, section III-C:
"fully connected multilayer" networks, 28x28-300-10 among them. Input: images (N, in_channels, H, W) of any size.

Deviations from the paper:
- rectified linear units instead of the scaled hyperbolic tangent, with He initialisation (He 2015, arXiv 1502.01852);
- logits for softmax and cross-entropy instead of the squared distance to the targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.fx
from torch import nn

from .network import Network


@torch.fx.wrap
def check_size(images: torch.Tensor, values: int) -> None:
    """Raise `ValueError` unless each of the images (N, C, H, W) has so many values. Tracers do not look inside."""
    channels, height, width = images.shape[-3:]
    if channels * height * width != values:
        raise ValueError(f"this mlp takes images of {values} values, not {channels} x {height} x {width}")


class MLP(Network):
    """Fully connected layers `fc1`, `fc2`, ... with rectified linear units between them.

    Args:
        in_features: values of one image, channels x height x width.
        hidden: units of each hidden layer. Without a hidden layer the network is a linear classifier.
        num_classes: length of the logits.

    Raises:
        ValueError: a layer without units, or units that are no list.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        if isinstance(hidden, int):
            raise ValueError(f"hidden of mlp is a list, a number for each layer: [{hidden}], not {hidden}")
        units = [in_features, *hidden, num_classes]
        if min(units) < 1:
            raise ValueError(f"every layer of mlp needs at least one unit, not {'-'.join(map(str, units))}")
        self.in_features = in_features
        self.depth = len(units) - 1
        self.num_features = units[-2]
        for layer in range(self.depth):
            fc = nn.Linear(units[layer], units[layer + 1])
            nn.init.kaiming_normal_(fc.weight, nonlinearity="linear" if layer == self.depth - 1 else "relu")
            nn.init.zeros_(fc.bias)
            self.add_module(f"fc{layer + 1}", fc)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images, self.in_features)
        x = images.flatten(1)  # (N, in_features)
        for layer in range(1, self.depth):
            x = self.get_submodule(f"fc{layer}")(x).relu()  # (N, hidden[layer - 1])
        return x

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.get_submodule(f"fc{self.depth}")(features)  # (N, num_classes)
        return logits


def mlp(num_classes: int = 10, in_channels: int = 1, image_size: int = 28, hidden: Sequence[int] = (300,)) -> MLP:
    """784-300-10 with the defaults: 238,510 parameters [LeCun 1998, Fig. 9]."""
    return MLP(in_channels * image_size**2, hidden, num_classes)
