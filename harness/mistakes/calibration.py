"""How far probabilities can be believed."""

from __future__ import annotations

import torch
from torchmetrics.classification import BinaryCalibrationError

from harness.comparison.answers import Answers
from harness.comparison.errors import BINS


def expected_calibration_error(answers: Answers) -> float | None:
    """Mean distance of the likeliest class's probability from the share that is right, 0 to 1, by torchmetrics.

    Over `BINS` equal bins [Guo 2017, arXiv 1706.04599, equation 3]; of several classes only the likeliest one counts.
    None if there is no answer.
    """
    known = torch.from_numpy(answers.confidence).isfinite()
    if not known.any():
        return None
    sure = torch.from_numpy(answers.confidence)[known].clamp(max=1 - 2**-24)  # torchmetrics gives 1 a bin of its own
    metric = BinaryCalibrationError(n_bins=BINS, norm="l1")
    metric.update(sure, torch.from_numpy(answers.right)[known].long())
    return float(metric.compute())
