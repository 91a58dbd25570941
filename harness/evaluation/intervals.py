"""How far an error rate can be trusted, given the size of the test split."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(errors: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of an error rate, in percent [Wilson 1927, JASA 22, p. 209]."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = errors / images
    centre = (rate + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(rate * (1 - rate) / images + z * z / (4 * images * images)) / (1 + z * z / images)
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
