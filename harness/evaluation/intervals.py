"""Confidence interval of an error rate, from the size of the test split."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(errors: float, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of an error rate, in percent [Wilson 1927, JASA 22, p. 209].

    Args:
        errors: number of wrong images; a mean over several runs need not be whole.
        images: number of images.
        confidence: probability that such an interval contains the true rate.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = errors / images
    centre = (rate + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(rate * (1 - rate) / images + z * z / (4 * images * images)) / (1 + z * z / images)
    return 0.0 if errors == 0 else 100 * (centre - half), 100.0 if errors == images else 100 * (centre + half)
