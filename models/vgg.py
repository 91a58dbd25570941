"""VGG: depth out of 3x3 convolutions.

Paper: Simonyan, Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556,
sections 2 and 3. Input: a colour image of 224x224 pixels less the training images' mean colour.

This is where the networks differ from the paper, or where the paper leaves a choice:
- initialisation: the paper draws from N(0, variance 0.01). It copies four convolutions and the fully connected layers
  of a trained A into the deeper networks, and notes that the procedure of Glorot and Bengio (2010) needs no such copy.
  Training overflows at that variance, so A and A-LRN start from N(0, 0.01^2) and the deeper ones by Glorot and Bengio;
- A-LRN normalises the rectified output of conv1_1 by the formula of Krizhevsky 2012, which does not divide alpha by n;
- dropout doubles the units that it keeps. The paper's dropout halves every output at test time instead;
- the networks accept images of other sizes (at least 32 pixels), since pool5 is averaged to 7x7. At 224 pixels the
  average changes nothing. At other sizes timm's VGG is another function: it convolves fc6 to fc8 with the whole map and
  averages the logits, as the paper's dense evaluation averages the scores; `harness/evaluation/dense.py` does that;
- the networks whose names end in `_bn` normalise each convolution's batch before its rectifier. The paper has no such
  network.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from .network import Network, builder

# Each column is a stage, which ends in a 2x2 maximum. 3 stands for a 3x3 convolution, 1 for a 1x1 convolution and LRN
# for response normalisation [Simonyan 2014, Table 1].
# fmt: off
CONFIGURATIONS = {
    # channels:    64       128    256        512        512
    "A":         ("3",     "3",   "3 3",     "3 3",     "3 3"),
    "A-LRN":     ("3 LRN", "3",   "3 3",     "3 3",     "3 3"),
    "B":         ("3 3",   "3 3", "3 3",     "3 3",     "3 3"),
    "C":         ("3 3",   "3 3", "3 3 1",   "3 3 1",   "3 3 1"),
    "D":         ("3 3",   "3 3", "3 3 3",   "3 3 3",   "3 3 3"),
    "E":         ("3 3",   "3 3", "3 3 3 3", "3 3 3 3", "3 3 3 3"),
}
# fmt: on


class ResponseNorm(nn.Module):
    """b_i = a_i / (2 + 1e-4 sum_j a_j^2)^0.75, with j from i - 2 to i + 2 [Krizhevsky 2012, section 3.3]."""

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        squares = (0.01 * a).square()  # scaled first, since squares of half precision overflow at 256
        squares = F.pad(squares, (0, 0, 0, 0, 2, 2))  # (N, C + 4, H, W)
        total = reduce(torch.add, (squares.narrow(1, first, a.shape[1]) for first in range(5)))
        return a * (2 + total) ** -0.75  # (N, C, H, W)

    def extra_repr(self) -> str:
        """The constants of the formula."""
        return "k=2, n=5, alpha=1e-4, beta=0.75"


@torch.fx.wrap
def check_size(images: torch.Tensor) -> None:
    """Raise `ValueError` if the images (N, C, H, W) leave nothing to pool5. Tracers do not look inside."""
    height, width = images.shape[-2:]
    if height < 32 or width < 32:
        raise ValueError(f"VGG needs images of at least 32 pixels a side, not {height} x {width}")


class VGG(Network):
    """Convolutions `conv1_1` to `conv5_4`, pooling `pool1` to `pool5`, fully connected `fc6` to `fc8`.

    torchvision's feature extractor takes the end of such a name for its own count. It calls the nodes of conv1_1 and
    conv1_2 conv1 and conv1_1. A forward hook on the attribute has no such surprise.

    Args:
        configuration: a key of `CONFIGURATIONS`.
        num_classes: length of the logits.
        in_channels: channels of the images.
        dropout: probability of dropping a unit of fc6 and of fc7.
    """

    batch_norm = False  # whether `bn1_1`, ... follow the convolutions
    num_features = 512

    def __init__(self, configuration: str, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        column1, column2, column3, column4, column5 = CONFIGURATIONS[configuration]
        self.stage1 = self._stage(1, column1, in_channels, 64)
        self.stage2 = self._stage(2, column2, 64, 128)
        self.stage3 = self._stage(3, column3, 128, 256)
        self.stage4 = self._stage(4, column4, 256, 512)
        self.stage5 = self._stage(5, column5, 512, 512)
        self.average = nn.AdaptiveAvgPool2d(7)
        self.fc6 = nn.Linear(512 * 7 * 7, 4096)
        self.dropout6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.dropout7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(4096, num_classes)
        self._initialise(shallow=configuration in ("A", "A-LRN"))

    def _stage(self, stage: int, column: str, in_channels: int, channels: int) -> list[str]:
        """Add the layers of a stage to the network: their names, in their order.

        A layer is an attribute of the network and not of a `Sequential`, so that its name is the paper's: `conv1_1`.
        """
        layers: dict[str, nn.Module] = {}
        for position, symbol in enumerate(column.split(), start=1):
            if symbol == "LRN":
                layers[f"norm{stage}"] = ResponseNorm()
                continue
            kernel = int(symbol)
            layers[f"conv{stage}_{position}"] = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)
            if self.batch_norm:
                layers[f"bn{stage}_{position}"] = nn.BatchNorm2d(channels)
            layers[f"relu{stage}_{position}"] = nn.ReLU()
            in_channels = channels
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
        for name, layer in layers.items():
            self.add_module(name, layer)
        return list(layers)

    def _through(self, stage: list[str], x: torch.Tensor) -> torch.Tensor:
        for name in stage:
            x = self.get_submodule(name)(x)
        return x

    def _initialise(self, shallow: bool) -> None:
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                assert layer.bias is not None
                if shallow:
                    nn.init.normal_(layer.weight, std=0.01)
                else:
                    nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images)
        x = self._through(self.stage1, images)  # (N, 64, 112, 112)
        x = self._through(self.stage2, x)  # (N, 128, 56, 56)
        x = self._through(self.stage3, x)  # (N, 256, 28, 28)
        x = self._through(self.stage4, x)  # (N, 512, 14, 14)
        features: torch.Tensor = self._through(self.stage5, x)  # (N, 512, 7, 7)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = self.average(features).flatten(1)  # (N, 25088)
        x = self.dropout6(F.relu(self.fc6(x)))  # (N, 4096)
        x = self.dropout7(F.relu(self.fc7(x)))  # (N, 4096)
        logits: torch.Tensor = self.fc8(x)  # (N, num_classes)
        return logits


class BatchNormVGG(VGG):
    """VGG with a batch norm after each convolution, `bn1_1` to `bn5_4`."""

    batch_norm = True


vgg11 = builder(VGG, "A", "Configuration A: 132,863,336 parameters.")
vgg11_lrn = builder(VGG, "A-LRN", "Configuration A-LRN: 132,863,336 parameters.")
vgg13 = builder(VGG, "B", "Configuration B: 133,047,848 parameters.")
vgg16_c = builder(VGG, "C", "Configuration C: 133,638,952 parameters.")
vgg16 = builder(VGG, "D", "Configuration D: 138,357,544 parameters.")
vgg19 = builder(VGG, "E", "Configuration E: 143,667,240 parameters.")
vgg11_bn = builder(BatchNormVGG, "A", "Configuration A with batch normalisation: 132,868,840 parameters.")
vgg13_bn = builder(BatchNormVGG, "B", "Configuration B with batch normalisation: 133,053,736 parameters.")
vgg16_bn = builder(BatchNormVGG, "D", "Configuration D with batch normalisation: 138,365,992 parameters.")
vgg19_bn = builder(BatchNormVGG, "E", "Configuration E with batch normalisation: 143,678,248 parameters.")
