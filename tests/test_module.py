"""The loaders that a run gets are those of its device, seed and recipe, and start where the trainer stands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_finetune import small as small_network
from test_training import PREPROCESSING, PROTOCOL, images, recipe

from harness.data.loading import stateless
from harness.data.loading.module import EvalData, TrainData
from harness.data.sources.splits import Splits
from harness.training.features import FeatureData, Features

SPLITS = Splits(images(37), images(10, 1), images(12, 2))
SETTINGS = recipe(batch_size=8)


def attached(data: Any, rank: int, devices: int, step: int = 0) -> Any:
    """The module of a process among several, which are not there."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=rank, world_size=devices, global_step=step)
    return data


def made(kind: type[TrainData], monkeypatch: pytest.MonkeyPatch) -> TrainData:
    """A module of this kind, of features that are their own position."""

    def features(_: FeatureData, split: Any) -> Features:
        return Features(torch.arange(len(split)).float()[:, None], split.labels, {})

    monkeypatch.setattr(FeatureData, "_features", features)
    return kind(SPLITS, PREPROCESSING, SETTINGS, PROTOCOL, 3, None)


@pytest.mark.parametrize("kind", [TrainData, FeatureData])
@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("step", [0, 3, 5, 9])
def test_devices_share_each_batch_of_an_epoch(
    kind: type[TrainData], devices: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, first = divmod(step, 5)
    order = stateless.order(3, epoch, 37)
    shares = [
        list(attached(made(kind, monkeypatch), rank, devices, step).train_dataloader()) for rank in range(devices)
    ]
    assert {len(share) for share in shares} == {5 - first}
    for number in range(first, 5):
        whole = order[8 * number : 8 * number + 8]
        parts = [share[number - first] for share in shares]
        assert {part.global_size for part in parts} == {len(whole)}
        for rank, part in enumerate(parts):
            assert part.indices.tolist() == whole[rank::devices].tolist()
            assert part.labels.tolist() == SPLITS.train.labels[part.indices].tolist()


@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("kind", [TrainData, FeatureData])
def test_devices_share_the_validation_split(
    kind: type[TrainData], devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    for rank in range(devices):
        for batch in attached(made(kind, monkeypatch), rank, devices).val_dataloader():
            assert batch.labels.tolist() == SPLITS.validation.labels[batch.indices].tolist()
            assert len(batch.labels) <= PROTOCOL.batch_size
            seen += batch.indices.tolist()
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_devices_share_the_test_split(devices: int) -> None:
    seen: list[int] = []
    for rank in range(devices):
        for batch in attached(EvalData(SPLITS.test, PREPROCESSING, PROTOCOL), rank, devices).test_dataloader():
            seen += batch.indices.tolist()
    assert sorted(seen) == list(range(12))


def test_images_are_augmented_as_the_recipe_says() -> None:
    plain = TrainData(SPLITS, PREPROCESSING, recipe(batch_size=37, crop_padding=0, flip=False), PROTOCOL, 3, None)
    (batch,) = attached(plain, 0, 1).train_dataloader()
    for crop_padding, flip in ((0, True), (1, False), (2, True)):
        settings = recipe(batch_size=37, crop_padding=crop_padding, flip=flip)
        (other,) = attached(TrainData(SPLITS, PREPROCESSING, settings, PROTOCOL, 3, None), 0, 1).train_dataloader()
        same = [torch.equal(one, two) for one, two in zip(batch.images, other.images, strict=True)]
        assert torch.equal(batch.indices, other.indices) and not all(same)
        if crop_padding == 0:
            mirrored = [torch.equal(one.flip(-1), two) for one, two in zip(batch.images, other.images, strict=True)]
            assert all(a != b for a, b in zip(same, mirrored, strict=True)) and 8 < sum(mirrored) < 29


def test_features_of_a_batch_are_those_of_its_images() -> None:
    network = small_network()
    values = torch.randn(9, network.fc.in_features)
    features = Features(values, torch.arange(9) % 3, {4: "why"})
    batch = features.batch(torch.tensor([7, 4, 2]), 3)
    assert torch.equal(batch.images, values[[7, 2]]) and batch.labels.tolist() == [1, 2]
    assert batch.indices.tolist() == [7, 2] and [(u.image, u.reason) for u in batch.unreadable] == [(4, "why")]
