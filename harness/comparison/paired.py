"""Paired tests: whether two networks differ on the same images by more than chance. No torch."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

Answers = Mapping[int | None, npt.NDArray[np.bool_]]
"""Of a row: whether each image was answered right, bool (N,) in one order for all rows, by the seed of the run."""


@dataclass(frozen=True)
class Paired:
    """McNemar's exact test of two models with the same seed on the same images.

    Attributes:
        first: label of one model.
        second: label of the other model.
        seed: seed of both; None for two pretrained models.
        only_first: number of images that only the first model got right.
        only_second: number of images that only the second model got right.
        p: two-sided probability of counts at least as uneven if both models were equally good.
        p_holm: p corrected by Holm's method for the number of tests in the comparison.
    """

    first: str
    second: str
    seed: int | None
    only_first: int
    only_second: int
    p: float
    p_holm: float


def read_right(predictions: Path) -> tuple[str, npt.NDArray[np.bool_]]:
    """Read a `predictions.csv`.

    Returns:
        A SHA-256 of the images' ids in order, and whether the likeliest class of each was its label, bool (N,); both
        in order of the ids.

    Raises:
        ValueError: the file has other columns.
        OSError: the file cannot be read.
    """
    with predictions.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        image, label, answer = map(columns.index, ("image", "label", "class_1"))
        found = sorted((row[image], row[label] == row[answer]) for row in rows)
    ids = hashlib.sha256("\n".join(id_ for id_, _ in found).encode()).hexdigest()
    return ids, np.fromiter((right for _, right in found), np.bool_, len(found))


def paired_tests(rows: Mapping[str, Answers]) -> list[Paired]:
    """Test every pair of rows, called by their labels, for every seed that both were trained with."""
    found = []
    for first, second in combinations(rows, 2):
        for seed in [seed for seed in rows[first] if seed in rows[second]]:
            one, other = rows[first][seed], rows[second][seed]
            only_first = int(np.count_nonzero(one & ~other))
            found.append((first, second, seed, only_first, int(np.count_nonzero(other & ~one))))
    ps = [mcnemar(only_first, only_second) for *_, only_first, only_second in found]
    return [Paired(*test, p, p_holm) for test, p, p_holm in zip(found, ps, holm(ps), strict=True)]


def mcnemar(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p [McNemar 1947]: each image that only one got right is a fair coin toss."""
    from scipy.stats import binom

    tail = binom.cdf(min(only_first, only_second), only_first + only_second, 0.5)
    return min(1.0, 2 * float(tail))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values with Holm's step-down correction [Holm 1979], in the same order."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected
