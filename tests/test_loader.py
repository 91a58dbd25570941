"""Order, pixels and counts do not depend on batch size, position, devices or workers (there are none)."""

from __future__ import annotations

import pytest
import torch

from harness.config.facts import Preprocessing
from harness.data.images.image_set import ImageSet
from harness.data.images.pixels import Normalise, crop, flip, pad_to
from harness.data.loading import stateless
from harness.data.loading.loader import EvalLoader, TrainLoader
from harness.data.loading.stateless import Stream

PREPROCESSING = Preprocessing(3, 12, None, None, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
IMAGES = 37


@pytest.fixture
def split() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 10, 10), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(IMAGES) % 5, [f"image/{i}" for i in range(IMAGES)])


def loader(split: ImageSet, batch_size: int = 8, step: int = 0, rank: int = 0, devices: int = 1) -> TrainLoader:
    return TrainLoader(
        split,
        PREPROCESSING,
        batch_size=batch_size,
        crop_padding=2,
        mirror=True,
        seed=5,
        position=lambda: step,
        rank=rank,
        devices=devices,
    )


def by_index(*loaders: TrainLoader) -> dict[int, torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for one in loaders:
        for batch in one:
            for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
                assert index not in found
                found[index] = image
    return found


def test_pixels_equal_a_slow_reference(split: ImageSet) -> None:
    epoch = 1
    found = by_index(loader(split, step=epoch * 5))
    everything = torch.arange(IMAGES)
    y = stateless.integers(5, 5, epoch, Stream.CROP_Y, everything).tolist()
    x = stateless.integers(5, 5, epoch, Stream.CROP_X, everything).tolist()
    mirrored = stateless.integers(2, 5, epoch, Stream.FLIP, everything).tolist()
    assert 0 < sum(mirrored) < IMAGES and len(set(y)) == len(set(x)) == 5
    for index in range(IMAGES):
        canvas = torch.zeros(3, 16, 16)
        canvas[:, 3:13, 3:13] = split.images[index]
        window = canvas[:, y[index] : y[index] + 12, x[index] : x[index] + 12]
        window = window.flip(-1) if mirrored[index] else window
        expected = (window / 255 - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.6, 0.7])[
            :, None, None
        ]
        torch.testing.assert_close(found[index], expected)


@pytest.mark.parametrize("batch_size", [1, 8, 36, 37, 100])
def test_order_and_pixels_do_not_depend_on_batch_size(split: ImageSet, batch_size: int) -> None:
    reference = [(b.indices, b.images) for b in loader(split, batch_size=IMAGES)]
    batches = list(loader(split, batch_size=batch_size))
    assert [b.global_size for b in batches] == [len(b.indices) for b in batches]
    assert torch.equal(torch.cat([b.indices for b in batches]), reference[0][0])
    assert torch.equal(torch.cat([b.images for b in batches]), reference[0][1])
    assert len(batches) == len(loader(split, batch_size=batch_size))


@pytest.mark.parametrize("devices", [2, 3, 6])
def test_devices_share_the_same_batches(split: ImageSet, devices: int) -> None:
    shares = [list(loader(split, rank=rank, devices=devices)) for rank in range(devices)]
    for number, whole in enumerate(loader(split)):
        parts = [share[number] for share in shares]
        assert {part.global_size for part in parts} == {len(whole.indices)}
        assert sorted(i for part in parts for i in part.indices.tolist()) == sorted(whole.indices.tolist())
        at = dict(zip(whole.indices.tolist(), whole.images, strict=True))
        for part in parts:
            for index, image in zip(part.indices.tolist(), part.images, strict=True):
                assert torch.equal(image, at[index])
            assert torch.equal(part.labels, split.labels[part.indices])


def test_more_devices_than_images_in_the_last_batch(split: ImageSet) -> None:
    last = [list(loader(split, batch_size=36, rank=rank, devices=3))[-1] for rank in range(3)]
    assert [len(batch.labels) for batch in last] == [1, 0, 0]
    assert [batch.images.shape[1:] for batch in last] == [(3, 12, 12)] * 3


def test_an_epoch_resumes_in_its_middle(split: ImageSet) -> None:
    whole, rest = list(loader(split, step=5)), list(loader(split, step=8))
    assert len(whole) == 5 and len(rest) == 2
    for first, second in zip(whole[3:], rest, strict=True):
        assert torch.equal(first.indices, second.indices) and torch.equal(first.images, second.images)


def test_epochs_differ_in_order_and_pixels(split: ImageSet) -> None:
    first, second = by_index(loader(split)), by_index(loader(split, step=5))
    assert list(first) != list(second)
    assert any(not torch.equal(first[i], second[i]) for i in range(IMAGES))


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_is_a_function_of_its_number_and_the_seed(split: ImageSet, seed: int, epoch: int) -> None:
    one = loader(split, step=5 * epoch)
    one.order.seed = seed
    assert torch.equal(torch.cat([batch.indices for batch in one]), stateless.order(seed, epoch, IMAGES))
    assert (seed == 5) == all(
        torch.equal(mine.images, other.images) for mine, other in zip(one, loader(split, step=5 * epoch), strict=True)
    )


@pytest.mark.parametrize("devices", [1, 2, 3, 40])
@pytest.mark.parametrize("batch_size", [1, 8, 37, 100])
def test_evaluation_sees_every_image_once(split: ImageSet, devices: int, batch_size: int) -> None:
    seen: list[int] = []
    for rank in range(devices):
        share = EvalLoader(split, PREPROCESSING, batch_size=batch_size, rank=rank, devices=devices)
        batches = list(share)
        assert len(batches) == len(share)
        for batch in batches:
            seen += batch.indices.tolist()
            expected = Normalise(PREPROCESSING, "cpu")(pad_to(split.images[batch.indices], 12))
            assert torch.equal(batch.images, expected)
    assert sorted(seen) == list(range(IMAGES))


def test_padding_is_black_and_centred() -> None:
    image = torch.full((1, 1, 3, 2), 9, dtype=torch.uint8)
    padded = pad_to(image, 6)
    assert padded.sum() == 9 * 6 and torch.equal(padded[0, 0, 1:4, 2:4], image[0, 0])
    assert torch.equal(pad_to(padded, 3)[0, 0], padded[0, 0, 1:4, 1:4])  # only black is cut off
    with pytest.raises(ValueError, match="larger than the input, 2"):
        pad_to(image, 2)


def test_crop_reads_each_window_and_flip_mirrors() -> None:
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    y, x = torch.tensor([0, 2]), torch.tensor([1, 2])
    windows = crop(image, torch.tensor([0, 0]), y, x, 2)
    assert windows.flatten(1).tolist() == [[1, 2, 5, 6], [10, 11, 14, 15]]
    assert flip(windows, torch.tensor([True, False])).flatten(1).tolist() == [[2, 1, 6, 5], [10, 11, 14, 15]]
