"""What a network makes of one picture: its classes, what they rest on, and the feature maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from harness.errors import UserError
from harness.evaluation.counts import first_classes
from harness.insight.feature_maps import Strongest, strongest_maps
from harness.insight.grad_cam import grad_cam, over_image
from harness.insight.occlusion import occlusion
from harness.insight.progress import Progress
from harness.prediction.predict import NOT_A_NUMBER

MAPS = 8  # shown of each stage


@dataclass(frozen=True)
class Picture:
    """What was found out about one picture.

    Attributes:
        name: of its file.
        image: float32 (C, H, W), normalised.
        classes: the likeliest, as positions in the class names.
        probabilities: of these classes.
        attention: Grad-CAM of these classes, (K, H, W), 0 to 1; None for a network without feature maps.
        falls: of their probabilities under occlusion, (K, H, W).
        maps: the strongest of each stage.
    """

    name: str
    image: torch.Tensor
    classes: list[int]
    probabilities: list[float]
    attention: torch.Tensor | None
    falls: torch.Tensor
    maps: dict[str, Strongest]


def look_at_picture(
    network: nn.Module,
    name: str,
    image: torch.Tensor,
    *,
    top: int,
    stage: str | None,
    window: tuple[int, int],
    progress: Progress,
) -> Picture:
    """Look at a picture.

    Args:
        network: of the zoo, in evaluation mode.
        name: of the picture.
        image: float32 (C, H, W), normalised.
        top: number of classes; all of the network's if it has fewer.
        stage: whose maps Grad-CAM weighs; None for a network without feature maps.
        window: side of the occluding square and its step, in pixels.
        progress: advances by each occluded image.

    Raises:
        UserError: scores that are not numbers.
    """
    with torch.no_grad():
        scores = network(image[None]).float()
    (classes,), _ = first_classes(scores, top)
    if (classes < 0).any():
        raise UserError(f"{name}: {NOT_A_NUMBER}; are the weights and the picture as they should be?")
    attention = None
    if stage is not None:
        attention = over_image(grad_cam(network, image[None], classes[None], stage), (image.shape[1], image.shape[2]))
    return Picture(
        name,
        image.cpu(),
        classes.tolist(),
        scores.softmax(1)[0, classes].tolist(),
        None if attention is None else attention[0].cpu(),
        occlusion(network, image, classes, *window, progress).cpu(),
        strongest_maps(network, image, MAPS),
    )
