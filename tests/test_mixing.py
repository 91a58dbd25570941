"""Mixup and cutmix: equal to torchvision's and timm's, and the same images for any number of devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import lightning as L
import numpy as np
import pytest
import scipy.stats
import timm.data.mixup
import torch
import torch.nn.functional as F
from conftest import run_script
from PIL import Image
from test_finetune import Run
from test_resume_in_process import WithDropout, assert_equal
from test_training import PREPROCESSING, PROTOCOL, Network, fit, images, recipe
from torchvision.transforms import v2

from harness.config.facts import Preprocessing
from harness.config.recipe import RecipeConfig
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.loading import stateless
from harness.data.loading.loader import Batch
from harness.data.loading.module import TrainData
from harness.data.loading.order import Start, TrainOrder
from harness.data.loading.stateless import Stream
from harness.data.sources.splits import Split, Splits
from harness.evaluation.counts import count_correct
from harness.run.checkpoint import read_checkpoint
from harness.training import classifier as classifiers
from harness.training.classifier import Classifier
from harness.training.mixing import Box, Mixed, Mixture, draw, mix, partner_rows

BOTH = {"mixup": 0.2, "cutmix": 1.0}
DEVICES = (1, 2, 3, 4)


def batch(count: int, size: int = 9) -> Batch:
    generator = torch.Generator().manual_seed(count)
    at = torch.arange(count)
    return Batch(torch.randn(count, 3, size, size, generator=generator), at % 5, at, count)


# ------------------------------------------------------------------------------------------- the same as other programs


@pytest.mark.parametrize("mixture", [Mixture(0.3), Mixture(0.8), Mixture(1 - 12 / 81, Box(2, 5, 0, 4))], ids=str)
def test_a_pair_is_mixed_as_torchvision_mixes_a_batch_of_two(mixture: Mixture) -> None:
    """Its partner is the image before, so that two images are each other's."""
    whole = batch(8)
    mixed = mix(whole, mixture)
    for pair in torch.arange(8).view(4, 2):
        pixels, labels = whole.images[pair], whole.labels[pair]
        known: dict[str, Any] = {"labels": labels, "batch_size": 2}
        if mixture.box is None:
            theirs: Any = v2.MixUp(num_classes=5)
            known["lam"] = mixture.share
        else:
            top, bottom, left, right = mixture.box
            theirs = v2.CutMix(num_classes=5)
            known |= {"box": (left, top, right, bottom), "lam_adjusted": mixture.share}
        torch.testing.assert_close(mixed.images[pair], theirs.transform(pixels, known))
        torch.testing.assert_close(mixed.targets(5)[pair], theirs.transform(labels, known))


