"""Training: the schedule, exact counters, what happens when the loss is lost, and several devices."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import run_script
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn

from harness import build
from harness.config.data import DataConfig
from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import RecipeConfig
from harness.data.images.image_set import ImageSet
from harness.data.loading.loader import Batch, Unreadable
from harness.data.loading.module import TrainData
from harness.data.sources.splits import Splits
from harness.errors import UserError
from harness.run.checkpoint import Trained, read_checkpoint
from harness.run.history import PROGRESS, Counts, Epoch, best_epoch, metrics_csv
from harness.run.processes import Team
from harness.training.classifier import CHECK_EVERY, Classifier
from harness.training.early_stopping import describe_best, is_over
from harness.training.recorder import Recorder
from harness.training.schedules import learning_rate
from harness.training.stuck import stuck

RECIPE = RecipeConfig(
    name="test",
    epochs=4,
    batch_size=8,
    loss="cross_entropy",
    learning_rate=0.1,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    schedule="constant",
    milestones=[],
    gamma=0.1,
    warmup_epochs=0,
    crop_padding=1,
    flip=True,
    precision="32-true",
)
PROTOCOL = ProtocolConfig("whole_image", 7, "32-true")
ALONE = Team("cpu", 1)
NOWHERE = Path("no folder: nothing is written")
PREPROCESSING = Preprocessing(1, 6, None, None, (0.5,), (0.5,))


def recipe(**changes: object) -> RecipeConfig:
    return dataclasses.replace(RECIPE, **changes)  # type: ignore[arg-type]


def images(count: int, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(count) % 3, [str(i) for i in range(count)])


class Network(nn.Module):
    """A linear network with dropout that remembers its inputs."""

    def __init__(self, poison_at: int | None = None) -> None:
        super().__init__()
        self.fc = nn.Linear(36, 3)
        self.dropout = nn.Dropout(0.5)
        self.dropped: list[torch.Tensor] = []
        self.poison_at = poison_at

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.dropped.append(self.dropout(torch.ones(4)))
            if self.poison_at == len(self.dropped):
                x = x * math.nan
        logits: torch.Tensor = self.fc(x.flatten(1))
        return logits


def fit(
    network: nn.Module,
    folder: Path,
    settings: RecipeConfig,
    train: int = 37,
    validation: int = 10,
    checkpoint_every: int = 1000,
) -> Classifier:
    splits = Splits(images(train), images(validation, 1), images(0))
    data = TrainData(splits, PREPROCESSING, settings, PROTOCOL, seed=3, max_batches=None)
    classifier = Classifier(network, settings, data.steps_per_epoch, seed=3)
    trained = Trained("test", {}, ("a", "b", "c"), PREPROCESSING, DataConfig("test", "", False, 0, [0.5], [0.5]), {})
    recorder = Recorder(folder, trained, settings.epochs, checkpoint_every)
    limits: dict[str, Any] = {"max_epochs": settings.epochs, "limit_val_batches": 1.0 if validation else 0}
    trainer = build.build_trainer(ALONE, folder, settings.precision, [recorder], **limits)
    trainer.fit(classifier, datamodule=data)
    return classifier


def test_nothing_is_made_to_measure_what_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's profiler makes a generator for each of 23 calls in a step."""
    monkeypatch.setattr(PassThroughProfiler, "profile", None)
    assert len(fit(Network(), tmp_path, recipe()).history) == recipe().epochs


