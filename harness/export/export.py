"""Write a network to a file, read the file back and compare; a file that differs is removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from harness.config.weights import beside
from harness.data.images.decode import Pixels, decode, read
from harness.data.images.folder import printable
from harness.data.images.geometry import centre_crop
from harness.data.images.opening import UnreadableError
from harness.data.images.pixels import Normalise
from harness.errors import UserError
from harness.export.endings import BESIDE, check_out
from harness.export.formats import FORMATS, Runnable
from harness.prediction.network import Loaded
from harness.run.files import atomic, write_text

BATCHES = (1, 3)  # sizes that every file is tried with
PICTURES = 12  # the most of the user's that are compared


class DifferenceError(Exception):
    """The logits of a file differ from the network's; the file was removed."""


class Compared(NamedTuple):
    """How far a file's logits were from the network's on some images.

    Attributes:
        images: which images, and how many, in words.
        largest_difference: the largest difference of a logit, without its sign.
        largest_logit: the largest logit of the network, without its sign.
    """

    images: str
    largest_difference: float
    largest_logit: float


@dataclass(frozen=True)
class Images:
    """Images that a file is tried on: float32 (N, C, H, W), as the network takes them."""

    name: str
    tensor: torch.Tensor


@torch.no_grad()
def export(loaded: Loaded, format_name: str, out: Path, pictures: Sequence[bytes] = ()) -> list[Compared]:
    """Write a network, read the file back in the format's own runtime, compare, and only then put it in its place.

    Args:
        loaded: the network, on the CPU.
        format_name: a key of `FORMATS`.
        out: a new file.
        pictures: paths of real images to compare on; if there are none, scikit-learn's handwritten digits are taken.

    Returns:
        How far the file was from the network, on random and on real images.

    Raises:
        UserError: the file exists, the format cannot hold this network, or no picture can be read.
        DifferenceError: the file's logits differ from the network's; the file was removed.
    """
    wanted = FORMATS[format_name]
    check_out(out, format_name)
    tried = [_random(loaded), _pictures(loaded, pictures) if pictures else _digits(loaded)]
    content = wanted.write(loaded)
    with atomic(out) as file:
        file.write(content)
        file.flush()
        run = wanted.run(Path(file.name), loaded)
        compared = [_compare(loaded, run, images, wanted.tolerance) for images in tried]
        if format_name in BESIDE:
            known = {**json.loads(loaded.trained.described()), "sha256": hashlib.sha256(content).hexdigest()}
            write_text(beside(out), json.dumps(known, ensure_ascii=False) + "\n")
    return compared


def _compare(loaded: Loaded, run: Runnable, images: Images, tolerance: float) -> Compared:
    """Compare on each image alone, and on batches of three; raises `DifferenceError`."""
    difference = largest = 0.0
    for size in BATCHES:
        for batch in torch.split(images.tensor, size):
            expected, logits = loaded.network(batch), run(batch)
            if expected.shape != logits.shape:
                raise DifferenceError(f"logits of shape {tuple(logits.shape)} instead of {tuple(expected.shape)}")
            apart = float((expected - logits).abs().max())
            difference = apart if apart != apart else max(difference, apart)
            largest = max(largest, float(expected.abs().max()))
    if not difference <= tolerance * largest:  # NaN, too
        raise DifferenceError(
            f"on {images.name} its logits are up to {difference:.3g} from the network's, whose largest is "
            f"{largest:.3g}; at most {tolerance:g} of that is allowed: the file was removed"
        )
    return Compared(images.name, difference, largest)


def _random(loaded: Loaded) -> Images:
    expected = loaded.trained.preprocessing
    shape = (max(BATCHES), expected.channels, expected.size, expected.size)
    return Images(f"{shape[0]} random images", torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def _pictures(loaded: Loaded, paths: Sequence[bytes]) -> Images:
    """Read the first of the user's pictures that can be read, as a prediction reads them."""
    found: list[Pixels] = []
    for path in paths:
        if len(found) < PICTURES:
            try:
                found.append(decode(read(path), "fast", as_viewed=True))
            except UnreadableError as error:
                problem = f"{printable(path)}: {error}"
    if not found:
        raise UserError(f"none of the pictures to compare on can be read: {problem}")
    return Images(f"{len(found)} of your pictures", _input(loaded, found))


def _digits(loaded: Loaded) -> Images:
    """Take one of each handwritten digit, 8x8 pixels in 17 greys, and enlarge it three times."""
    from sklearn.datasets import load_digits

    small: npt.NDArray[np.float64] = load_digits().images[:10]  # (10, 8, 8), 0 to 16
    large = np.kron(small * (255 / 16), np.ones((1, 3, 3))).round().astype(np.uint8)  # (10, 24, 24)
    return Images("10 handwritten digits", _input(loaded, [np.repeat(digit[..., None], 3, 2) for digit in large]))


def _input(loaded: Loaded, pictures: Sequence[Pixels]) -> torch.Tensor:
    """Turn pictures, uint8 (h, w, 3), into what the network takes: float32 (N, C, H, W)."""
    expected = loaded.trained.preprocessing
    middles = np.concatenate([centre_crop(pixels, expected, "fast") for pixels in pictures])  # uint8 (N, size, size, 3)
    return Normalise(expected, "cpu")(torch.from_numpy(middles).movedim(-1, 1))