@pytest.mark.parametrize("mixture", [Mixture(0.3), Mixture(0.8), Mixture(1 - 12 / 81, Box(2, 5, 0, 4))], ids=str)
def test_a_batch_is_mixed_as_timm_mixes_it(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first image is mixed with the last, its second with the last but one; smoothing lies in the targets."""
    whole, at = batch(8), torch.tensor([0, 2, 4, 6, 7, 5, 3, 1])
    monkeypatch.setattr(np.random, "beta", lambda *_: mixture.share)
    box = mixture.box and (mixture.box.top, mixture.box.bottom, mixture.box.left, mixture.box.right)
    monkeypatch.setattr(timm.data.mixup, "cutmix_bbox_and_lam", lambda *_, **__: (box, mixture.share))
    cuts = float(mixture.box is not None)
    theirs = timm.data.mixup.Mixup(1 - cuts, cuts, label_smoothing=0.1, num_classes=5)  # type: ignore[no-untyped-call]
    pixels, targets = theirs(whole.images[at].clone(), whole.labels[at])
    mixed = mix(whole, mixture)
    torch.testing.assert_close(mixed.images[at], pixels)
    torch.testing.assert_close(0.9 * mixed.targets(5)[at] + 0.1 / 5, targets)


@pytest.mark.parametrize("mixup", [0.0, 0.2])
@pytest.mark.parametrize("size", [(6, 6), (32, 32), (7, 12), (224, 224)])
def test_the_box_and_what_it_leaves_are_torchvisions(
    size: tuple[int, int], mixup: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = 0
    for step in range(300):
        which, share, y, x = stateless.uniform(4, 3, 1, Stream.MIXING, torch.tensor([step]))[0]
        theirs = v2.CutMix(alpha=0.7, num_classes=5)
        area = torch.tensor(scipy.stats.beta(0.7, 0.7).ppf(share))
        theirs._dist = SimpleNamespace(sample=lambda _, area=area: area)
        centre = iter([(x * size[1]).long().view(1), (y * size[0]).long().view(1)])
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randint", lambda *_, centre=centre, **__: next(centre))
            expected = theirs.make_params([torch.empty(2, 3, *size)])
        drawn = draw(recipe(mixup=mixup, cutmix=0.7), 3, 1, step, size)
        assert (drawn.box is None) == (bool(mixup) and which >= 0.5)
        if drawn.box is None:
            continue
        top, bottom, left, right = drawn.box
        assert (left, top, right, bottom) == expected["box"]
        assert drawn.share == pytest.approx(expected["lam_adjusted"])
        cut += drawn.share > float(area) + 0.05
    assert cut > 30, "this test needs boxes that the border cuts off"


# ------------------------------------------------------------------------------------------------------------ the draws


def drawn(settings: RecipeConfig, count: int) -> list[Mixture]:
    return [draw(settings, 1, step // 500, step % 500, (1000, 1000)) for step in range(count)]


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_shares_of_mixup_follow_the_beta_distribution(alpha: float) -> None:
    shares = [mixture.share for mixture in drawn(recipe(mixup=alpha), 20_000)]
    assert scipy.stats.kstest(shares, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert scipy.stats.kstest(shares, scipy.stats.beta(alpha * 1.1, alpha).cdf).pvalue < 0.01


def test_so_do_shares_of_a_small_parameter_of_which_many_are_rounded_to_1() -> None:
    shares = np.array([mixture.share for mixture in drawn(recipe(mixup=0.1), 20_000)])
    low = shares[shares < 0.5]
    assert scipy.stats.binomtest(len(low), 20_000).pvalue > 0.01
    assert scipy.stats.kstest(low, lambda share: 2 * scipy.stats.beta(0.1, 0.1).cdf(share)).pvalue > 0.01
    nearly = scipy.stats.beta(0.1, 0.1).cdf(1e-3)
    assert scipy.stats.binomtest(int((shares > 1 - 1e-3).sum()), 20_000, nearly).pvalue > 0.01


def test_with_both_half_of_the_batches_get_each() -> None:
    found = drawn(recipe(mixup=0.3, cutmix=2.0), 20_000)
    blended = [mixture.share for mixture in found if mixture.box is None]
    assert scipy.stats.binomtest(len(blended), 20_000).pvalue > 0.01
    assert scipy.stats.kstest(blended, scipy.stats.beta(0.3, 0.3).cdf).pvalue > 0.01
    boxes = [mixture.box for mixture in found if mixture.box is not None]
    middles = [(box.top + box.bottom) / 2 for box in boxes if box.bottom - box.top < 100]
    assert scipy.stats.kstest(middles, scipy.stats.uniform(0, 1000).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 0.01, 100.0])
def test_every_parameter_gives_shares_from_0_to_1(alpha: float) -> None:
    for settings in (recipe(mixup=alpha), recipe(cutmix=alpha)):
        shares = [mixture.share for mixture in drawn(settings, 500)]
        assert all(0 <= share <= 1 for share in shares)
        assert 0.3 < sum(shares) / 500 < 0.7 or settings.cutmix


def test_draws_are_functions_of_seed_epoch_and_step() -> None:
    settings, size = recipe(mixup=0.5), (32, 32)
    found = {(s, e, b): draw(settings, s, e, b, size) for s in range(3) for e in range(3) for b in range(3)}
    assert len({mixture.share for mixture in found.values()}) == 27
    assert all(draw(settings, *key, size) == mixture for key, mixture in reversed(found.items()))
    shares = {draw(recipe(mixup=0.2), 0, 0, 0, (side, side)).share for side in (6, 32, 224)}
    assert len(shares) == 1


def test_draws_are_frozen() -> None:
    """Results can be reproduced only while these do not change."""
    first, second = (draw(recipe(**BOTH), 0, 0, step, (224, 224)) for step in range(2))
    assert first == Mixture(0.703125, Box(0, 133, 0, 112))
    assert second.box is None and second.share == pytest.approx(0.016458914049818234, rel=1e-9)


# ------------------------------------------------------------------------------------ pairs, devices and missing images


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("batch_size", [2, 3, 7, 8, 37, 100])
def test_devices_share_whole_pairs(batch_size: int, devices: int) -> None:
    for step in range(-(-37 // batch_size)):
        whole = stateless.order(5, 0, 37)[step * batch_size :][:batch_size].tolist()
        pairs = [whole[at : at + 2] for at in range(0, len(whole), 2)]
        for rank in range(devices):
            order = TrainOrder(37, batch_size, seed=5, position=lambda: 0, rank=rank, devices=devices, pairs=True)
            chosen = next(order.chosen(Start(0, step)))
            assert chosen.global_size == len(whole)
            assert chosen.indices.tolist() == [image for pair in pairs[rank::devices] for image in pair]


@pytest.mark.parametrize("devices", DEVICES)
def test_without_mixing_devices_take_images_in_turns(devices: int) -> None:
    for rank in range(devices):
        loader = data(images(37), recipe(), rank, devices).train_dataloader()
        whole = stateless.order(3, 0, 37)
        for number, share in enumerate(loader):
            assert share.indices.tolist() == whole[8 * number : 8 * number + 8][rank::devices].tolist()


@pytest.mark.parametrize("rows", [(), (0,), (0, 1), (1, 2), (0, 1, 2, 3, 4), (1, 2, 3, 4, 6, 7, 9, 12)])
def test_a_partner_is_the_other_of_a_pair_if_it_is_there(rows: tuple[int, ...]) -> None:
    expected = [rows.index(row ^ 1) if row ^ 1 in rows else at for at, row in enumerate(rows)]
    found = partner_rows(len(rows), torch.tensor(rows, dtype=torch.int64), torch.device("cpu"))
    assert found.tolist() == expected
    if rows == tuple(range(len(rows))) and rows:
        assert partner_rows(len(rows), None, torch.device("cpu")).tolist() == expected


def data(split: Split, settings: RecipeConfig, rank: int = 0, devices: int = 1, workers: int = 0) -> TrainData:
    """The data of a run as one of several devices, which are not there, has it."""
    preprocessing = PREPROCESSING if not isinstance(split, ImageFiles) else SMALL
    found = TrainData(Splits(split, split, split), preprocessing, settings, PROTOCOL, 3, None, "pil", workers)
    where = SimpleNamespace(root_device=torch.device("cpu"))
    found.trainer = cast(
        L.Trainer, SimpleNamespace(strategy=where, global_step=0, global_rank=rank, world_size=devices)
    )
    return found


SMALL = Preprocessing(3, 16, 18, "bilinear", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
BAD = (1, 4, 5, 18)
FOR_FILES = {"crop_padding": None, "crop_area": [0.08, 1.0], "crop_aspect": [0.75, 4 / 3]}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    """19 images, of which some cannot be read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    folder = tmp_path / "images" / "class"
    folder.mkdir(parents=True)
    for number in range(19):
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
        if number in BAD:
            (folder / f"{number:02d}.png").write_bytes(b"no picture")
    return ImageFiles(index_folder(tmp_path / "images"), np.arange(19), torch.arange(19) % 5, "test")


def mixed_by_image(split: Split, settings: RecipeConfig, devices: int) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """What each image of an epoch becomes, and its target."""
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for rank in range(devices):
        for step, share in enumerate(data(split, settings, rank, devices).train_dataloader()):
            mixed = mix(share, draw(settings, 3, 0, step, (6, 6)))
            for index, pixels, target in zip(share.indices.tolist(), mixed.images, mixed.targets(5), strict=True):
                assert index not in found
                found[index] = pixels, target
    return found


@pytest.mark.parametrize("batch_size", [8, 7, 18])
def test_the_same_images_are_mixed_on_any_number_of_devices(batch_size: int, files: ImageFiles) -> None:
    for split, settings in (
        (images(37), recipe(batch_size=batch_size, **BOTH)),
        (files, recipe(batch_size=batch_size, **BOTH, **FOR_FILES)),
    ):
        alone = mixed_by_image(split, settings, 1)
        assert len(alone) == (37 if split is not files else 19 - len(BAD))
        for devices in DEVICES[1:]:
            together = mixed_by_image(split, settings, devices)
            assert together.keys() == alone.keys()
            for index, (pixels, target) in alone.items():
                assert torch.equal(together[index][0], pixels) and torch.equal(together[index][1], target)


@pytest.mark.parametrize("devices", [1, 3])
def test_an_image_whose_partner_cannot_be_read_stays_as_it_is(files: ImageFiles, devices: int) -> None:
    settings = recipe(batch_size=7, mixup=5.0, **FOR_FILES)
    plain = {
        int(index): pixels
        for share in data(files, settings).train_dataloader()
        for index, pixels in zip(share.indices, share.images, strict=True)
    }
    found, order, alone = mixed_by_image(files, settings, devices), stateless.order(3, 0, 19).tolist(), 0
    for position, index in enumerate(order):
        if index in BAD:
            continue
        batch_of = order[position // 7 * 7 :][:7]
        place = position % 7 ^ 1
        other = batch_of[place] if place < len(batch_of) and batch_of[place] not in BAD else index
        share = draw(settings, 3, 0, position // 7, (6, 6)).share
        torch.testing.assert_close(found[index][0], share * plain[index] + (1 - share) * plain[other])
        if other == index:
            alone += 1
            assert torch.equal(found[index][0], plain[index])
            assert found[index][1].tolist() == F.one_hot(torch.tensor(index % 5), 5).tolist()
    assert alone > 3, "this test needs several images without a partner"


@pytest.mark.parametrize("mixture", [Mixture(0.3), Mixture(1 - 12 / 81, Box(2, 5, 0, 4))], ids=str)
@pytest.mark.parametrize("at", [2, 4, 6])
def test_parts_of_a_share_are_mixed_like_the_whole(mixture: Mixture, at: int) -> None:
    """A step in several parts, each of whole pairs, mixes the same images."""
    whole = batch(7)
    expected = mix(whole, mixture)
    parts = [
        mix(Batch(whole.images[part], whole.labels[part], whole.indices[part], 7), mixture)
        for part in (slice(0, at), slice(at, 7))
    ]
    assert torch.equal(torch.cat([part.images for part in parts]), expected.images)
    assert torch.equal(torch.cat([part.targets(5) for part in parts]), expected.targets(5))


def test_the_batch_of_the_loader_is_not_changed() -> None:
    whole = batch(8)
    before = whole.images.clone()
    for mixture in (Mixture(0.3), Mixture(1 - 12 / 81, Box(2, 5, 0, 4))):
        mix(whole, mixture)
        assert torch.equal(whole.images, before)


# ------------------------------------------------------------------------------------------------------------- training


def by_hand(settings: RecipeConfig, losses: list[float], right: torch.Tensor) -> Network:
    """The network after the same steps with plain loops over images."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    of_run = data(images(37), settings)
    for step in range(20):
        cast(Any, of_run.trainer).global_step = step
        share = next(iter(of_run.train_dataloader()))
        mixture = draw(settings, 3, step // 5, step % 5, (6, 6))
        pixels, targets, main = [], [], []
        for row, image in enumerate(share.images):
            other = row ^ 1 if row ^ 1 < len(share.images) else row
            blend = mixture.share * image + (1 - mixture.share) * share.images[other]
            if mixture.box is not None:
                top, bottom, left, right_side = mixture.box
                blend = image.clone()
                blend[:, top:bottom, left:right_side] = share.images[other][:, top:bottom, left:right_side]
            target = torch.zeros(3)
            target[share.labels[row]] += mixture.share
            target[share.labels[other]] += 1 - mixture.share
            pixels.append(blend)
            targets.append(0.9 * target + 0.1 / 3)
            main.append(int(target.argmax()))
        optimizer.zero_grad()
        logits = network(torch.stack(pixels))
        loss = -(torch.stack(targets) * logits.log_softmax(1)).sum(1).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()) * len(main))
        right += count_correct(logits.detach(), torch.tensor(main))
    return network


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, BOTH], ids=str)
def test_training_mixes_each_batch_and_validation_none(settings: dict[str, float], tmp_path: Path) -> None:
    """The same steps by hand; a mixed image counts as right by the label with the larger share."""
    mixing = recipe(label_smoothing=0.1, **settings)
    torch.manual_seed(0)
    network = Network()
    history = fit(network, tmp_path, mixing).history
    losses: list[float] = []
    right = torch.zeros(3, dtype=torch.int64)
    expected = by_hand(mixing, losses, right)
    torch.testing.assert_close(network.fc.weight, expected.fc.weight, rtol=1e-4, atol=1e-6)
    assert [epoch.train_loss for epoch in history] == pytest.approx(
        [sum(losses[5 * epoch : 5 * epoch + 5]) / 37 for epoch in range(4)], rel=1e-5
    )
    assert sum(epoch.train.correct_top1 for epoch in history) == right[0] and right[2] == 4 * 37
    held_out = images(10, 1)
    pixels = (held_out.images.float() / 255 - 0.5) / 0.5
    loss = F.cross_entropy(expected.fc(pixels.flatten(1)), held_out.labels, label_smoothing=0.1)
    assert history[-1].validation_loss == pytest.approx(float(loss.detach()), rel=1e-4)


def losses_of_devices(settings: RecipeConfig, split: Split, devices: int) -> Iterator[tuple[float, list[int]]]:
    """The mean over devices of each step's loss in the second epoch, and the counts over devices."""
    steps = -(-len(split.labels) // settings.batch_size)
    loaders, ranks = [], []
    torch.manual_seed(0)
    weights = torch.nn.Linear(int(math.prod(next(iter(data(split, settings).train_dataloader())).images.shape[1:])), 5)
    for rank in range(devices):
        one = data(split, settings, rank, devices)
        cast(Any, one.trainer).global_step = steps
        network = torch.nn.Sequential(torch.nn.Flatten(), weights)
        classifier = Classifier(network, settings, steps, seed=3)
        classifier._trainer = one.trainer
        classifier.on_train_epoch_start()
        loaders.append(iter(one.train_dataloader()))
        ranks.append((classifier, one.trainer))
    for step in range(steps):
        losses: list[torch.Tensor] = []
        for loader, (classifier, trainer) in zip(loaders, ranks, strict=True):
            share = next(loader)
            cast(Any, trainer).global_step = steps + step
            with patch.object(classifier, "manual_backward", losses.append):
                classifier._add_gradients(share, step)
        for classifier, _ in ranks:
            classifier.counters._count()
        yield float(sum(losses).detach()) / devices, sum(classifier.counters.right for classifier, _ in ranks).tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("batch_size", [8, 7, 18])
def test_losses_and_counts_do_not_depend_on_the_number_of_devices(
    loss: str, batch_size: int, files: ImageFiles
) -> None:
    for split, more in ((images(37), {}), (files, FOR_FILES)):
        settings = recipe(loss=loss, label_smoothing=0.1, batch_size=batch_size, **BOTH, **more)
        alone = list(losses_of_devices(settings, split, 1))
        for devices in DEVICES[1:]:
            together = list(losses_of_devices(settings, split, devices))
            assert [step for step, _ in together] == pytest.approx([step for step, _ in alone], rel=1e-5)
            assert [counts for _, counts in together] == [counts for _, counts in alone]


def test_without_mixing_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Mixed:
        raise AssertionError("mixed")

    monkeypatch.setattr(classifiers, "mix", refuse)
    monkeypatch.setattr(classifiers, "draw", refuse)
    assert len(fit(Network(), tmp_path, recipe(label_smoothing=0.1)).history) == 4
    with pytest.raises(AssertionError, match="mixed"):
        fit(Network(), tmp_path / "mixed", recipe(mixup=0.2))


@pytest.mark.parametrize("cut_at", [5, 7])
def test_a_run_that_is_cut_off_goes_on_mixing_as_if_it_never_was(cut_at: int, tmp_path: Path) -> None:
    settings = recipe(loss="binary_cross_entropy", label_smoothing=0.1, **BOTH)
    Run(tmp_path / "cut", settings, network=WithDropout(), cut_at=cut_at, checkpoint_every=3)
    whole = Run(tmp_path / "whole", settings, network=WithDropout())
    assert_equal(Run(tmp_path / "cut", settings, network=WithDropout()), whole)


@pytest.mark.slow
def test_two_processes_mix_like_one(tmp_path: Path) -> None:
    weights = {}
    for trainer in ("cpu", "ddp"):
        settings = ("recipe.epochs=2", "recipe.batch_size=251", "recipe.mixup=0.2", "recipe.cutmix=1")
        done = run_script("train.py", f"trainer={trainer}", *settings, f"runs={tmp_path / trainer}")
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / trainer / "lenet5-digits").iterdir()
        weights[trainer] = read_checkpoint(folder / "checkpoints" / "last.ckpt").state_dict
    for name, tensor in weights["cpu"].items():
        torch.testing.assert_close(weights["ddp"][name], tensor, atol=1e-5, rtol=1e-4)
