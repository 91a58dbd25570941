"""LeNet: convolutional networks for handwritten digits.

Papers:
- LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document Recognition, sections II-B, II-C,
  III-C and Appendix A, for `lenet5_1998`, `lenet5`, `lenet4` and what Fig. 9 says of `lenet1`;
- LeCun et al. 1989, Handwritten Digit Recognition with a Back-Propagation Network, NIPS 2, pages 396-404, Table 1, for
  the layers of `lenet1`.

Input: a grey image in which white paper is -0.1 and black ink is 1.175. It has 32x32 pixels (digits of 28x28 are padded
by two pixels on each side); `lenet1` takes 28x28.

`lenet5_1998` is the paper's network, number by number. This is where the paper leaves a choice, or the zoo differs:
- `forward` returns logits, so that the largest wins as elsewhere. They are minus the outputs of the radial basis
  functions;
- the bitmaps of the ten digits are drawn here, with ink +1 and paper -1. They stay fixed; the paper says "at least
  initially";
- biases start like the weights beside them. The paper speaks of weights only;
- images may have several channels. Each unit of C1 then sees all of them.

`lenet1`: the 1998 paper gives about 2,600 parameters and 100,000 multiply-adds, and no table of the layers. The network
of 1989 agrees (2,578 parameters and 98,442 connections), so its layers and connection table are used. Deviations:
- the weighted sums of the ten output units are the logits. The paper squashes them and compares them with +-1.

`lenet4`: section III-C.8 gives the number of maps of every layer and nothing else. The zoo chooses the rest:
- C3's connection table is ours. Each map sees three maps of S2, since this number comes closest to the paper's 260,000
  connections (262,306). No table gives the paper's 17,000 parameters: the text says that 120 units are fully connected,
  and these alone have 48,120;
- the weighted sums of the ten output units are the logits, as in `lenet1`. The text does not say what they are.

`lenet5`, the form that is taught today, keeps the paper's layers and their sizes. Deviations from the paper:
- C3 sees all six maps of S2 instead of the subsets of Table I: 2,416 parameters instead of 1,516;
- S2 and S4 are plain averages, without the trainable coefficient and bias and without a squashing function;
- the hyperbolic tangent is not scaled, and the initialisation is Glorot's (2010) with zero biases;
- the output is a fully connected layer that gives logits instead of ten radial basis functions.
"""

from __future__ import annotations

from itertools import groupby

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from .network import Network

# Rows are the maps of S2, columns are the maps of C3, and an X is a connection.
# [LeCun 1998, Table I]: every contiguous three, every contiguous four, some discontinuous fours, all six.
LENET5_TABLE = """
    X . . . X X X . . X X X X . X X
    X X . . . X X X . . X X X X . X
    X X X . . . X X X . . X . X X X
    . X X X . . X X X X . . X . X X
    . . X X X . . X X X X . X X . X
    . . . X X X . . X X X X . X X X
"""
# [LeCun 1989, Table 1]: two almost independent halves.
LENET1_TABLE = """
    X X X . X X . . . . . .
    . X X X X X . . . . . .
    . . . . . . X X X . X X
    . . . . . . . X X X X X
"""
# Ours, after the rationale of 1998: every contiguous three, then as many discontinuous threes.
LENET4_TABLE = """
    X . . . . . X X X . . X . X . .
    X X . . . . . X . X . . X . X .
    X X X . . . . . . . X . . X . X
    . X X X . . . . X . . X . . X .
    . . X X X . . . . X . . X . . X
    . . . X X X . . X . X . . X . .
    . . . . X X X . . X . X . . X .
    . . . . . X X X . . X . X . . X
"""

# The codes of the output units, 7x12 pixels each, # = +1 and . = -1 [LeCun 1998, section II-B and Fig. 3].
DIGITS = """
    ..###..  ...#...  ..###..  .#####.  .....#.
    .#...#.  ..##...  .#...#.  #.....#  ....##.
    .#...#.  .#.#...  #.....#  ......#  ...#.#.
    #.....#  ...#...  #.....#  ......#  ...#.#.
    #.....#  ...#...  ......#  .....#.  ..#..#.
    #.....#  ...#...  .....#.  ..###..  .#...#.
    #.....#  ...#...  ....#..  .....#.  .#...#.
    #.....#  ...#...  ...#...  ......#  #....#.
    #.....#  ...#...  ..#....  ......#  #######
    .#...#.  ...#...  .#.....  ......#  .....#.
    .#...#.  ...#...  #......  #.....#  .....#.
    ..###..  .#####.  #######  .#####.  .....#.

    #######  ..####.  #######  ..###..  ..###..
    #......  .#.....  ......#  .#...#.  .#...#.
    #......  #......  ......#  #.....#  #.....#
    #......  #......  .....#.  #.....#  #.....#
    #.####.  #.###..  .....#.  .#...#.  #.....#
    ##....#  ##...#.  ....#..  ..###..  .#...##
    ......#  #.....#  ....#..  .#...#.  ..###.#
    ......#  #.....#  ...#...  #.....#  ......#
    ......#  #.....#  ...#...  #.....#  ......#
    #.....#  #.....#  ..#....  #.....#  ......#
    .#...#.  .#...#.  ..#....  .#...#.  .....#.
    ..###..  ..###..  ..#....  ..###..  .####..
"""