def test_constant_step_and_cosine_schedules() -> None:
    stepped = recipe(schedule="step", milestones=[1, 2.5])
    rates = [learning_rate(stepped, step, 10) for step in (0, 9, 10, 24, 25, 39)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    halved = recipe(schedule="step", milestones=[1, 2, 3], gamma=0.5, learning_rate=0.8)
    assert [learning_rate(halved, 10 * epoch, 10) for epoch in range(4)] == pytest.approx([0.8, 0.4, 0.2, 0.1])
    cosine = recipe(schedule="cosine")
    assert learning_rate(cosine, 0, 10) == 0.1
    assert learning_rate(cosine, 20, 10) == pytest.approx(0.05)
    assert 0 < learning_rate(cosine, 39, 10) < 0.001
    assert learning_rate(recipe(), 39, 10) == 0.1


def test_warmup_rises_linearly_to_the_full_rate() -> None:
    warm = recipe(schedule="cosine", warmup_epochs=2)
    rates = [learning_rate(warm, step, 10) for step in range(40)]
    assert rates[:20] == pytest.approx([0.1 * (step + 1) / 20 for step in range(20)])
    assert max(rates) == pytest.approx(0.1) and rates[20:] == sorted(rates[20:], reverse=True)


@pytest.mark.parametrize(("warmup", "steps_per_epoch"), [(0, 10), (1, 10), (2, 3), (0.5, 10)])
def test_a_cosine_is_half_a_wave_from_the_warmups_end_to_nothing(warmup: float, steps_per_epoch: int) -> None:
    settings = recipe(schedule="cosine", warmup_epochs=warmup)
    first, end = round(warmup * steps_per_epoch), 4 * steps_per_epoch
    expected = [0.1 * (1 + math.cos(math.pi * (step - first) / (end - first))) / 2 for step in range(first, end)]
    assert [learning_rate(settings, step, steps_per_epoch) for step in range(first, end)] == pytest.approx(expected)
    assert learning_rate(settings, end, steps_per_epoch) == pytest.approx(0.0)


def test_the_optimiser_is_torchs_sgd_with_the_scheduled_rate(tmp_path: Path) -> None:
    """The same steps by hand, on the images that the loader gives."""
    settings = recipe(schedule="step", milestones=[1, 3], weight_decay=0.01, nesterov=True)
    torch.manual_seed(0)
    network = Network()
    by_hand = Network()
    by_hand.load_state_dict(network.state_dict())
    classifier = fit(network, tmp_path, settings)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    data = TrainData(Splits(images(37), images(10), images(0)), PREPROCESSING, settings, PROTOCOL, 3, None)
    data.trainer = build.build_trainer(ALONE, tmp_path, "32-true", [])
    loader = data.train_dataloader()
    losses = []
    for step in range(20):
        loader.order.position = lambda step=step: step  # type: ignore[misc]
        batch = next(iter(loader))
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * 0.1 ** sum(step / 5 >= milestone for milestone in (1, 3))
        loss = nn.functional.cross_entropy(by_hand(batch.images), batch.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()) * len(batch.labels))
    assert torch.equal(network.fc.weight, by_hand.fc.weight)
    assert [epoch.train_loss for epoch in classifier.history] == pytest.approx(
        [sum(losses[e * 5 : e * 5 + 5]) / 37 for e in range(4)]
    )


@pytest.mark.parametrize("validation", [7, 8, 10, 13, 5])
def test_the_validation_loss_is_the_mean_over_images_whatever_the_last_batch_holds(
    validation: int, tmp_path: Path
) -> None:
    """By hand, in one batch; the protocol's hold 7."""
    network = Network()
    (epoch,) = fit(network, tmp_path, recipe(epochs=1), validation=validation).history
    held_out = images(validation, 1)
    pixels = (held_out.images.float() / 255 - 0.5) / 0.5
    losses = F.cross_entropy(network.fc(pixels.flatten(1)), held_out.labels, reduction="none").tolist()
    assert epoch.validation_loss == pytest.approx(sum(losses) / validation, rel=1e-5)
    assert epoch.validation is not None and epoch.validation.seen == validation


def on_device(rank: int, devices: int) -> Classifier:
    """A classifier as it stands on one of several devices, which are not there."""
    classifier = Classifier(Network(), RECIPE, 5, seed=3)
    classifier._trainer = SimpleNamespace(world_size=devices, global_rank=rank)  # type: ignore[assignment]
    classifier.on_train_epoch_start()
    return classifier


