"""Repeated augmentation: which images an epoch repeats, on which devices they are, and with which draws."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from test_mixing import FOR_FILES, data
from test_mixing import files as files  # a fixture
from test_settings import refused
from test_training import Network, fit, images, recipe

from harness.data.images.image_files import ImageFiles
from harness.data.loading import stateless
from harness.data.loading.loader import Batch
from harness.data.loading.order import Start, TrainOrder
from harness.data.sources.splits import Split
from harness.training.mixing import draw, mix, partner_rows

SPLITS = (1, 2, 3, 7, 8, 37, 100)
AUGMENTED: dict[str, Any] = {"flip": True, "erasing": 0.5, "color_jitter": [0.5, 0.5, 0.5]}


def order(images: int, batch_size: int, rank: int = 0, devices: int = 1, **options: Any) -> TrainOrder:
    return TrainOrder(images, batch_size, seed=5, position=lambda: 0, rank=rank, devices=devices, **options)


def batches(order: TrainOrder, start: int = 0) -> list[list[tuple[int, int]]]:
    """Each image of each batch as (position in the split, number of the repeat)."""
    return [
        [(int(key) % order.images, int(key) // order.images) for key in chosen.keys]
        for chosen in order.chosen(Start(0, start))
    ]


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("split", SPLITS)
def test_an_epoch_holds_as_many_images_as_the_split_and_repeats_the_first_of_its_order(
    split: int, repeats: int, pairs: bool
) -> None:
    whole = [image for batch in batches(order(split, 8, repeats=repeats, pairs=pairs)) for image in batch]
    assert len(whole) == split == len(set(whole))
    times = Counter(index for index, _ in whole)
    assert all(sorted(copy for index, copy in whole if index == image) == [*range(times[image])] for image in times)
    short = [image for image, count in times.items() if count < repeats]
    assert max(times.values()) <= repeats and len(short) <= 1 + pairs
    assert set(times) == set(stateless.order(5, 0, split)[: len(times)].tolist())
    assert len(times) <= (1 + pairs) * -(-split // (repeats * (1 + pairs)))


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("repeats", [1, 3, 4])
def test_each_device_gets_what_rasampler_gives_it(repeats: int, devices: int) -> None:
    """[torchvision, references/classification/sampler.py], without its rounding to 256 images."""
    per_device, split = 16, 1280
    shuffled = stateless.order(5, 0, split).tolist()
    repeated = [image for image in shuffled for _ in range(repeats)]
    for rank in range(devices):
        theirs = repeated[rank : repeats * split : devices][: split // devices]
        mine = batches(order(split, per_device * devices, rank, devices, repeats=repeats))
        assert [image for batch in mine for image, _ in batch] == theirs
        assert {len(batch) for batch in mine} == {per_device}


@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("split", SPLITS[1:])
@pytest.mark.parametrize("batch_size", [2, 3, 7, 8, 24])
def test_no_image_is_mixed_with_itself(batch_size: int, split: int, repeats: int) -> None:
    for devices in (1, 2, 3):
        for rank in range(devices):
            for share in order(split, batch_size, rank, devices, repeats=repeats, pairs=True).chosen(Start(0, 0)):
                partners = partner_rows(len(share.indices), None, torch.device("cpu"))
                alone = partners == torch.arange(len(partners))
                assert alone.sum() <= 1 and (share.indices[partners] != share.indices)[~alone].all()


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("repeats", [2, 3, 4])
def test_a_device_gets_no_image_twice_in_a_batch_if_there_are_enough(repeats: int, pairs: bool) -> None:
    for devices in range(repeats, 9):
        for rank in range(devices):
            for batch in batches(order(240, 48, rank, devices, repeats=repeats, pairs=pairs)):
                assert len({image for image, _ in batch}) == len(batch)
    fewer = repeats - 1
    for rank in range(fewer):
        for batch in batches(order(240, 48, rank, fewer, repeats=repeats, pairs=pairs)):
            assert max(Counter(image for image, _ in batch).values(), default=0) <= -(-repeats // fewer)


@pytest.mark.parametrize("pairs", [False, True])
def test_devices_share_what_one_has_and_a_run_goes_on_in_mid_epoch(pairs: bool) -> None:
    alone = batches(order(37, 8, repeats=3, pairs=pairs))
    for devices in (2, 3, 4):
        shares = [batches(order(37, 8, rank, devices, repeats=3, pairs=pairs)) for rank in range(devices)]
        for number, whole in enumerate(alone):
            assert sorted(whole) == sorted(image for share in shares for image in share[number])
    assert batches(order(37, 8, repeats=3, pairs=pairs), start=2) == alone[2:]


def pixels(split: Split, settings: Any, rank: int = 0, devices: int = 1, workers: int = 0) -> dict[int, torch.Tensor]:
    """The pixels of an epoch by key."""
    found: dict[int, torch.Tensor] = {}
    for batch in data(split, settings, rank, devices, workers).train_dataloader():
        assert batch.keys is not None
        assert torch.equal(batch.keys % len(split), batch.indices) and torch.equal(
            batch.labels, split.labels[batch.indices]
        )
        found.update(zip(batch.keys.tolist(), batch.images, strict=True))
    return found


def test_each_repeat_has_draws_of_its_own_and_the_first_those_of_a_run_without(files: ImageFiles) -> None:
    for split, more in (
        (images(37), {"distortion": [1.0, 0.1, 0.1, 0.1], "auto_augment": "rand_augment", "color_jitter": []}),
        (files, FOR_FILES | {"lighting": 0.1}),
    ):
        settings = recipe(repeats=2, **{**AUGMENTED, **more})
        plain = pixels(split, dataclasses.replace(settings, repeats=1))
        found = pixels(split, settings)
        size = len(split)
        first = {key: image for key, image in found.items() if key < size}
        assert first and all(torch.equal(image, plain[key]) for key, image in first.items())
        second = {key - size: image for key, image in found.items() if key >= size}
        assert second and second.keys() <= first.keys()
        assert sum(torch.equal(image, first[key]) for key, image in second.items()) <= 1
        for devices in (2, 3):
            shares: dict[int, torch.Tensor] = {}
            for rank in range(devices):
                shares |= pixels(split, settings, rank, devices, workers=rank % 2 if split is files else 0)
            assert shares.keys() == found.keys() and all(torch.equal(shares[key], found[key]) for key in found)


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_the_same_images_are_mixed_on_any_number_of_devices(devices: int, files: ImageFiles) -> None:
    def mixed(devices: int, split: Split, settings: Any) -> dict[int, torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        for rank in range(devices):
            for step, share in enumerate(data(split, settings, rank, devices).train_dataloader()):
                assert share.keys is not None
                both = mix(share, draw(settings, 3, 0, step, (6, 6)))
                found.update(zip(share.keys.tolist(), both.images, strict=True))
        return found

    for split, more in ((images(37), {}), (files, FOR_FILES)):
        settings = recipe(repeats=3, mixup=0.5, cutmix=1.0, **more)
        alone, together = mixed(1, split, settings), mixed(devices, split, settings)
        assert alone.keys() == together.keys() and all(torch.equal(together[key], alone[key]) for key in alone)


def test_an_image_that_cannot_be_read_is_missing_as_often_as_it_is_repeated(files: ImageFiles) -> None:
    settings = recipe(repeats=4, batch_size=8, mixup=0.5, **FOR_FILES)
    expected = batches(TrainOrder(19, 8, seed=3, position=lambda: 0, repeats=4, pairs=True))
    bad = {1, 4, 5, 18}
    found: list[Batch] = list(data(files, settings).train_dataloader())
    assert any(image in bad for batch in expected for image, _ in batch), "this test needs one"
    for batch, whole in zip(found, expected, strict=True):
        assert batch.keys is not None
        assert batch.keys.tolist() == [image + copy * 19 for image, copy in whole if image not in bad]
        assert [image for image, _ in batch.unreadable] == [image for image, _ in whole if image in bad]
        if batch.rows is not None:
            assert batch.rows.tolist() == [row for row, (image, _) in enumerate(whole) if image not in bad]


@pytest.mark.parametrize("train", [1, 2, 3, 37])
def test_what_was_seen_is_counted_exactly(train: int, tmp_path: Path) -> None:
    settings = recipe(repeats=4, mixup=0.2 if train > 3 else 0.0)
    history = fit(Network(), tmp_path, settings, train=train).history
    assert [epoch.train.seen for epoch in history] == [train] * 4
    assert [epoch.step for epoch in history] == [-(-train // 8) * number for number in range(1, 5)]


def test_a_head_on_features_repeats_nothing() -> None:
    said = refused("data=digits", "recipe=linear_probe", "recipe.repeats=3", "weights=x")
    assert said is not None and "computes the features of each image once; set them to 1 and 0" in said
    assert "it is called recipe.repeats" in str(refused("recipe.ra_reps=4"))
