"""Training: the schedule, exact counters, what happens when the loss is lost, and several devices."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from conftest import run_script
from torch import nn

from harness import build
from harness.checkpoint import Trained, read_checkpoint
from harness.config import DataConfig, ProtocolConfig, RecipeConfig
from harness.data.module import TrainData
from harness.data.preprocessing import Preprocessing
from harness.data.sources import ImageSet, Splits
from harness.errors import UserError
from harness.processes import Team
from harness.training.classifier import FLUSH_EVERY, Classifier
from harness.training.recorder import Recorder
from harness.training.schedules import learning_rate

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
    limits = {"max_epochs": settings.epochs, "limit_val_batches": 1.0 if validation else 0}
    trainer = build.build_trainer(ALONE, folder, settings.precision, [recorder], **limits)
    trainer.fit(classifier, datamodule=data)
    return classifier


def test_constant_step_and_cosine_schedules() -> None:
    stepped = recipe(schedule="step", milestones=[1, 2.5])
    rates = [learning_rate(stepped, step, 10) for step in (0, 9, 10, 24, 25, 39)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
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
        loader.position = lambda step=step: step  # type: ignore[misc]
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
    history = fit(Network(), tmp_path, recipe(epochs=6, learning_rate=1.0)).history
    ranks = [(-e.validation.correct_top1, e.validation_loss or 0.0, e) for e in history if e.validation]
    best = min(ranks, key=lambda rank: rank[:2])[2]
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
        fit(network, tmp_path, recipe(batch_size=1), train=3 * FLUSH_EVERY)
    assert len(network.dropped) == FLUSH_EVERY


def test_a_checkpoint_may_fall_on_the_step_of_a_look(tmp_path: Path) -> None:
    settings = recipe(batch_size=1, epochs=1)
    classifier = fit(Network(), tmp_path, settings, train=2 * FLUSH_EVERY + 1, checkpoint_every=FLUSH_EVERY)
    assert classifier.history[0].train.seen == 2 * FLUSH_EVERY + 1
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
    """Same order, pixels and counts; updates equal up to floating-point sums; one folder."""
    results, weights = {}, {}
    for trainer in ("cpu", "ddp"):
        done = run_script(
            "train.py", f"trainer={trainer}", "recipe.epochs=2", "recipe.batch_size=251", f"runs={tmp_path / trainer}"
        )
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
