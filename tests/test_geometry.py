"""Resizing and crops against torchvision's own transforms, and the workers' pixels."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from harness.config.facts import Preprocessing
from harness.data.images import geometry
from harness.data.images.decode import decode
from harness.data.images.geometry import DRAWS, centre_crop, random_box, random_resized_crop, six_crop
from harness.data.loading.file_loader import ten_views

STATISTICS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SMALL = Preprocessing(3, 32, 37, "bilinear", *STATISTICS)
SIZES = [
    (35, 35),
    (36, 34),
    (34, 36),
    (37, 37),
    (64, 48),
    (48, 64),
    (50, 50),
    (37, 90),
    (91, 37),
    (33, 20),
    (200, 41),
    (300, 299),
]


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("decoder", ["pil", "fast"])
def test_the_central_crop_is_torchvisions(size: tuple[int, int], interpolation: str, decoder: str) -> None:
    preprocessing = Preprocessing(3, 32, 37, interpolation, *STATISTICS)
    image = picture(*size)
    expected = transforms.Compose([transforms.Resize(37, InterpolationMode(interpolation)), transforms.CenterCrop(32)])(
        image
    )
    (found,) = centre_crop(np.asarray(image), preprocessing, decoder)
    difference = np.abs(found.astype(int) - np.asarray(expected)).max()
    assert difference == 0 if decoder == "pil" else difference <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("ratio", range(2, 11))
def test_whole_ratios_are_resized_without_pillow(
    ratio: int, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = 255 * np.random.default_rng(ratio).integers(0, 2, (37 * ratio, 37 * ratio, 3), dtype=np.uint8)
    sizes = ((37, 37), interpolation)
    expected = geometry.resize(noise, *sizes, "pil", (37, 37))
    monkeypatch.setattr(Image, "fromarray", lambda *_: pytest.fail("Pillow was asked"))
    found = geometry.resize(noise, *sizes, "fast", (37, 37))
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert found.flags.c_contiguous, "torch took it for channels first, which is slower by half"


def test_ratios_that_often_meet_half_levels_are_left_to_pillow() -> None:
    noise = 255 * np.random.default_rng(0).integers(0, 2, (320, 320, 3), dtype=np.uint8)
    fast, pil = (geometry.resize(noise, (256, 256), "bilinear", decoder, (256, 256)) for decoder in ("fast", "pil"))
    assert np.array_equal(fast, pil)


@pytest.mark.parametrize("size", SIZES)
def test_the_ten_views_are_torchvisions(size: tuple[int, int]) -> None:
    image = picture(*size)
    expected = transforms.Compose([transforms.Resize(37), transforms.TenCrop(32)])(image)
    windows = torch.from_numpy(six_crop(np.asarray(image), SMALL, "pil"))[None].movedim(-1, -3)
    found = ten_views(windows)[0].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found, np.stack([np.asarray(view) for view in expected]))


def test_a_strip_is_resized_only_where_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.asarray(picture(3, 400))
    whole = centre_crop(image, SMALL, "pil")
    monkeypatch.setattr(geometry, "MAX_PIXELS", 1000)
    monkeypatch.setattr(geometry, "resize", lambda *_: pytest.fail("the whole strip was resized"))
    for decoder in ("pil", "fast"):
        assert np.abs(centre_crop(image, SMALL, decoder).astype(int) - whole).max() <= 1
    assert centre_crop(np.asarray(picture(1, 10_000)), SMALL, "fast").shape == (1, 32, 32, 3)
    assert six_crop(np.asarray(picture(10_000, 1)), SMALL, "fast").shape == (6, 32, 32, 3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_random_crop_is_the_window_that_torchvision_would_resize(interpolation: str) -> None:
    preprocessing = dataclasses.replace(SMALL, interpolation=interpolation)
    image, draws = picture(90, 70), np.random.default_rng(0).random(DRAWS)
    top, left, height, width = random_box(70, 90, draws, (0.08, 1), (0.75, 4 / 3))
    box = (top, left, height, width)
    expected = transforms.functional.resized_crop(image, *box, [32, 32], InterpolationMode(interpolation))
    pixels = np.asarray(image)
    found = random_resized_crop(pixels, draws, preprocessing, (0.08, 1), (0.75, 4 / 3), "pil")
    assert np.array_equal(found[0], np.asarray(expected))
    fast = random_resized_crop(pixels, draws, preprocessing, (0.08, 1), (0.75, 4 / 3), "fast")
    assert np.abs(fast.astype(int) - found).max() <= 1
    assert not np.array_equal(
        found, random_resized_crop(pixels, draws[::-1], preprocessing, (0.08, 1), (0.75, 4 / 3), "pil")
    )


WINDOWS = 4000


def windows_of_both(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Random windows by torchvision and by us, (`WINDOWS`, 4): top, left, height, width."""
    torch.manual_seed(0)
    image, get = torch.empty(1, height, width), transforms.RandomResizedCrop.get_params
    theirs = [get(image, list(scale), list(ratio)) for _ in range(WINDOWS)]
    draws = np.random.default_rng(0).random((WINDOWS, DRAWS))
    ours = [random_box(height, width, row, scale, ratio) for row in draws]
    return np.array(theirs, dtype=float), np.array(ours, dtype=float)


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (70, 90, (0.08, 1.0), (3 / 4, 4 / 3)),
        (1700, 1900, (0.08, 1.0), (3 / 4, 4 / 3)),
        (1700, 1900, (0.05, 0.3), (1 / 4, 4.0)),  # few attempts fail: nothing but the draw itself
        (1700, 1900, (0.05, 0.3), (1.0, 3.0)),  # lying pictures alone
        (1000, 3000, (0.5, 1.0), (3 / 4, 4 / 3)),  # all fail, or most
        (40, 30, (0.2, 0.9), (1 / 2, 2.0)),
        (9, 7, (0.3, 0.6), (3 / 4, 4 / 3)),  # a few places for each window: the last row and column count
    ],
)
def test_random_windows_are_spread_like_torchvisions(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    """Kolmogorov-Smirnov: area, aspect, and how much of the image lies above, below, left and right of the window."""
    spread = []
    for boxes in windows_of_both(height, width, scale, ratio):
        top, left, h, w = boxes.T
        bottom, right = height - top - h, width - left - w
        assert min(top.min(), left.min(), bottom.min(), right.min()) >= 0 and min(h.min(), w.min()) > 0
        spread.append(np.stack([h * w, w / h, top, left, bottom, right, top - left, bottom - right]))
    for theirs, ours in zip(*spread, strict=True):
        assert ks_2samp(theirs, ours).pvalue > 0.001


def test_the_draws_of_a_window_are_independent() -> None:
    """Area and aspect, and both places, of windows that always lie inside."""
    _, ours = windows_of_both(1700, 1900, (0.05, 0.2), (1 / 2, 2.0))
    top, left, h, w = ours.T
    parts = np.stack([h * w, np.log(w / h), top / (1700 - h), left / (1900 - w)])
    assert np.abs(np.corrcoef(parts) - np.eye(4)).max() < 4 / WINDOWS**0.5


def test_a_random_window_reaches_every_place() -> None:
    """The first and the last row and column, each as often as those between."""
    places = {(y, x): 0 for y in range(4) for x in range(5)}
    for draws in np.random.default_rng(0).random((8000, DRAWS)):
        top, left, h, w = random_box(8, 9, draws, (25 / 72, 25 / 72), (1.0, 1.0))
        assert (h, w) == (5, 5)
        places[top, left] += 1
    assert max(abs(count - 400) for count in places.values()) < 5 * 400**0.5
    nearly_one = np.full(DRAWS, np.nextafter(1.0, 0.0))
    assert random_box(8, 9, nearly_one, (25 / 72, 25 / 72), (1.0, 1.0)) == (3, 4, 5, 5)
    assert random_box(8, 9, np.zeros(DRAWS), (25 / 72, 25 / 72), (1.0, 1.0)) == (0, 0, 5, 5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 10_000), (10_000, 1), (3, 100)])
