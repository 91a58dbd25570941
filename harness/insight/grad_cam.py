"""Grad-CAM: which positions of a convolution's maps raise the score of a class.

Paper: Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra 2017, Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization, arXiv 1610.02391, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from harness.insight.stages import Stage, forward


def default_stage(stages: Sequence[Stage]) -> str | None:
    """Name the last convolution with more than one position; None for a fully connected network.

    The paper takes the last convolution. That of LeNet-5, `c5`, has a single position, and so nothing to show.
    """
    names = [stage.name for stage in stages if stage.name.startswith("c") and stage.height * stage.width > 1]
    return names[-1] if names else None


def grad_cam(network: nn.Module, images: torch.Tensor, classes: torch.Tensor, stage: str) -> torch.Tensor:
    """Weigh each map by the mean gradient of a class's logit, add them, and keep what is positive [eqs. 1 and 2].

    Args:
        network: of the zoo, in evaluation mode.
        images: float32 (N, C, H, W), normalised.
        classes: int64 (N, K), which classes of each image are asked for.
        stage: whose maps are weighed; `default_stage` names one.

    Returns:
        float32 (N, K, height, width) of the stage, zero or positive, on no scale.
    """
    with torch.enable_grad():
        maps, logits = forward(network, images.detach().requires_grad_())
        found = []
        for column in classes.unbind(1):
            score = logits.gather(1, column[:, None]).sum()  # images do not see each other, so each gets its gradient
            (gradient,) = torch.autograd.grad(score, maps[stage], retain_graph=True)
            weights = gradient.mean((2, 3), keepdim=True)  # (N, channels, 1, 1)
            found.append((weights * maps[stage]).sum(1).relu().detach())
    return torch.stack(found, 1)


def over_image(attention: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge maps (N, K, h, w) to the size of the image, bilinear; the largest value of each becomes one."""
    large = F.interpolate(attention, size, mode="bilinear", align_corners=False)
    return large / large.amax((2, 3), keepdim=True).clamp_min(torch.finfo(large.dtype).tiny)
