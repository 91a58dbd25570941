"""Confidence intervals of an error rate and of a difference of two, from the size of the test split."""

from __future__ import annotations

import math
from collections.abc import Callable
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


def paired_difference(more: int, fewer: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Tango's score interval of the difference of two error rates on the same images, in percent points.

    It stays honest where few images are answered differently, or none [Tango 1998, Statistics in Medicine 17, p. 891].

    Args:
        more: number of images that the second network alone has wrong.
        fewer: number of images that the first network alone has wrong.
        images: number of images that both saw.
        confidence: probability that such an interval contains the true difference, the second's error less the first's.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def score(difference: float) -> float:
        """Deviations between what was counted and this difference, which falls as the difference rises."""
        b = -more - fewer + (2 * images - more + fewer) * difference
        c = -fewer * difference * (1 - difference)
        only_first = (math.sqrt(max(b * b - 8 * images * c, 0.0)) - b) / (4 * images)  # its likeliest probability
        variance = images * (2 * only_first + difference * (1 - difference))
        return (more - fewer - images * difference) / math.sqrt(max(variance, 1e-300))

    observed = (more - fewer) / images
    return 100 * _where(score, z, -1.0, observed), 100 * _where(score, -z, observed, 1.0)


def _where(falling: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a falling function has a value between two places, to 2^-60 of their distance."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > value else (low, middle)
    return (low + high) / 2