@pytest.mark.parametrize("shares", [(8,), (4, 4), (4, 3), (3, 3, 2), (1, 0, 0), (2, 1, 0)])
@pytest.mark.parametrize("unreadable", [0, 1])
def test_the_mean_of_the_devices_losses_is_that_over_the_batch(
    shares: tuple[int, ...], unreadable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that could not be read counts as one without loss."""
    logits, whole = torch.randn(sum(shares), 36), sum(shares) + unreadable
    losses, start = [], 0
    for rank, count in enumerate(shares):
        classifier = on_device(rank, len(shares))
        classifier.network.fc.load_state_dict({"weight": torch.eye(3, 36), "bias": torch.zeros(3)})  # type: ignore[union-attr]
        at = torch.arange(start, start + count)
        bad = tuple(Unreadable(100 + number, "why") for number in range(unreadable if rank == 0 else 0))
        batch = Batch(logits[at].view(-1, 1, 6, 6), at % 3, at, whole, bad)
        monkeypatch.setattr(classifier, "manual_backward", lambda loss: losses.append(float(loss.detach())))
        classifier._add_gradients(batch, 0)
        start += count
    expected = F.cross_entropy(logits[:, :3], torch.arange(sum(shares)) % 3, reduction="sum") / whole
    assert sum(losses) / len(shares) == pytest.approx(float(expected))


def test_random_layers_draw_otherwise_in_each_step_and_on_each_device() -> None:
    seeds = set()
    for rank in range(3):
        for step in range(20):
            on_device(rank, 3)._seed_random_layers(step)
            seeds.add(torch.default_generator.initial_seed())
    assert len(seeds) == 60


def test_the_counters_of_a_checkpoint_go_on_in_one_device_alone() -> None:
    """They are sums over all devices."""
    progress: dict[str, Any] = {"history": [], "losses": torch.arange(5.0), "right": torch.tensor([1, 2, 3])}
    for rank in range(2):
        classifier = on_device(rank, 2)
        classifier.on_load_checkpoint({PROGRESS: progress})
        assert classifier.counters.losses.tolist() == ([0, 1, 2, 3, 4] if rank == 0 else [0] * 5)
        assert classifier.counters.right.tolist() == ([1, 2, 3] if rank == 0 else [0] * 3)


def past(*epochs: tuple[int, float]) -> list[Epoch]:
    """A history of (right answers of 10, loss) on the validation split."""
    none = Counts(0, 0, 10)
    return [Epoch(n, n, 0.1, 1.0, none, loss, Counts(right, 10, 10)) for n, (right, loss) in enumerate(epochs, 1)]


def test_the_best_epoch_has_the_fewest_errors_then_the_smallest_loss_and_comes_first() -> None:
    for history, best in (
        (past((5, 1.0), (7, 3.0), (6, 0.5)), 2),
        (past((5, 1.0), (7, 3.0), (7, 2.0), (7, 2.5)), 3),
        (past((7, 2.0), (7, 2.0)), 1),
        (past((0, 2.0)), 1),
    ):
        found = best_epoch(history)
        assert found is not None and found.epoch == best


def test_patience_is_the_epochs_in_a_row_without_a_better_one() -> None:
    history = past((5, 1.0), (6, 1.0), (6, 1.0), (5, 0.1), (4, 0.1))
    assert [is_over(history[:epochs], 2) for epochs in range(6)] == [False] * 4 + [True] * 2
    assert not is_over(history, None) and not is_over(history, 4) and is_over(history, 3)


def test_every_number_of_an_epoch_stands_in_its_column() -> None:
    epochs = [
        Epoch(1, 5, 0.25, 1.5, Counts(10, 30, 40), 2.5, Counts(1, 4, 10)),
        Epoch(2, 10, 0.125, 0.5, Counts(20, 36, 40), 3.5, Counts(3, 8, 10)),
    ]
    first, second = csv.DictReader(metrics_csv(epochs).splitlines())
    names = ("loss", "images", "top1_error", "top5_error")
    assert {key: float(value) for key, value in first.items()} == {
        **{"epoch": 1, "step": 5, "learning_rate": 0.25},
        **dict(zip([f"train_{name}" for name in names], (1.5, 40, 75, 25), strict=True)),
        **dict(zip([f"validation_{name}" for name in names], (2.5, 10, 90, 60), strict=True)),
    }
    assert (second["train_loss"], second["validation_top1_error"]) == ("0.5", "70.0")
    best = describe_best(epochs)
    assert best is not None and (best["epoch"], best["validation_top1_error"]) == (2, 70.0)
    without = Epoch(1, 5, 0.25, 1.5, Counts(10, 30, 40), None, None)
    assert metrics_csv([without]).endswith("1,5,0.25,1.5,40,75.0,25.0,,,,\n") and describe_best([without]) is None


def test_the_rate_of_an_epoch_is_that_of_its_last_step(tmp_path: Path) -> None:
    settings = recipe(schedule="cosine")
    history = fit(Network(), tmp_path, settings).history
    assert [epoch.learning_rate for epoch in history] == [learning_rate(settings, 5 * n - 1, 5) for n in (1, 2, 3, 4)]


def test_history_counts_every_image(tmp_path: Path) -> None:
    history = fit(Network(), tmp_path, RECIPE).history
    assert [(e.epoch, e.step, e.train.seen) for e in history] == [(k, 5 * k, 37) for k in (1, 2, 3, 4)]
    assert all(e.validation is not None and e.validation.seen == 10 for e in history)
    assert [e.train.correct_top5 for e in history] == [37] * 4  # three classes


def test_without_a_validation_split_nothing_is_validated(tmp_path: Path) -> None:
    history = fit(Network(), tmp_path, RECIPE, validation=0).history
    assert len(history) == 4 and all(epoch.validation is None for epoch in history)
    assert not (tmp_path / "checkpoints" / "best_on_validation.ckpt").exists()
    assert (tmp_path / "curves.png").exists()


def test_the_best_on_validation_is_kept_beside_the_last(tmp_path: Path) -> None:
    torch.manual_seed(0)
    history = fit(Network(), tmp_path, recipe(epochs=6, learning_rate=1.0)).history
    ranks = [(-e.validation.correct_top1, e.validation_loss or 0.0, e) for e in history if e.validation]
    best = min(ranks, key=lambda rank: rank[:2])[2]
    assert best.epoch < 6, "this test needs a run whose last epoch is not its best"
    assert read_checkpoint(tmp_path / "checkpoints" / "best_on_validation.ckpt").epoch == best.epoch
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").epoch == 6


def test_dropout_is_a_function_of_the_step_alone(tmp_path: Path) -> None:
    first, second = Network(), Network()
    fit(first, tmp_path, RECIPE)
    torch.rand(1000)  # whatever was drawn before
    fit(second, tmp_path, recipe(learning_rate=0.01))
    assert torch.equal(torch.stack(first.dropped), torch.stack(second.dropped))
    assert len({tuple(mask.tolist()) for mask in first.dropped}) > 5


@pytest.mark.parametrize("step", [1, 3, 6, 20])
def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_step(tmp_path: Path, step: int) -> None:
    with pytest.raises(
        UserError, match=rf"not a finite number at step {step} \(epoch {(step + 4) // 5}\): try a smaller"
    ):
        fit(Network(poison_at=step), tmp_path, RECIPE)
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    if step <= 5:
        assert not checkpoint.exists()
    else:
        weights = read_checkpoint(checkpoint)
        assert weights.step == (step - 1) // 5 * 5
        assert all(tensor.isfinite().all() for tensor in weights.state_dict.values())


def test_a_long_epoch_is_looked_at_before_its_end(tmp_path: Path) -> None:
    network = Network(poison_at=2)
    with pytest.raises(UserError, match="at step 2 "):
        fit(network, tmp_path, recipe(batch_size=1), train=3 * CHECK_EVERY)
    assert len(network.dropped) == CHECK_EVERY


def test_a_checkpoint_may_fall_on_the_step_of_a_look(tmp_path: Path) -> None:
    settings = recipe(batch_size=1, epochs=1)
    classifier = fit(Network(), tmp_path, settings, train=2 * CHECK_EVERY + 1, checkpoint_every=CHECK_EVERY)
    assert classifier.history[0].train.seen == 2 * CHECK_EVERY + 1
    assert classifier.history[0].train_loss > 0


def test_weights_that_are_not_finite_are_never_checkpointed(tmp_path: Path) -> None:
    class Overflow(Network):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            if self.training and len(self.dropped) == 5:  # the epoch's last step: its loss is finite, its update is not
                logits.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
            return logits

    with pytest.raises(UserError, match="a weight is not a finite number at step 5"):
        fit(Overflow(), tmp_path, RECIPE)
    assert not (tmp_path / "checkpoints").exists()


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """Same order, pixels and counts; updates equal up to floating-point sums, also in parts; one folder."""
    results, weights = {}, {}
    for trainer, more in (("cpu", ()), ("ddp", ("trainer.accumulate=3",))):
        words = (f"trainer={trainer}", "recipe.epochs=2", "recipe.batch_size=251", *more)
        done = run_script("train.py", *words, f"runs={tmp_path / trainer}")
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / trainer / "lenet5-digits").iterdir()
        results[trainer] = json.loads((folder / "result.json").read_text())
        weights[trainer] = read_checkpoint(folder / "checkpoints" / "last.ckpt").state_dict
        assert (folder / "metrics.csv").read_text().splitlines()[-1].startswith("2,12,")
        assert len((folder / "log.txt").read_text().splitlines()) == len(done.stdout.splitlines())
    assert results["ddp"]["seen"] == 360
    for name, tensor in weights["cpu"].items():
        torch.testing.assert_close(weights["ddp"][name], tensor, atol=1e-5, rtol=1e-4)
    assert results["ddp"]["correct_top1"] == results["cpu"]["correct_top1"]


class Constant(nn.Module):
    """A network that has the same scores for every image: its units are dead, only its last bias could learn."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(36, 3)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(0 * x.flatten(1))
        return logits


def test_a_network_that_does_not_learn_is_said_with_the_usual_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="cnn_zoo")
    fit(Constant(), tmp_path, recipe(epochs=11, learning_rate=0.001))
    out = caplog.text
    assert out.count("the loss is still ln 3 = 1.099") == 2  # 5 steps an epoch: the first 45 prove nothing
    assert "try recipe.learning_rate=0.0001 or recipe.warmup_epochs=1" in out
    caplog.clear()
    (tmp_path / "learns").mkdir()
    fit(Network(), tmp_path / "learns", recipe(epochs=11, crop_padding=0, flip=False))
    assert "epoch 11/11" in caplog.text and "not learning" not in caplog.text


@pytest.mark.parametrize(
    ("loss", "right", "step", "changes", "said"),
    [
        (6.9077, 1, 500, {}, True),
        (6.9077, 2, 500, {}, False),
        (6.85, 1, 500, {}, True),
        (6.80, 1, 500, {}, False),
        (6.9077, 1, 49, {}, False),
        (6.9077, 1, 500, {"mixup": 0.2, "label_smoothing": 0.1}, True),
        (6.9077, 1, 500, {"loss": "lecun_map"}, False),
    ],
)
def test_a_loss_near_ln_k_means_that_nothing_is_learnt(
    loss: float, right: int, step: int, changes: dict[str, Any], said: bool
) -> None:
    counts = Counts(right, 5, 1000)
    line = stuck(Epoch(1, step, 0.1, loss, counts, None, None), recipe(**changes), 1000)
    assert (line is not None) == said