def test_where_no_window_fits_the_middle_is_taken(height: int, width: int) -> None:
    expected = transforms.RandomResizedCrop.get_params(torch.empty(1, height, width), [1.0, 1.0], [0.75, 4 / 3])
    assert random_box(height, width, np.full(DRAWS, 0.5), (1, 1), (0.75, 4 / 3)) == tuple(expected)


def test_on_real_pictures_the_fast_decoder_is_one_level_off_at_most() -> None:
    sample = ROOT.parent / "shared" / "data" / "imagenet-sample" / "val"
    if not sample.is_dir():
        pytest.skip("the ImageNet pictures are not at ../shared/data/imagenet-sample")
    preprocessing = Preprocessing(3, 224, 256, "bilinear", *STATISTICS)
    preset = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    furthest = {"fast": 0, "pil": 0}
    for path in sorted(sample.rglob("*.JPEG")):
        content = Path(path).read_bytes()
        expected = np.asarray(preset(Image.open(io.BytesIO(content)).convert("RGB"))).astype(int)
        for decoder in furthest:
            found = centre_crop(decode(content, decoder), preprocessing, decoder)[0]
            furthest[decoder] = max(furthest[decoder], int(np.abs(found - expected).max()))
    assert furthest == {"fast": 1, "pil": 0}
