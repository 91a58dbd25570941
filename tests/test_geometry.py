"""Resizing and crops against torchvision's own transforms, and the workers' pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from harness.data import geometry
from harness.data.decode import decode
from harness.data.file_loader import ten_views
from harness.data.geometry import DRAWS, centre_crop, random_box, random_resized_crop, six_crop
from harness.data.preprocessing import Preprocessing

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


def test_a_random_crop_is_the_window_that_torchvision_would_resize() -> None:
    image, draws = picture(90, 70), np.random.default_rng(0).random(DRAWS)
    top, left, height, width = random_box(70, 90, draws, (0.08, 1), (0.75, 4 / 3))
    expected = transforms.functional.resized_crop(image, top, left, height, width, [32, 32])
    pixels = np.asarray(image)
    found = random_resized_crop(pixels, draws, SMALL, (0.08, 1), (0.75, 4 / 3), "pil")
    assert np.array_equal(found[0], np.asarray(expected))
    assert not np.array_equal(found, random_resized_crop(pixels, draws[::-1], SMALL, (0.08, 1), (0.75, 4 / 3), "pil"))


def test_random_windows_are_spread_like_torchvisions() -> None:
    """Means over 4,000 windows agree within five standard errors, and every window lies inside."""
    torch.manual_seed(0)
    image = torch.empty(1, 70, 90)
    theirs = [transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [0.75, 4 / 3]) for _ in range(4000)]
    draws = np.random.default_rng(0).random((4000, DRAWS))
    ours = [random_box(70, 90, row, (0.08, 1), (0.75, 4 / 3)) for row in draws]
    assert all(t >= 0 and x >= 0 and t + h <= 70 and x + w <= 90 and h > 0 and w > 0 for t, x, h, w in ours)
    a, b = np.array(theirs, dtype=float), np.array(ours, dtype=float)
    for f in (a, b):
        f[:, 2] *= f[:, 3]  # area instead of height, which depends on it
    error = np.sqrt(a.var(0) / 4000 + b.var(0) / 4000)
    assert (np.abs(a.mean(0) - b.mean(0)) < 5 * error).all()


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
