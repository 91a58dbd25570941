"""Dense evaluation: a network sees a whole image, and its fully connected layers become convolutions.

Paper: Simonyan, Zisserman 2014, section 3.2. fc6 of VGG, which takes a feature map of 7x7 positions, is a convolution
of 7x7; fc7 and fc8 are convolutions of 1x1. An image that is larger than the input gives a map of logits, one position
for each window of the last feature map, and their mean over positions is what the network says of the image. AlexNet is
the same with 6x6. In a network that averages its last feature map, all of them ResNets, the layer after the average is
linear: the mean over positions of what it says of each is what it says of their mean, which is the network as it is.

These are windows of the feature map, not crops of the image. At the edge of a crop the convolutions before fc6 see
zeros, and here they see the pixels beside it; so the logits at a position are not those of the crop below it.

No weight is copied or changed, unless the input has another size than the paper's: the average to 7x7 or 6x6 positions
that our networks then make of the feature map becomes a part of the convolution.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from harness.data.loading.loader import Pictures


def dense_logits(network: nn.Module, pictures: Pictures, channels_last: bool) -> torch.Tensor:
    """Return the logits of each image at each scale, upright and mirrored; one row for each of these views.

    Images are seen one by one, because their sizes differ: the logits of one depend on no other.

    Args:
        network: AlexNet, VGG or a ResNet in evaluation mode.
        pictures: n images at S scales.
        channels_last: whether images lie in memory with their channels last.

    Returns:
        float32 (n * S * 2, K).
    """
    window = side_of_features(network, pictures) if _is_fully_connected(network) else None
    layout = torch.channels_last if channels_last else torch.contiguous_format
    rows = []
    for scaled in pictures.scaled:
        for picture in scaled:
            both = torch.stack((picture, picture.flip(-1))).contiguous(memory_format=layout)
            rows.append(_mean_logits(network, both, window))
    return torch.cat(rows)


def _is_fully_connected(network: nn.Module) -> bool:
    return hasattr(network, "fc6")


def _mean_logits(network: Any, images: torch.Tensor, window: int | None) -> torch.Tensor:
    """Logits (N, K) of images (N, C, H, W), the mean over positions."""
    features = network.forward_features(images)
    if window is None:
        logits: torch.Tensor = network.forward_head(features)
        return logits.float()
    return logit_map(network, features, window).float().mean((2, 3))


def logit_map(network: nn.Module, features: torch.Tensor, window: int) -> torch.Tensor:
    """Return the logits of every window of a feature map.

    Args:
        network: AlexNet or VGG, in evaluation mode, in which dropout does nothing.
        features: (N, C, H, W), at least as large as the window.
        window: its side, that of the feature map of an image of the input's size.

    Returns:
        (N, K, H - window + 1, W - window + 1).
    """
    fc6, fc7, fc8 = (_linear(network, name) for name in ("fc6", "fc7", "fc8"))
    x = F.relu(F.conv2d(features, _as_kernel(fc6, network, features.shape[1], window), fc6.bias))
    x = F.relu(F.conv2d(x, fc7.weight[:, :, None, None], fc7.bias))
    return F.conv2d(x, fc8.weight[:, :, None, None], fc8.bias)


def _linear(network: nn.Module, name: str) -> nn.Linear:
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear), "AlexNet and VGG have it"
    return layer


def _as_kernel(fc6: nn.Linear, network: nn.Module, channels: int, window: int) -> torch.Tensor:
    """The weights of fc6 as a convolution (4096, channels, window, window), the network's average in front included."""
    side = int(network.get_submodule("average").output_size)  # type: ignore[arg-type]  # of an AdaptiveAvgPool2d
    weight = fc6.weight.view(-1, channels, side, side)
    if window == side:
        return weight
    cells = torch.eye(window**2, dtype=weight.dtype, device=weight.device).view(-1, 1, window, window)
    shares = F.adaptive_avg_pool2d(cells, side).flatten(1)  # (window^2, side^2), of each position in each average
    return (weight.flatten(2) @ shares.T).view(-1, channels, window, window)


def side_of_features(network: nn.Module, pictures: Pictures) -> int:
    """Return the side of the last feature map of a square image of the input's size. Only shapes are worked out."""
    features = _Features(network)
    shapes = {name: tensor.to("meta") for name, tensor in features.state_dict().items()}
    channels, size = pictures.scaled[0][0].shape[0], pictures.input_size
    return int(functional_call(features, shapes, (torch.empty(1, channels, size, size, device="meta"),)).shape[-1])


class _Features(nn.Module):
    """The part of a network that makes the last feature map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network.forward_features(images)
        return features