def squash(a: torch.Tensor) -> torch.Tensor:
    """f(a) = 1.7159 tanh(2a/3), so that f(1) = 1 and f(-1) = -1 [LeCun 1998, Appendix A]."""
    return 1.7159 * torch.tanh(2 / 3 * a)


def initialise(fan_in: int, *parameters: torch.Tensor | None) -> None:
    """Draw weights from U(-2.4/F, 2.4/F), where F is the number of inputs of their unit [LeCun 1998, Appendix A]."""
    for parameter in parameters:
        assert parameter is not None
        nn.init.uniform_(parameter, -2.4 / fan_in, 2.4 / fan_in)


class SubSampling(nn.Module):
    """Sum of 2x2 pixels, times a trainable coefficient, plus a trainable bias, for each map [LeCun 1998, layer S2]."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))
        initialise(4, self.coefficient, self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = 4 * F.avg_pool2d(x, 2)  # (N, maps, H / 2, W / 2)
        return total * self.coefficient[:, None, None] + self.bias[:, None, None]

    def extra_repr(self) -> str:
        """The number of maps."""
        return f"maps={self.maps}"


class PartialConvolution(nn.Module):
    """A 5x5 convolution whose maps see different subsets of the input maps [LeCun 1998, layer C3].

    `weight` holds one 5x5 kernel for each X of the table, row by row, and nothing for the dots.

    Args:
        table: rows are input maps, columns are output maps, and X marks a connection. Every row has the same number of
            X.

    Raises:
        ValueError: rows with different numbers of X.
    """

    by_column: torch.Tensor

    def __init__(self, table: str) -> None:
        super().__init__()
        rows = [[column for column, mark in enumerate(row.split()) if mark == "X"] for row in table.strip().split("\n")]
        if len({len(columns) for columns in rows}) != 1:
            raise ValueError("the table of connections must have equally many X in every row")
        columns = [column for row in rows for column in row]  # of each X, row by row
        seen = [columns.count(column) for column in range(max(columns) + 1)]  # input maps that each output map sees
        self.in_maps, self.out_maps = len(rows), len(seen)
        self.runs = [(len(list(run)), count) for count, run in groupby(seen)]  # neighbours that see as many input maps
        self.weight = nn.Parameter(torch.empty(len(columns), 5, 5))
        self.bias = nn.Parameter(torch.empty(self.out_maps))
        self.register_buffer("by_column", torch.tensor(sorted(range(len(columns)), key=columns.__getitem__)))
        with torch.no_grad():
            for kernel, column in zip(self.weight, columns, strict=True):
                initialise(seen[column] * 25, kernel)
            for bias, count in zip(self.bias, seen, strict=True):
                initialise(count * 25, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, self.weight[:, None], groups=self.in_maps)  # (N, connections, H - 4, W - 4)
        x = x.index_select(1, self.by_column)
        parts = torch.split(x, [maps * count for maps, count in self.runs], dim=1)
        sums = [torch.unflatten(parts[i], 1, run).sum(2) for i, run in enumerate(self.runs)]
        return torch.cat(sums, dim=1) + self.bias[:, None, None]  # (N, out_maps, H - 4, W - 4)

    def extra_repr(self) -> str:
        """The numbers of maps, and of the connections between them."""
        return f"in_maps={self.in_maps}, out_maps={self.out_maps}, connections={len(self.weight)}"


def digit_codes() -> list[list[float]]:
    """The drawings of the digits 0 to 9 as ten codes of 84 numbers, row by row from the top."""
    codes = []
    for half in DIGITS.strip().split("\n\n"):
        for bitmap in zip(*(row.split() for row in half.splitlines()), strict=True):
            codes.append([1.0 if pixel == "#" else -1.0 for pixel in "".join(bitmap)])
    return codes


class RadialBasis(nn.Module):
    """Minus the squared Euclidean distance of (N, 84) to the code of each digit, (N, 10) [LeCun 1998, eq. 7]."""

    codes: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.tensor(digit_codes()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        away = x[:, None, :] - self.codes  # (N, 10, 84)
        return -torch.einsum("nkj,nkj->nk", away, away)

    def extra_repr(self) -> str:
        """The numbers of inputs and of codes."""
        return f"in_features={self.codes.shape[1]}, out_features={len(self.codes)}"


@torch.fx.wrap
def check_size(images: torch.Tensor, side: int) -> None:
    """Raise `ValueError` unless the images (N, C, H, W) are squares of this side."""
    height, width = images.shape[-2:]
    if height != side or width != side:
        raise ValueError(f"this LeNet takes images of {side} x {side} pixels, not {height} x {width}")


class LeNet1998(Network):
    """LeNet-5: 60,000 parameters, 340,908 connections [LeCun 1998, Fig. 2 and section II-B]."""

    num_features = 120

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.s2 = SubSampling(6)
        self.c3 = PartialConvolution(LENET5_TABLE)
        self.s4 = SubSampling(16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = RadialBasis()
        initialise(in_channels * 25, self.c1.weight, self.c1.bias)
        initialise(16 * 25, self.c5.weight, self.c5.bias)
        initialise(120, self.f6.weight, self.f6.bias)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images, 32)
        x = squash(self.c1(images))  # (N, 6, 28, 28)
        x = squash(self.s2(x))  # (N, 6, 14, 14)
        x = squash(self.c3(x))  # (N, 16, 10, 10)
        x = squash(self.s4(x))  # (N, 16, 5, 5)
        features: torch.Tensor = squash(self.c5(x))  # (N, 120, 1, 1)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = squash(self.f6(features.flatten(1)))  # (N, 84)
        logits: torch.Tensor = self.output(x)  # (N, 10)
        return logits


class LeNet1(Network):
    """LeNet-1: 2,578 parameters, 98,442 connections [LeCun 1989]. H1 to H4 are called c1 to s4, as in 1998.

    The paper's digits fill 16 x 16 pixels of the 28 x 28, MNIST's fill 20 x 20.
    """

    num_features = 12

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 4, kernel_size=5)
        self.s2 = SubSampling(4)
        self.c3 = PartialConvolution(LENET1_TABLE)
        self.s4 = SubSampling(12)
        self.output = nn.Linear(12 * 4 * 4, num_classes)
        initialise(in_channels * 25, self.c1.weight, self.c1.bias)
        initialise(12 * 4 * 4, self.output.weight, self.output.bias)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images, 28)
        x = squash(self.c1(images))  # (N, 4, 24, 24)
        x = squash(self.s2(x))  # (N, 4, 12, 12)
        x = squash(self.c3(x))  # (N, 12, 8, 8)
        features: torch.Tensor = squash(self.s4(x))  # (N, 12, 4, 4)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(features.flatten(1))  # (N, num_classes)
        return logits


class LeNet4(Network):
    """LeNet-4 as far as it was published [LeCun 1998, section III-C.8]."""

    num_features = 16

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 4, kernel_size=5)
        self.s2 = SubSampling(8)
        self.c3 = PartialConvolution(LENET4_TABLE)
        self.s4 = SubSampling(16)
        self.f5 = nn.Linear(16 * 5 * 5, 120)
        self.output = nn.Linear(120, num_classes)
        initialise(in_channels * 25, self.c1.weight, self.c1.bias)
        initialise(16 * 5 * 5, self.f5.weight, self.f5.bias)
        initialise(120, self.output.weight, self.output.bias)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images, 32)
        x = squash(self.c1(images))  # (N, 4, 28, 28)
        x = x.repeat_interleave(2, dim=1)  # (N, 8, 28, 28): the maps of S2 are connected in pairs to each of C1
        x = squash(self.s2(x))  # (N, 8, 14, 14)
        x = squash(self.c3(x))  # (N, 16, 10, 10)
        features: torch.Tensor = squash(self.s4(x))  # (N, 16, 5, 5)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = squash(self.f5(features.flatten(1)))  # (N, 120)
        logits: torch.Tensor = self.output(x)  # (N, num_classes)
        return logits


class LeNet5(Network):
    """LeNet-5 with average pooling and a linear output [LeCun 1998, Fig. 2]."""

    num_features = 120

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

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        check_size(images, 32)
        x = F.tanh(self.c1(images))  # (N, 6, 28, 28)
        x = self.s2(x)  # (N, 6, 14, 14)
        x = F.tanh(self.c3(x))  # (N, 16, 10, 10)
        x = self.s4(x)  # (N, 16, 5, 5)
        features: torch.Tensor = F.tanh(self.c5(x))  # (N, 120, 1, 1)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = F.tanh(self.f6(features.flatten(1)))  # (N, 84)
        logits: torch.Tensor = self.output(x)  # (N, num_classes)
        return logits


def lenet1(num_classes: int = 10, in_channels: int = 1) -> LeNet1:
    """LeNet-1 in its form of 1989: 2,578 parameters."""
    return LeNet1(num_classes, in_channels)


def lenet4(num_classes: int = 10, in_channels: int = 1) -> LeNet4:
    """LeNet-4 as far as it was published: 50,698 parameters."""
    return LeNet4(num_classes, in_channels)


def lenet5_1998(num_classes: int = 10, in_channels: int = 1) -> LeNet1998:
    """LeNet-5 of the paper: 60,000 parameters. Raises `ValueError` unless `num_classes` is 10."""
    if num_classes != 10:
        raise ValueError(
            f"lenet5_1998 has a drawing for each of the ten digits, so num_classes must be 10, not {num_classes}; "
            "lenet5 takes any number"
        )
    return LeNet1998(in_channels)


def lenet5(num_classes: int = 10, in_channels: int = 1) -> LeNet5:
    """LeNet-5 as it is taught today: 61,706 parameters."""
    return LeNet5(num_classes, in_channels)
