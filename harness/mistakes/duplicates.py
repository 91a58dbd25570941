"""Pictures that lie in two splits: the same pixels, or nearly the same, also mirrored, re-encoded or of another size.

A picture is made 16 x 16 pixels small, its mean is taken away and its norm made one, so that brightness and contrast
do not matter; two are near where these are within `NEAR` of each other. A copy cut to another frame is not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness.data.sources.splits import Split
from harness.mistakes.pictures import Pixels, pixels_of

SIDE = 16
NEAR = 0.07  # of 0, the same, to 2; no two of the digits are nearer than 0.078, of photographs of imagenette 0.168
FLAT = 1.0  # grey levels: a picture of less deviation is like any other flat one
NEAREST = 5  # pictures of another split that one picture is paired with, at most
MOST = 200_000  # pictures of all splits; of more, the search would take hours

Looks = npt.NDArray[np.float32]


class Pair(NamedTuple):
    """Two pictures of different splits.

    Attributes:
        first: split and position of one.
        second: split and position of the other.
        distance: between them, 0 for the same pixels.
        mirrored: whether one is the other's mirror image.
    """

    first: tuple[str, int]
    second: tuple[str, int]
    distance: float
    mirrored: bool


class Seen(NamedTuple):
    """What is kept of the pictures of a split.

    Attributes:
        looks: float32 (N, SIDE * SIDE * 3), small and normalised; not a number for one that is flat or unreadable.
        digests: SHA-256 of their pixels; empty for one that is unreadable.
    """

    looks: Looks
    digests: list[bytes]


def look(pixels: Pixels) -> Looks:
    """The small and normalised form of pixels (H, W) or (H, W, 3): float32 (SIDE * SIDE * 3,)."""
    small = Image.fromarray(pixels).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    levels = np.asarray(small, dtype=np.float32).ravel()
    if levels.std() < FLAT:
        return np.full_like(levels, np.nan)
    levels = levels - levels.mean()
    normalised: Looks = levels / np.float32(np.linalg.norm(levels))
    return normalised


def see(split: Split, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> Seen:
    """Look at every picture of a split."""
    looks, digests = np.full((len(split), SIDE * SIDE * 3), np.nan, dtype=np.float32), []
    for index in progress(range(len(split))):
        pixels = pixels_of(split, index)
        if pixels is None:
            digests.append(b"")
            continue
        looks[index] = look(pixels)
        digests.append(hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest())
    return Seen(looks, digests)


def across(seen: Mapping[str, Seen]) -> list[Pair]:
    """All pairs of pictures of different splits that are the same or nearly, the nearest first.

    Args:
        seen: by the names of the splits.
    """
    found: dict[tuple[tuple[str, int], tuple[str, int]], Pair] = {}
    for one, other in combinations(seen, 2):
        for pair in (
            *_same(one, seen[one], other, seen[other]),
            *_near(one, seen[one].looks, other, seen[other].looks),
        ):
            found.setdefault((pair.first, pair.second), pair)
    return sorted(found.values(), key=lambda pair: (pair.distance, pair.mirrored, pair.first, pair.second))


def _same(one: str, first: Seen, other: str, second: Seen) -> Iterable[Pair]:
    where: dict[bytes, list[int]] = {}
    for index, digest in enumerate(second.digests):
        where.setdefault(digest, []).append(index)
    for index, digest in enumerate(first.digests):
        for copy in where.get(digest, [])[:NEAREST] if digest else []:
            yield Pair((one, index), (other, copy), 0.0, False)


def _near(one: str, first: Looks, other: str, second: Looks) -> Iterable[Pair]:
    from sklearn.neighbors import NearestNeighbors

    known, others = (np.flatnonzero(~np.isnan(looks[:, 0])) for looks in (first, second))
    if not len(known) or not len(others):
        return
    search = NearestNeighbors(n_neighbors=min(NEAREST, len(others)), algorithm="brute").fit(second[others])
    plain = first[known]
    turned = plain.reshape(len(known), SIDE, SIDE, 3)[:, :, ::-1].reshape(plain.shape)
    for mirrored, looks in ((False, plain), (True, np.ascontiguousarray(turned))):
        distances, positions = search.kneighbors(looks)
        for row, column in np.argwhere(distances < NEAR).tolist():
            copy = int(others[positions[row, column]])
            yield Pair((one, int(known[row])), (other, copy), float(distances[row, column]), mirrored)
